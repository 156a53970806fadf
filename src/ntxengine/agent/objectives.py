"""Whether the newest point, or generation, of each VM is as new as its job wants.

What is judged is pure; what is said, is said once.  A VM counts from its newest point of this job: the moment at which
it was frozen.  One that was never captured counts from when the agent saw it first, so that a new VM has as long as any
other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

from ntxengine.agent.jobs import Job, JobVm
from ntxengine.agent.kinds import CAPTURE
from ntxengine.agent.levels import Finding, Level, named
from ntxengine.agent.records import Key, Standing
from ntxengine.schedule.due import CLOCK_TOLERANCE
from ntxengine.units import format_span

log = logging.getLogger(__name__)

FIRST_TIME = datetime(2024, 1, 1, tzinfo=UTC)
"""Before it there was no agent: a clock that says so was not set."""

CRITICAL_TIMES = 2
"""A point this many times as old as it may be is a critical finding."""


AgeOf = Callable[[Key, datetime, datetime], timedelta]
"""How long something of a VM is ago, at a time."""


def _age(_key: Key, since: datetime, now: datetime) -> timedelta:
    return max(timedelta(0), now - since)


class Ages:
    """Tells ages also where the clock was wrong: what cannot be when it says counts from when that was seen first.

    Else the point of a clock that was a year ahead would be new for a year, and a VM of one that began in 1970 known
    for half a century.  Nothing of it is written down: the clock that is wrong may be today's.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wrong: dict[Key, tuple[datetime, float]] = {}

    def age(self, key: Key, since: datetime, now: datetime) -> timedelta:
        """Return how long it is ago."""
        if FIRST_TIME <= since <= now + CLOCK_TOLERANCE:
            self._wrong.pop(key, None)
            return _age(key, since, now)
        known = self._wrong.get(key)
        if known is None or known[0] != since:
            known = self._wrong[key] = since, self._monotonic()
        return timedelta(seconds=self._monotonic() - known[1])


@dataclass(frozen=True)
class Aim:
    """How a VM stands to the objective of its job: `age` is that of its newest point, or how long it has had none."""

    job: str
    vm_id: str
    vm_name: str
    objective: timedelta
    age: timedelta
    has_point: bool
    makes: str = CAPTURE.makes

    @property
    def key(self) -> Key:
        return self.job, self.vm_id

    @property
    def is_kept(self) -> bool:
        return self.age <= self.objective

    def __str__(self) -> str:
        what = f"its newest {self.makes} is" if self.has_point else "it has none, and is known for"
        return f"{self.vm_name!r} ({what} {format_span(self.age)}{' old' if self.has_point else ''})"


def aims(
    now: datetime,
    jobs: Iterable[Job],
    vms: Callable[[str], Sequence[JobVm]],
    standings: Mapping[Key, Standing],
    age_of: AgeOf = _age,
) -> list[Aim]:
    """Return how each VM of the jobs that have an objective stands to it."""
    found = []
    for job in jobs:
        if job.objective is None:
            continue
        for vm in vms(job.name):
            standing = standings.get((job.name, vm.id), Standing())
            since = standing.point_at or standing.succeeded_at or standing.first_seen_at or now
            has_point = (standing.point_at or standing.succeeded_at) is not None
            age = age_of((job.name, vm.id), since, now)
            found.append(Aim(job.name, vm.id, vm.name, job.objective, age, has_point, job.kind.makes))
    return found


def findings(found: Iterable[Aim]) -> list[Finding]:
    """Return a finding for each job some of whose VMs miss the objective, the oldest first."""
    told = []
    for job, of_job in groupby(found, key=lambda aim: aim.job):
        all_of_job = list(of_job)
        missed = sorted((aim for aim in all_of_job if not aim.is_kept), key=lambda aim: -aim.age)
        if not missed:
            continue
        is_critical = any(aim.age > aim.objective * CRITICAL_TIMES for aim in missed)
        text = (
            f"{len(missed)} of {len(all_of_job)} VMs have no {missed[0].makes} of the last"
            f" {format_span(missed[0].objective)}: {named([str(aim) for aim in missed])}"
        )
        told.append(Finding(Level.CRITICAL if is_critical else Level.WARNING, f"job {job}", text))
    return told


class Objectives:
    """Says what is missed, and what is kept again, each once, in a line for each job."""

    def __init__(self) -> None:
        self._missed: set[Key] = set()

    def look(self, found: Sequence[Aim]) -> None:
        """Say what has changed."""
        missed = {aim.key for aim in found if not aim.is_kept}
        for job, of_job in groupby(found, key=lambda aim: aim.job):
            all_of_job = list(of_job)
            new = [str(aim) for aim in all_of_job if aim.key in missed - self._missed]
            over = [repr(aim.vm_name) for aim in all_of_job if aim.key in self._missed - missed]
            objective = format_span(all_of_job[0].objective)
            if new:
                log.warning("job %r: its objective of %s is missed by %s", job, objective, named(new))
            if over:
                log.warning("job %r: its objective of %s is kept again by %s", job, objective, named(over))
        self._missed = missed

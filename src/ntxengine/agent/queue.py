"""Which of what is due begins now, and why each other one waits.  A decision, no I/O.

Order: what a person asked for, then by due time, where each step of priority counts as if a run had been due ten
minutes earlier.  So nothing starves: whatever comes later is behind at last, however important.

What a limit keeps from beginning does not hold up what is behind it, unless it has waited for long: then what it needs
is reserved for it, and it begins when that is free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ntxengine.errors import OptionsError

PRIORITY_STEP = timedelta(minutes=10)
"""What one step of priority is worth in waiting."""

RESERVE_AFTER = timedelta(minutes=30)
"""Who has waited longer than this gets what it needs before those behind it."""


@dataclass(frozen=True)
class Limits:
    """How many runs there may be at a time: in all, and on one cluster, host, storage container or target.

    0 is no limit, but in all, where it is at least one.
    Errors: OptionsError.
    """

    total: int = 4
    per_cluster: int = 0
    per_host: int = 0
    per_container: int = 0
    per_target: int = 0

    def __post_init__(self) -> None:
        if self.total < 1:
            raise OptionsError(f"runs at a time: {self.total}, at least one")
        for kind, most in self.by_kind().items():
            if most < 0:
                raise OptionsError(f"per_{kind} {most}: 0 for no limit, or more")

    def by_kind(self) -> dict[str, int]:
        """Return the limits on one of each kind."""
        return {
            "cluster": self.per_cluster,
            "host": self.per_host,
            "container": self.per_container,
            "target": self.per_target,
        }


@dataclass(frozen=True)
class Needs:
    """What a run uses of what is limited, by the names that people know; "" where that is not known: no limit holds."""

    cluster: str = ""
    host: str = ""
    containers: tuple[str, ...] = ()
    target: str = ""

    def uses(self) -> Iterator[tuple[str, str]]:
        """Yield each kind and name."""
        names = [("cluster", self.cluster), ("host", self.host), ("target", self.target)]
        names += [("container", container) for container in dict.fromkeys(self.containers)]
        return ((kind, name) for kind, name in names if name)


@dataclass(frozen=True)
class Wanted:
    """A run that is due.

    `due` is since when it waits.  `obstacle` is why it may not begin now, whatever is free ("" if it may): it is
    paused, its window is closed, it waits for a retry.  `probes`: names what is held after an error that concerns many
    runs, of which one at a time finds out whether it is over; "" if nothing is.
    """

    job: str
    vm_id: str
    vm_name: str
    due: datetime
    priority: int = 0
    needs: Needs = field(default_factory=Needs)
    is_asked_for: bool = False
    obstacle: str = ""
    probes: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[bool, datetime, str, str]:
        """The smallest one begins first."""
        return not self.is_asked_for, self.due - self.priority * PRIORITY_STEP, self.job, self.vm_id


@dataclass(frozen=True)
class Busy:
    """A run that there is."""

    job: str
    vm_id: str
    needs: Needs = field(default_factory=Needs)
    probes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Waiting:
    """A run that does not begin now, and why, in words for a person."""

    wanted: Wanted
    reason: str


@dataclass(frozen=True)
class Decision:
    """`starts` begin now, in this order; `waits` do not, in the order in which they would."""

    starts: tuple[Wanted, ...]
    waits: tuple[Waiting, ...]


def decide(wanted: Iterable[Wanted], busy: Sequence[Busy], limits: Limits, now: datetime) -> Decision:
    """Return what begins now and what waits.  No VM is in two runs, and no limit is exceeded."""
    places = _Places(busy, limits)
    starts: list[Wanted] = []
    waits: list[Waiting] = []
    for each in sorted(wanted, key=lambda one: one.order):
        reason = each.obstacle or places.missing(each)
        if not reason:
            starts.append(each)
            places.take(each)
            continue
        waits.append(Waiting(each, reason))
        if not each.obstacle and now - each.due > RESERVE_AFTER and not places.runs(each.vm_id):
            places.reserve(each)
    return Decision(tuple(starts), tuple(waits))


class _Places:
    """What is taken, and for whom the rest is reserved."""

    def __init__(self, busy: Sequence[Busy], limits: Limits) -> None:
        self._limits = limits
        self._most = limits.by_kind()
        self._count = 0
        self._jobs_by_vm: dict[str, str] = {}
        self._used: Counter[tuple[str, str]] = Counter()
        self._reserved: Counter[tuple[str, str]] = Counter()
        self._reserved_by: dict[tuple[str, str], str] = {}
        self._probed: set[str] = set()
        for each in busy:
            self._add(each.job, each.vm_id, each.needs, each.probes)

    def runs(self, vm_id: str) -> bool:
        return vm_id in self._jobs_by_vm

    def missing(self, wanted: Wanted) -> str:
        """Return what there is not for it, "" if it can begin."""
        if wanted.vm_id in self._jobs_by_vm:
            return f"VM {wanted.vm_name!r} is in a run of job {self._jobs_by_vm[wanted.vm_id]!r}"
        if self._count >= self._limits.total:
            return f"{self._count} of {self._limits.total} runs at a time"
        for use in wanted.needs.uses():
            kind, name = use
            most, used, reserved = self._most[kind], self._used[use], self._reserved[use]
            if most and used >= most:
                return f"{kind} {name!r} has {used} of {most} runs at a time"
            if most and used + reserved >= most:
                return f"{kind} {name!r} is reserved for VM {self._reserved_by[use]!r}, which has waited for long"
        return next(
            (f"another run finds out whether {each} is over" for each in wanted.probes if each in self._probed), ""
        )

    def take(self, wanted: Wanted) -> None:
        self._add(wanted.job, wanted.vm_id, wanted.needs, wanted.probes)

    def reserve(self, wanted: Wanted) -> None:
        for use in wanted.needs.uses():
            self._reserved[use] += 1
            self._reserved_by[use] = wanted.vm_name

    def _add(self, job: str, vm_id: str, needs: Needs, probes: Iterable[str]) -> None:
        self._count += 1
        self._jobs_by_vm[vm_id] = job
        self._used.update(needs.uses())
        self._probed.update(probes)

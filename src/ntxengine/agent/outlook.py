"""What is due, by VM and job: the schedule, retries and what people asked for, as one answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ntxengine.agent.clock import Clock
from ntxengine.agent.jobs import Job, JobVm
from ntxengine.agent.records import Key, Retry, Standing, Trigger
from ntxengine.agent.state import State
from ntxengine.schedule.due import Outlook, Place, look, places
from ntxengine.schedule.window import is_open, next_opening

SEEN_INTERVAL = timedelta(days=1)
"""A VM is looked at so often at least, also where its next run is months away: who is not seen is forgotten."""


@dataclass(frozen=True)
class Due:
    """A run that is due since `since`; `obstacle` is why it may not begin now."""

    since: datetime
    obstacle: str = ""
    is_asked_for: bool = False


@dataclass(frozen=True)
class Begun:
    """What a run that begins now is: why, for which due time, a retry of what; and how the VM stands from then on."""

    trigger: Trigger
    due: datetime | None
    retry: Retry | None
    standing: Standing


class Outlooks:
    """Looks at each VM of each job when there may be something new, and not every time."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._found: dict[Key, Outlook] = {}
        self._since: dict[Key, datetime] = {}
        self._places: dict[str, tuple[tuple[str, ...], dict[str, Place]]] = {}
        self._wakes: dict[Key, datetime] = {}

    def forget(self) -> None:
        """Look at all of them anew: the clock was set, or the jobs are others."""
        self._found = {key: outlook for key, outlook in self._found.items() if outlook.due is not None}
        self._wakes.clear()

    def keep_jobs(self, jobs: Collection[str]) -> None:
        """Know nothing of other jobs any more."""
        for job in self._places.keys() - set(jobs):
            del self._places[job]
        self._keep(lambda key: key[0] in jobs)

    def _keep(self, is_kept: Callable[[Key], bool]) -> None:
        for known in (self._found, self._since, self._wakes):
            for key in [key for key in known if not is_kept(key)]:
                del known[key]

    def touch(self, key: Key) -> None:
        """Look at one of them anew."""
        self._wakes.pop(key, None)

    def due(
        self, job: Job, vms: Sequence[JobVm], running: Collection[Key], now: datetime
    ) -> Iterator[tuple[JobVm, Due]]:
        """Yield the VMs of a job that a run is due for, other than those that are in one."""
        where = self._places_of(job.name, vms)
        for vm in vms:
            key = (job.name, vm.id)
            if key in running:
                continue
            wakes_at = self._wakes.get(key)
            found = self._found.get(key)
            if found is None or wakes_at is None or now >= wakes_at or not _may_begin(job, found, now):
                found = self._look(job, key, where[vm.id], now)
            due = self._due(job, key, found, now)
            if due is not None:
                yield vm, due

    def _places_of(self, job: str, vms: Sequence[JobVm]) -> dict[str, Place]:
        ids = tuple(vm.id for vm in vms)
        known = self._places.get(job)
        if known is None or known[0] != ids:
            known = self._places[job] = ids, places(job, ids)
            self._keep(lambda key: key[0] != job or key[1] in known[1])
        return known[1]

    def _look(self, job: Job, key: Key, place: Place, now: datetime) -> Outlook:
        standing = self._state.standing(key)
        earlier = self._found.get(key)
        is_known = earlier is not None and earlier.due is not None
        found = look(job.schedule, place, standing.handled, now, is_known=is_known)
        seen_at = standing.seen_at
        if seen_at is None or abs(now - seen_at) > SEEN_INTERVAL:
            seen_at = now
        first_seen_at = standing.first_seen_at or now
        self._state.set_standing(
            key, dataclasses.replace(standing, handled=found.handled, seen_at=seen_at, first_seen_at=first_seen_at)
        )
        self._found[key] = found
        self._wakes[key] = min(found.wakes_at, now + SEEN_INTERVAL)
        if found.due is not None:
            # Since the first that was missed: a later one that takes its place must not cost the VM its turn.
            self._since[key] = job.schedule.next_start(found.handled, place)
        return found

    def _due(self, job: Job, key: Key, found: Outlook, now: datetime) -> Due | None:
        if (asked_at := self._state.asked.get(key)) is not None:
            return Due(asked_at, is_asked_for=True)
        if found.due is not None:
            return Due(self._since[key])
        retry = self._state.standing(key).retry
        if retry is not None:
            return Due(retry.due or retry.since, self._retry_obstacle(job, key, retry, now))
        if found.waits_for_window:
            return Due(now, f"its window opens at {found.wakes_at:%Y-%m-%d %H:%M}Z")
        return None

    def _retry_obstacle(self, job: Job, key: Key, retry: Retry, now: datetime) -> str:
        at = retry.at
        if retry.was_interrupted and retry.attempt > job.retries.attempts:
            more = min(retry.attempt - job.retries.attempts, 30)
            at += min(job.retries.first * 2**more, job.retries.longest)  # the run itself ends the agent, perhaps
        # A clock that was set back must not make a retry wait for a day.
        if at - now > job.retries.longest * 2:
            at = now
        if at > now:
            self._wakes[key] = min(self._wakes.get(key, at), at)
            return f"attempt {retry.attempt} of {job.retries.attempts} begins at {at:%H:%M:%S}Z"
        if not is_open(job.schedule.windows, now, job.schedule.zone):
            opening = next_opening(job.schedule.windows, now, job.schedule.zone)
            self._wakes[key] = min(self._wakes.get(key, opening), opening)
            return f"its window opens at {opening:%Y-%m-%d %H:%M}Z"
        return ""

    def begin(self, key: Key) -> Begun:
        """Return what the run is that begins now, for a VM of which `due` yielded one."""
        standing, found = self._state.standing(key), self._found[key]
        asked, retry = key in self._state.asked, standing.retry
        self.touch(key)
        self._found.pop(key)
        after = dataclasses.replace(standing, handled=found.due or standing.handled, retry=None)
        if asked:
            return Begun(Trigger.PERSON, found.due, None, after)
        if found.due is not None:
            was_interrupted = retry is not None and retry.was_interrupted
            return Begun(Trigger.RESUME if was_interrupted else Trigger.SCHEDULE, found.due, None, after)
        assert retry is not None
        trigger = Trigger.RESUME if retry.was_interrupted else Trigger.RETRY
        return Begun(trigger, retry.due, retry, after)

    def wakes_at(self, now: datetime) -> datetime | None:
        """Return when the next of them has something new, None if nothing is known."""
        later = [each for each in self._wakes.values() if each > now]
        return min(later, default=None)

    def next_starts(self) -> dict[Key, datetime]:
        """Return when each begins next that is not due now."""
        return {key: found.wakes_at for key, found in self._found.items() if found.due is None}


def _may_begin(job: Job, found: Outlook, now: datetime) -> bool:
    """Return whether what is due may still begin: its window may have closed since."""
    return found.due is None or is_open(job.schedule.windows, now, job.schedule.zone)

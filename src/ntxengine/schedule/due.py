"""When a job is due: a rhythm or cron, windows, spreading, jitter, what was missed.  Pure: the time is an argument.

    due time     of the rhythm (`every`, from an anchor, so it never drifts) or of cron, the same for all VMs of the job
    start time   the due time, and what this VM is later for: its place in the spread, and its jitter, which are always
                 the same for the same VM and due time.  It is before the start time that belongs to the next due time
    begin        not before the start time, and only inside a window

Of each VM one due time is kept: the newest that is `handled`.  However many were missed since, one run makes up for
them.  A clock that is set back past `handled` would mean waiting until it is there again: then the due times of the new
time count from now on.  The last hour of summer, which a clock shows twice, and the one in spring that there is not,
are as in the cron of Debian: `30 2 * * *` runs once in each of those nights, `*/15 * * * *` goes on every 15 minutes.

LIMIT: where clocks are set by half an hour (Lord Howe Island), `* 0 * * *` begins half an hour late on such a day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal, get_args

from cronsim import CronSim

from ntxengine.errors import OptionsError
from ntxengine.schedule.rules import check_cron, check_every, check_jitter
from ntxengine.schedule.window import Window, is_open, next_opening

Missed = Literal["once", "skip"]
MISSED_CHOICES: tuple[Missed, ...] = get_args(Missed)

LATE = timedelta(minutes=5)
"""What begins later than this after its start time was missed."""

CLOCK_TOLERANCE = timedelta(minutes=5)
"""A clock that is set back by less is waited for: the due time that was handled does not come a second time."""

_ANCHOR = datetime(2024, 1, 1)  # a Monday, at midnight of the schedule's own time zone
_SECOND = timedelta(seconds=1)
_LONGEST_FOLD = timedelta(hours=4)  # more than any clock was ever set back for the end of summer


@dataclass(frozen=True)
class Schedule:
    """When a job is due: `every`, or `cron` (five fields), read on a clock in `zone`.

    `windows`: a run may begin only inside one of them; always, if there is none.  `jitter` is the most that a start is
    later by, by chance.  `spread`: the VMs of a job with `every` begin one after another over all of it.
    `missed`: `once`, what is late begins late; `skip`, it waits for the next due time.
    Errors: OptionsError.
    """

    every: timedelta | None = None
    cron: str = ""
    zone: tzinfo = UTC
    windows: tuple[Window, ...] = ()
    jitter: timedelta = timedelta(0)
    missed: Missed = "once"
    spread: bool = True
    _is_fixed: bool = field(init=False, default=False, repr=False, compare=False)
    _anchor: datetime = field(init=False, default=_ANCHOR, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_anchor", _utc(_ANCHOR.replace(tzinfo=self.zone)))
        if (self.every is None) == (not self.cron):
            raise OptionsError("a schedule is `every` or `cron`: give one of them")
        if self.missed not in MISSED_CHOICES:
            raise OptionsError(f"missed {self.missed!r}: must be one of {', '.join(MISSED_CHOICES)}")
        check_jitter(self.jitter, self.every)
        if self.every is not None:
            check_every(self.every)
            return
        check_cron(self.cron)
        minute, hour = self.cron.split()[:2]
        # As CronSim sees it: such jobs run at a time of the day, others all day long.
        object.__setattr__(self, "_is_fixed", not minute.startswith("*") and not hour.startswith("*"))

    def due_after(self, when: datetime) -> datetime:
        """Return the first due time after `when`, in UTC."""
        if self.every is not None:
            return self._anchor + ((when - self._anchor) // self.every + 1) * self.every
        # Where a clock is set back, CronSim does not know which of two equal times is meant: begin before both.
        since = when - _LONGEST_FOLD if self._is_fixed else when
        return next(due for each in CronSim(self.cron, since.astimezone(self.zone)) if (due := _utc(each)) > when)

    def due_until(self, when: datetime) -> datetime:
        """Return the last due time that is not after `when`, in UTC."""
        if self.every is not None:
            return self._anchor + ((when - self._anchor) // self.every) * self.every
        since = when + (_LONGEST_FOLD if self._is_fixed else timedelta(minutes=1))
        earlier = CronSim(self.cron, since.astimezone(self.zone), reverse=True)
        return next(due for each in earlier if (due := _utc(each)) <= when)

    def starts_at(self, due: datetime, vm: Place) -> datetime:
        """Return when a VM begins what is due at `due`, windows aside."""
        late = timedelta(0)
        if self.jitter:
            late = min(self.jitter, self.due_after(due) - due) * _chance(f"{vm.key}\0{due.isoformat()}")
        if self.every is not None and self.spread:
            late += (self.every - self.jitter) * vm.share  # jitter is shorter: together less than `every`
        return due + _whole_seconds(late)

    def last_start(self, now: datetime, vm: Place) -> datetime:
        """Return the newest due time whose start time is not after `now`."""
        due = self.due_until(now)
        return due if self.starts_at(due, vm) <= now else self.due_until(due - _SECOND)

    def next_start(self, handled: datetime, vm: Place) -> datetime:
        """Return the start time that follows on `handled`."""
        return self.starts_at(self.due_after(handled), vm)


@dataclass(frozen=True)
class Place:
    """One VM of a job: `key` names both; `share` (0 <= share < 1) is its place among the VMs of the job."""

    key: str
    share: float = 0.0


@dataclass(frozen=True)
class Outlook:
    """What there is to do for a VM of a job.

    `due` is the due time that a run should begin for, None if none.  `handled` is the newest that nothing is left
    to do for, to be kept until the run begins, which handles `due`.  `wakes_at` is when to look again.
    `waits_for_window`: something is due, and no window is open.  `skipped`: a due time was missed, and is given up.
    """

    handled: datetime
    wakes_at: datetime
    due: datetime | None = None
    waits_for_window: bool = False
    skipped: bool = False


def look(schedule: Schedule, vm: Place, handled: datetime | None, now: datetime, *, is_known: bool = False) -> Outlook:
    """Return what there is to do for a VM at `now`.

    `handled` is None for a VM that was never looked at: it waits for its next start time.  `is_known`: that it is due
    was seen in time, and it only waited since: it was not missed.
    """
    last = schedule.last_start(now, vm)
    if handled is None or handled > now + CLOCK_TOLERANCE:
        handled = last
    if last <= handled:
        return Outlook(handled, _opens(schedule, schedule.next_start(handled, vm)))
    following = schedule.next_start(last, vm)
    is_late = now - schedule.starts_at(last, vm) > LATE
    if not is_open(schedule.windows, now, schedule.zone):
        if schedule.missed == "skip":
            return Outlook(last, _opens(schedule, following), skipped=True)
        return Outlook(handled, _opens(schedule, now), waits_for_window=True)
    if schedule.missed == "skip" and is_late and not is_known:
        return Outlook(last, _opens(schedule, following), skipped=True)
    return Outlook(handled, following, due=last)


def places(job: str, vm_ids: Collection[str]) -> dict[str, Place]:
    """Return the places of the VMs of a job: spread evenly, in an order that is the same every time.

    A VM that comes or goes moves each of the others by less than one place.
    """
    keys = {vm_id: f"{job}\0{vm_id}" for vm_id in vm_ids}
    order = sorted(keys, key=lambda vm_id: (_chance(keys[vm_id]), vm_id))
    return {vm_id: Place(keys[vm_id], number / len(order)) for number, vm_id in enumerate(order)}


def _opens(schedule: Schedule, when: datetime) -> datetime:
    return next_opening(schedule.windows, when, schedule.zone)


def _utc(when: datetime) -> datetime:
    return when.astimezone(UTC)


def _chance(text: str) -> float:
    """Return a number in [0, 1) that is always the same for the same text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) / 2**48


def _whole_seconds(time: timedelta) -> timedelta:
    return timedelta(seconds=int(time.total_seconds()))

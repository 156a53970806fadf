"""Which points stay, and why: rules over points, decided without looking at anything but what is given.

    last N                           the newest N points
    hourly, daily, ... yearly N      of each of the newest N hours, days, ... that have points: the newest point
    within D                         what is not older than D before the newest point
    tag T                            what has the tag

Each rule is on its own: a point that one keeps counts for the others, too, and one stays if any rule keeps it.  Hours
to years are those of the calendar in a time zone; weeks are those of ISO 8601, from Monday.  The hour that a clock
shows twice when summer ends is two hours.  What has no points is not counted, so a time without captures costs none,
and a VM that is captured no more keeps what it has: the clock of this machine makes nothing older.

Points are in the order of their ids, which no clock that was set back disturbs; in a calendar, a point is where it was
frozen.

Rules count only points that are whole and trusted: a damaged one must not take the place of a good one.  Those others
stay, and so does what is held, and the newest point that is whole: a policy can never take the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from ntxengine.errors import OptionsError
from ntxengine.repository import Hold, hold_text

MAX_WITHIN = timedelta(days=36525)
"""A hundred years: the calendar goes no further back than it has to."""


@dataclass(frozen=True)
class Candidate:
    """A point that a policy decides about.

    `problem` says why no rule counts it ("damaged"), "" for a point that is whole and trusted.
    """

    point_id: str
    created_at: datetime
    tags: tuple[str, ...] = ()
    hold: Hold | None = None
    problem: str = ""


@dataclass(frozen=True)
class Policy:
    """What is to stay of each VM.  0 and "" mean that a rule was not given.

    `time_zone` is that of the calendar.
    Errors: OptionsError (a negative number; a time of more than MAX_WITHIN; no rule at all).
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: timedelta = timedelta(0)
    tags: tuple[str, ...] = ()
    time_zone: tzinfo = UTC

    def __post_init__(self) -> None:
        for rule, count in (*self.counts.items(), ("within", self.within.total_seconds())):
            if count < 0:
                raise OptionsError(
                    f"--keep-{rule} {count:g}: a rule keeps something: give more than 0, or leave it out"
                )
        if self.within > MAX_WITHIN:
            raise OptionsError(f"--keep-within is at most {duration_text(MAX_WITHIN)}")
        if not (any(self.counts.values()) or self.within or self.tags):
            raise OptionsError(
                "no rule says what is to stay (--keep-last, --keep-daily, ...): nothing is forgotten; points can be "
                "named by their ids"
            )

    @property
    def counts(self) -> dict[str, int]:
        """How much each rule keeps that counts: `last`, and those of the calendar."""
        return {
            "last": self.last,
            "hourly": self.hourly,
            "daily": self.daily,
            "weekly": self.weekly,
            "monthly": self.monthly,
            "yearly": self.yearly,
        }


@dataclass(frozen=True)
class Decision:
    """Why a point stays; it goes if there is no reason."""

    point_id: str
    reasons: tuple[str, ...]

    @property
    def stays(self) -> bool:
        return bool(self.reasons)


def _week(when: datetime) -> str:
    year, week, _ = when.isocalendar()
    return f"{year}-W{week:02d}"


CALENDAR: dict[str, Callable[[datetime], str]] = {
    "hourly": lambda when: when.isoformat(timespec="hours"),
    "daily": lambda when: f"{when:%Y-%m-%d}",
    "weekly": _week,
    "monthly": lambda when: f"{when:%Y-%m}",
    "yearly": lambda when: f"{when:%Y}",
}
"""What each calendar rule calls the hour, day, ... that a local time is in: with the offset from UTC, if an hour."""


def decide(policy: Policy, candidates: Sequence[Candidate], now: datetime) -> list[Decision]:
    """Return for each point of a VM that is not forgotten why it stays, in their order, which is that of their ids.

    `now` decides whether a hold is over, and that no point is of a time to come.
    """
    order = sorted(candidates, key=lambda each: each.point_id)
    newest_first = [each for each in reversed(order) if not each.problem]
    reasons: dict[str, list[str]] = {each.point_id: [] for each in order}
    for point_id, reason in _by_rules(policy, newest_first, now):
        reasons[point_id].append(reason)
    for each in order:
        if each.hold is not None and not each.hold.is_over(now):
            reasons[each.point_id].append(f"held {hold_text(each.hold)}")
        if each.problem:
            reasons[each.point_id].append(f"{each.problem}: no rule counts it")
    if newest_first and not reasons[newest_first[0].point_id]:
        reasons[newest_first[0].point_id].append("the newest whole point of the VM")
    return [Decision(each.point_id, tuple(reasons[each.point_id])) for each in candidates]


def _by_rules(policy: Policy, newest_first: Sequence[Candidate], now: datetime) -> Iterator[tuple[str, str]]:
    """Yield what each rule keeps: a point id, and the reason."""
    for number, each in enumerate(newest_first[: policy.last], 1):
        yield each.point_id, f"last {number} of {policy.last}"
    for rule, name_of in CALENDAR.items():
        yield from _of_calendar(rule, policy.counts[rule], name_of, newest_first, policy.time_zone)
    if policy.within and newest_first:
        # A clock of the cluster that was ahead for one point must not make all others too old.
        since = min(newest_first[0].created_at, now) - policy.within
        for each in newest_first:
            if each.created_at >= since:
                yield each.point_id, f"within {duration_text(policy.within)} of the newest"
    for each in newest_first:
        for tag in sorted(set(policy.tags) & set(each.tags)):
            yield each.point_id, f"tag {tag}"


def _of_calendar(
    rule: str, count: int, name_of: Callable[[datetime], str], newest_first: Sequence[Candidate], zone: tzinfo
) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for each in newest_first:
        name = name_of(each.created_at.astimezone(zone))
        if len(seen) < count and name not in seen:
            seen.add(name)
            yield each.point_id, f"{rule} {name}"


def duration_text(duration: timedelta) -> str:
    """Return a duration as it is written: `2d`, `36h`, `1d12h`."""
    seconds = int(duration.total_seconds())
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, seconds = divmod(seconds, length)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"

"""What a policy keeps, from its definitions alone: for each point and rule one question, asked of all other points.

Nothing of ours is used, and no time zone of Python: the clocks of Berlin are put forward on the last Sunday of March
and back on that of October, at 01:00 UTC; the week of a day is that of its Thursday.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta


@dataclass(frozen=True)
class Event:
    """A point, by when it was frozen."""

    id: str
    at: datetime
    tags: frozenset[str] = frozenset()


def last_sunday(year: int, month: int) -> datetime:
    day = datetime(year, month, 31, 1, tzinfo=UTC)
    while day.weekday() != 6:
        day -= timedelta(days=1)
    return day


def berlin(at: datetime) -> tuple[datetime, int]:
    """Return what clocks show, and by how many hours they are ahead of UTC."""
    is_summer = last_sunday(at.year, 3) <= at < last_sunday(at.year, 10)
    ahead = 2 if is_summer else 1
    return at.replace(tzinfo=None) + timedelta(hours=ahead), ahead


def utc(at: datetime) -> tuple[datetime, int]:
    return at.replace(tzinfo=None), 0


Clock = Callable[[datetime], tuple[datetime, int]]


def hour(at: datetime, clock: Clock) -> object:
    """Hours since the epoch: clocks that are put back show one again, and it is another."""
    return int(at.timestamp()) // 3600


def day(at: datetime, clock: Clock) -> object:
    return clock(at)[0].toordinal()


def week(at: datetime, clock: Clock) -> object:
    """The Thursday that is next to it, in a week from Monday."""
    shown = clock(at)[0].toordinal()
    return shown - (shown - date(2026, 11, 23).toordinal()) % 7 + 3


def month(at: datetime, clock: Clock) -> object:
    shown = clock(at)[0]
    return shown.year * 12 + shown.month


def year(at: datetime, clock: Clock) -> object:
    return clock(at)[0].year


UNITS = {
    rule: functools.cache(unit)  # asked for the same points night after night
    for rule, unit in {"hourly": hour, "daily": day, "weekly": week, "monthly": month, "yearly": year}.items()
}


def keeps(rules: Mapping[str, object], events: Collection[Event], clock: Clock) -> dict[str, set[str]]:
    """Return by point which rules keep it."""
    found: dict[str, set[str]] = {event.id: set() for event in events}
    for event in events:
        newer = [other for other in events if other.at > event.at]
        for rule, count in rules.items():
            if rule == "last":
                is_kept = len(newer) < int(str(count))
            elif rule == "within":
                is_kept = all(other.at - event.at <= count for other in newer)  # type: ignore[operator]
            elif rule == "tags":
                is_kept = bool(event.tags & set(count))  # type: ignore[call-overload]
            else:
                unit = UNITS[rule]
                units = {unit(other.at, clock) for other in newer}
                is_kept = unit(event.at, clock) not in units and len(units) < int(str(count))
            if is_kept:
                found[event.id].add(rule)
        if not newer and not found[event.id]:
            found[event.id].add("newest")
    return found

"""Cron and windows by their definitions: every minute is looked at, and nothing is calculated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)

Numbers = frozenset[int] | None
"""What a field of cron allows; None for *."""


@dataclass(frozen=True)
class Cron:
    """An expression; `text` is what a person writes."""

    minute: Numbers
    hour: Numbers
    day: Numbers
    month: Numbers
    weekday: Numbers  # 0 for Sunday

    @property
    def text(self) -> str:
        fields = (self.minute, self.hour, self.day, self.month, self.weekday)
        return " ".join("*" if field is None else ",".join(map(str, sorted(field))) for field in fields)

    def matches(self, wall: datetime) -> bool:
        in_month = self.day is None or wall.day in self.day
        in_week = self.weekday is None or wall.isoweekday() % 7 in self.weekday
        either = self.day is not None and self.weekday is not None
        return (
            (self.minute is None or wall.minute in self.minute)
            and (self.hour is None or wall.hour in self.hour)
            and (self.month is None or wall.month in self.month)
            and (in_month or in_week if either else in_month and in_week)
        )

    def times(self, begin: datetime, end: datetime, zone: ZoneInfo) -> list[datetime]:
        """Return when it is due from `begin` to before `end`, which are whole minutes in UTC."""
        if self.minute is None or self.hour is None:
            return [each for each in minutes(begin, end) if self.matches(each.astimezone(zone))]
        # At a time of the day: once for each time on the wall, later where that does not exist.
        walls = minutes(_wall(begin, zone) - timedelta(days=1), _wall(end, zone) + timedelta(days=1))
        found = {_first_that_exists(wall, zone) for wall in walls if self.matches(wall)}
        return sorted(each for each in found if begin <= each < end)


def minutes(begin: datetime, end: datetime) -> list[datetime]:
    return [begin + number * MINUTE for number in range(int((end - begin) / MINUTE))]


def _wall(when: datetime, zone: ZoneInfo) -> datetime:
    return when.astimezone(zone).replace(tzinfo=None)


def _first_that_exists(wall: datetime, zone: ZoneInfo) -> datetime:
    while (when := wall.replace(tzinfo=zone).astimezone(UTC)).astimezone(zone).replace(tzinfo=None) != wall:
        wall += MINUTE
    return when

"""The times of a day, or of some days of a week, in which runs may begin, as the clock of a time zone shows them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from ntxengine.errors import OptionsError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ALL_DAYS = frozenset(range(7))
_MINUTES = 24 * 60
_WINDOW = re.compile(r"(?:([a-z,\-]+)\s+)?([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})", re.IGNORECASE)
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Window:
    """From minute `start` of a day until before minute `end`: of the next day, if that is not after `start`.

    `days` are those on which it begins, 0 for Monday.
    """

    start: int
    end: int
    days: frozenset[int] = _ALL_DAYS

    def contains(self, wall: datetime) -> bool:
        """Return whether it is open at a time, as the clock on the wall shows it."""
        minute, day = wall.hour * 60 + wall.minute, wall.weekday()
        if self.start < self.end:
            return self.start <= minute < self.end and day in self.days
        return (minute >= self.start and day in self.days) or (minute < self.end and (day - 1) % 7 in self.days)

    def __str__(self) -> str:
        days = "" if self.days == _ALL_DAYS else f"{','.join(DAYS[day] for day in sorted(self.days))} "
        return f"{days}{_time_text(self.start)}-{_time_text(self.end)}"


def parse_window(text: str) -> Window:
    """Return what `22:00-06:00`, `mon-fri 20:00-24:00` or `sat,sun 00:00-24:00` means.

    The days are those on which it begins.
    Errors: OptionsError.
    """
    match = _WINDOW.fullmatch(text.strip())
    if match is None:
        raise OptionsError(f"{text!r} is not a window: write 22:00-06:00, or mon-fri 22:00-06:00")
    start, end = (_minute(hours, minutes, text) for hours, minutes in ((match[2], match[3]), (match[4], match[5])))
    if start in (end, _MINUTES):
        raise OptionsError(f"{text!r} never opens: for all day write 00:00-24:00")
    return Window(start, end, _ALL_DAYS if match[1] is None else _days(match[1].lower(), text))


def is_open(windows: Sequence[Window], when: datetime, zone: tzinfo) -> bool:
    """Return whether a run may begin: always, if there are no windows."""
    wall = when.astimezone(zone)
    return not windows or any(window.contains(wall) for window in windows)


def next_opening(windows: Sequence[Window], when: datetime, zone: tzinfo) -> datetime:
    """Return the first time from `when` on, in UTC, at which a run may begin; `when`, if it is such a time."""
    when = when.astimezone(UTC)
    if is_open(windows, when, zone):
        return when
    opening = min(_opening(window, when, zone) for window in windows)
    return next((each for each in _repeated(when, opening, zone) if is_open(windows, each, zone)), opening)


def _repeated(begin: datetime, end: datetime, zone: tzinfo) -> Iterator[datetime]:
    """Yield the minutes around each time at which a clock is set back: it may then show the inside of a window."""
    while begin < end:
        if begin.astimezone(zone).utcoffset() != (begin + _HOUR).astimezone(zone).utcoffset():
            yield from (_next_minute(begin) + number * _MINUTE for number in range(60))
        begin += _HOUR


def _opening(window: Window, when: datetime, zone: tzinfo) -> datetime:
    """Return when a window that is closed at `when` opens."""
    today = when.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    hour, minute = divmod(window.start, 60)
    for day in range(9):
        wall = (today + timedelta(days=day)).replace(hour=hour, minute=minute)
        # Where a clock is set forward over the beginning, it opens between the two; where back, perhaps twice.
        both = sorted(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        at = max(both[0], _next_minute(when))
        while at <= both[1]:
            if window.contains(at.astimezone(zone)):
                return at
            at += _MINUTE
    raise AssertionError("a window opens at least once a week")


def _next_minute(when: datetime) -> datetime:
    return when.replace(second=0, microsecond=0) + _MINUTE


def _minute(hours: str, minutes: str, text: str) -> int:
    minute = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or minute > _MINUTES:
        raise OptionsError(f"{text!r}: {hours}:{minutes} is not a time of the day: write 00:00 to 24:00")
    return minute


def _days(text: str, window: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise OptionsError(f"{window!r}: {part!r} is not a weekday: write {' '.join(DAYS)}, or mon-fri")
        begin = DAYS.index(first)
        count = (DAYS.index(last) - begin) % 7 if dash else 0
        found |= {(begin + step) % 7 for step in range(count + 1)}
    return frozenset(found)


def _time_text(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"

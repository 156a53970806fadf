"""How much may be read in a second at which time of the day, as a person writes it.

    08:00,50M 19:00,off      from eight to seven 50 MiB/s, then as fast as it goes, until eight

The times are those of the clock on the wall: when it is changed, for summer time or by hand, what it shows decides from
then on.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from ntxengine.errors import OptionsError
from ntxengine.units import format_rate, parse_rate

MAX_RATE = 2**62
"""What is more than the core can count with is as good as no limit there (NTX_LIMITER_MAX_RATE)."""

_MINUTES = 24 * 60
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})")


@dataclass(frozen=True)
class Period:
    """From `minute` of the day on, `rate` bytes per second; 0: no limit."""

    minute: int
    rate: int


@dataclass(frozen=True)
class Timetable:
    """What the rate is at each time of a day: `periods`, ascending, of which the last goes on into the next day."""

    periods: tuple[Period, ...]

    def rate_at(self, wall: datetime) -> int:
        """Return the rate at a time, as the clock on the wall shows it."""
        begun = bisect_right([each.minute for each in self.periods], wall.hour * 60 + wall.minute)
        return self.periods[begun - 1].rate

    def __str__(self) -> str:
        if len(self.periods) == 1:
            return _rate_text(self.periods[0].rate)
        return ", ".join(f"{_time_text(each.minute)} {_rate_text(each.rate)}" for each in self.periods)


def always(rate: int) -> Timetable:
    """Return the timetable of one rate for all day.  Errors: OptionsError."""
    return Timetable((Period(0, _checked(rate)),))


def parse_timetable(text: str) -> Timetable:
    """Return what `500M`, `off` or `08:00,50M 19:00,off` means.

    Errors: OptionsError.
    """
    if not _TIME.match(text.strip()):
        return always(parse_rate(text))
    periods = sorted((_period(entry) for entry in text.split()), key=lambda period: period.minute)
    for earlier, later in pairwise(periods):
        if earlier.minute == later.minute:
            raise OptionsError(f"{text!r} has two rates from {_time_text(later.minute)} on")
    if len(periods) == 1:
        raise OptionsError(
            f"{text!r} would be the rate of all day: write {text.partition(',')[2]} alone, or from when on there is "
            f"another, such as 08:00,50M 19:00,off"
        )
    return Timetable(tuple(periods))


def _period(entry: str) -> Period:
    when, comma, rate = entry.partition(",")
    match = _TIME.fullmatch(when)
    if match is None or not comma:
        raise OptionsError(f"{entry!r} is not a time and a rate, such as 08:00,50M")
    minute = int(match[1]) * 60 + int(match[2])
    if int(match[2]) > 59 or minute >= _MINUTES:
        raise OptionsError(f"{when!r} is not a time of the day: write 00:00 to 23:59")
    return Period(minute, _checked(parse_rate(rate)))


def _checked(rate: int) -> int:
    if not 0 <= rate <= MAX_RATE:
        raise OptionsError(f"bandwidth {rate} is not from 0 to {MAX_RATE} bytes per second")
    return rate


def _time_text(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _rate_text(rate: int) -> str:
    return format_rate(rate) if rate else "off"

"""Times as a person writes them: how long, until when, and the clock of which place."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import click

_SPAN = re.compile(r"(?:([0-9]{1,5})w)?(?:([0-9]{1,6})d)?(?:([0-9]{1,7})h)?(?:([0-9]{1,8})m)?")
_LONGEST = timedelta(days=36525)
_LAST_YEAR = 9998


class Span(click.ParamType[timedelta]):
    """How long: `30d`, `36h`, `4w`, `1d12h`, `90m`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        text = str(value).strip()
        match = _SPAN.fullmatch(text)
        if match is None or not text:
            self.fail(
                f"{value!r} is not a time: write weeks, days, hours and minutes, such as 30d, 36h or 1d12h", param, ctx
            )
        weeks, days, hours, minutes = (int(number or 0) for number in match.groups())
        span = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes)
        if not timedelta(0) < span <= _LONGEST:
            self.fail(f"{value!r} is not more than nothing and at most {_LONGEST.days}d", param, ctx)
        return span


class Moment(click.ParamType[datetime]):
    """Until when: `2027-03-01`, when that day begins in UTC, or RFC 3339: `2027-03-01T12:00:00+01:00`."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        text = str(value).strip()
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            when = None
        is_date = re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) is not None
        if when is None or (when.tzinfo is None and not is_date) or not 1970 <= when.year <= _LAST_YEAR:
            self.fail(f"{value!r} is not a date: write 2027-03-01, or with a time 2027-03-01T12:00:00Z", param, ctx)
        return (when.replace(tzinfo=UTC) if is_date else when.astimezone(UTC)).replace(microsecond=0)


class TimeZone(click.types.StringParamType):
    """A time zone by its name: `UTC`, `Europe/Berlin`."""

    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tzinfo):
            return value
        if value == "UTC":
            return UTC
        from zoneinfo import ZoneInfo

        try:
            return ZoneInfo(str(value))
        except (ValueError, OSError, ModuleNotFoundError, LookupError):
            self.fail(
                f"{value!r} is no time zone that this machine knows: write UTC or one such as Europe/Berlin, or "
                f"install the package tzdata",
                param,
                ctx,
            )


SPAN = Span()
MOMENT = Moment()
TIME_ZONE = TimeZone()

"""Times as a person writes them: how long, until when, and the clock of which place."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import click

from ntxengine.cli.values import failing_with
from ntxengine.units import parse_span, parse_time_zone

_LAST_YEAR = 9998


class Span(click.ParamType[timedelta]):
    """How long: `30d`, `36h`, `4w`, `1d12h`, `90m`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        with failing_with(self, param, ctx):
            return parse_span(str(value))


class Moment(click.ParamType[datetime]):
    """Until when: `2027-03-01`, when that day begins in UTC, or RFC 3339: `2027-03-01T12:00:00+01:00`."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        when = _in_utc(str(value).strip())
        if when is None or not 1970 <= when.year <= _LAST_YEAR:
            self.fail(f"{value!r} is not a date: write 2027-03-01, or with a time 2027-03-01T12:00:00Z", param, ctx)
        return when.replace(microsecond=0)


def _in_utc(text: str) -> datetime | None:
    """Return the time that is written, None if it is none, or nobody knows of which time zone."""
    try:
        when = datetime.fromisoformat(text)
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            return when.replace(tzinfo=UTC)
        return None if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


class TimeZone(click.types.StringParamType):
    """A time zone by its name: `UTC`, `Europe/Berlin`."""

    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tzinfo):
            return value
        with failing_with(self, param, ctx):
            return parse_time_zone(str(value))


SPAN = Span()
MOMENT = Moment()
TIME_ZONE = TimeZone()

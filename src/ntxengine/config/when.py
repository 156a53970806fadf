"""When a job runs, as people write it: checked here, so that a mistake has its line.

Only what a schedule of the agent takes may pass; the agent makes the schedule of the same texts.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator

from ntxengine.errors import OptionsError
from ntxengine.units import parse_span

MIN_EVERY = timedelta(minutes=1)
MAX_EVERY = timedelta(days=366)
MAX_JITTER = timedelta(hours=24)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_WINDOW = re.compile(r"(?:([a-z,\-]+)\s+)?([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})", re.IGNORECASE)
_MINUTES = 24 * 60


def check_every(text: str) -> str:
    """Errors: ValueError."""
    try:
        every = parse_span(text)
    except OptionsError as exc:
        raise ValueError(str(exc)) from exc
    if every < MIN_EVERY:
        raise ValueError(f"{text!r} is less than 1m, in which no run ends")
    if every > MAX_EVERY:
        raise ValueError(f"{text!r} is more than {MAX_EVERY.days}d")
    return text


def check_cron(text: str) -> str:
    """Errors: ValueError."""
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(
            f"{text!r} has {len(fields)} fields: write five, minute hour day month weekday, such as 0 2 * * *"
        )
    try:
        next(CronSim(text, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as exc:
        raise ValueError(f"{text!r}: {str(exc).lower()}") from exc
    except StopIteration:
        raise ValueError(f"{text!r}: there is no such day") from None
    return text


def check_window(text: str) -> str:
    """Errors: ValueError."""
    match = _WINDOW.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a window: write 22:00-06:00, or mon-fri 22:00-06:00")
    for part in (match[1] or "").lower().split(","):
        first, dash, last = part.partition("-")
        if part and (first not in DAYS or (dash and last not in DAYS)):
            raise ValueError(f"{text!r}: {part!r} is not a weekday: write {' '.join(DAYS)}, or mon-fri")
    start, end = (_minute(hours, minutes, text) for hours, minutes in ((match[2], match[3]), (match[4], match[5])))
    if start in (end, _MINUTES):
        raise ValueError(f"{text!r} never opens: for all day write 00:00-24:00")
    return text


def _minute(hours: str, minutes: str, text: str) -> int:
    minute = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or minute > _MINUTES:
        raise ValueError(f"{text!r}: {hours}:{minutes} is not a time of the day: write 00:00 to 24:00")
    return minute


Every = Annotated[str, AfterValidator(check_every)]
CronText = Annotated[str, AfterValidator(check_cron)]
WindowText = Annotated[str, AfterValidator(check_window)]

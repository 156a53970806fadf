"""What a schedule may say, each rule once.  The errors name what was said and what to write, not whose key it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

from ntxengine.errors import OptionsError
from ntxengine.units import format_span

MIN_EVERY = timedelta(minutes=1)
"""No run ends in less."""

MAX_EVERY = timedelta(days=366)
MAX_JITTER = timedelta(hours=24)

MAX_PRIORITY = 100
"""So much more or less than the usual 0."""


def check_every(every: timedelta) -> None:
    """Errors: OptionsError."""
    if every < MIN_EVERY:
        raise OptionsError(f"{format_span(every)} is less than {format_span(MIN_EVERY)}, in which no run ends")
    if every > MAX_EVERY:
        raise OptionsError(f"{format_span(every)} is more than {format_span(MAX_EVERY)}")


def check_jitter(jitter: timedelta, every: timedelta | None) -> None:
    """Check what a start is later by at most, of a job with `every`, or of one with cron.  Errors: OptionsError."""
    if every is not None and jitter >= every:
        raise OptionsError(f"{format_span(jitter)} is not shorter than every {format_span(every)}")
    if not timedelta(0) <= jitter <= MAX_JITTER:
        raise OptionsError(f"{format_span(jitter)} is more than {format_span(MAX_JITTER)}")


def check_cron(text: str) -> None:
    """Check five fields.  Errors: OptionsError."""
    fields = text.split()
    if len(fields) != 5:
        raise OptionsError(
            f"{text!r} has {len(fields)} fields: write five, minute hour day month weekday, such as 0 2 * * *"
        )
    try:
        next(CronSim(text, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as exc:
        raise OptionsError(f"{text!r}: {str(exc).lower()}") from exc
    except StopIteration:
        raise OptionsError(f"{text!r}: there is no such day") from None

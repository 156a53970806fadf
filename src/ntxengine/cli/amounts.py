"""A part in percent, as a person reads it."""

from __future__ import annotations


def percent_text(part: int, whole: int) -> str:
    """Return a part in percent.  Not rounded up: 100 % is all."""
    return f"{int(1000 * part / whole) / 10 if whole else 100:g} %"

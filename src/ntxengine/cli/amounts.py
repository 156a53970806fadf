"""A share and a time as a person writes them, and a part in percent."""

from __future__ import annotations

import re

_SHARE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,20})?)\s*%")
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,20})?)(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def share_of(text: str) -> float | None:
    """Return what `2%` means, None if it is no share."""
    match = _SHARE.fullmatch(text)
    return None if match is None else float(match[1]) / 100


def seconds_of(text: str) -> float | None:
    """Return what `90s`, `10m` and `1h` mean, None if it is no time."""
    match = _TIME.fullmatch(text)
    return None if match is None else float(match[1]) * _SECONDS[match[2]]


def percent_text(part: int, whole: int) -> str:
    """Return a part in percent.  Not rounded up: 100 % is all."""
    return f"{int(1000 * part / whole) / 10 if whole else 100:g} %"

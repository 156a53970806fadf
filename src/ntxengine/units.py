"""Sizes, rates and times: between people and integers.

K, M, G, T are powers of 1024, with or without `iB` or `B`, as in qemu-img and rclone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

from ntxengine.errors import OptionsError

KIB = 1024
MIB = 1024**2
GIB = 1024**3
TIB = 1024**4

BLOCK_SIZE = 64 * KIB
"""The unit of digests, zero tests and work alignment (NTX_BLOCK_SIZE in csrc/ntx.h)."""

LEAST_MEMORY = 16 * MIB
"""With less an image cannot be finished: its reference counts take 8 MiB, with tables and buffers beside them."""

_FACTORS = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}
_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([KMGT]?)(?:iB|B)?", re.IGNORECASE)

_SHARE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,20})?)\s*%")
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,20})?)(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_SPAN = re.compile(r"(?:([0-9]{1,5})w)?(?:([0-9]{1,6})d)?(?:([0-9]{1,7})h)?(?:([0-9]{1,8})m)?(?:([0-9]{1,9})s)?")
_EXPIRY = re.compile(r"([0-9]{1,6})([hd])")

LONGEST_SPAN = timedelta(days=36525)

MAX_TIMEOUT_S = 86400
"""Nobody waits longer for one answer."""


def parse_size(text: str) -> int:
    """Return the bytes that `64KiB`, `1G`, `1.5M` or `4096` mean.

    Errors: OptionsError if it is no size, or no whole number of bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise OptionsError(f"{text!r} is not a size: write bytes, or a number with K, M, G or T, such as 64KiB or 1.5G")
    factor = _FACTORS[match[2].upper()]
    value = float(match[1]) * factor if "." in match[1] else int(match[1]) * factor
    if value != int(value):
        raise OptionsError(f"{text!r} is not a whole number of bytes")
    return int(value)


def parse_memory_limit(text: str) -> int:
    """Return the bytes that `512M` means.  Errors: OptionsError, also below LEAST_MEMORY."""
    limit = parse_size(text)
    if limit < LEAST_MEMORY:
        raise OptionsError(f"memory limit {text.strip()!r}: give copies {format_size(LEAST_MEMORY)} at least")
    return limit


def parse_rate(text: str) -> int:
    """Return bytes per second; `0` and `off` mean no limit and give 0."""
    return 0 if text.strip().lower() == "off" else parse_size(text.strip().removesuffix("/s"))


def share_of(text: str) -> float | None:
    """Return what `2%` means, None if it is no share."""
    match = _SHARE.fullmatch(text)
    return None if match is None else float(match[1]) / 100


def parse_share(text: str) -> float:
    """Return what a share from 0% to 100% is as a part of 1.  Errors: OptionsError."""
    share = share_of(text.strip())
    if share is None or share > 1:
        raise OptionsError(f"{text!r} is not a share: write 20%, between 0% and 100%")
    return share


def seconds_of(text: str) -> float | None:
    """Return what `90s`, `10m` and `1h` mean, None if it is no time."""
    match = _TIME.fullmatch(text)
    return None if match is None else float(match[1]) * _SECONDS[match[2]]


def parse_span(text: str) -> timedelta:
    """Return how long `30d`, `36h`, `4w`, `1d12h`, `90m` and `45s` are.

    Errors: OptionsError if it is no time, nothing, or more than LONGEST_SPAN.
    """
    match = _SPAN.fullmatch(text.strip())
    if match is None or not text.strip():
        raise OptionsError(
            f"{text!r} is not a time: write weeks, days, hours, minutes and seconds, such as 30d, 36h or 1d12h"
        )
    weeks, days, hours, minutes, seconds = (int(number or 0) for number in match.groups())
    span = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not timedelta(0) < span <= LONGEST_SPAN:
        raise OptionsError(f"{text!r} is not more than nothing and at most {LONGEST_SPAN.days}d")
    return span


def format_span(span: timedelta) -> str:
    """Return a time as `parse_span` takes it: `1d12h`, `90s` as `1m30s`; `0s` for nothing.  Parts of a second go."""
    minutes, seconds = divmod(int(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def parse_expiry(text: str) -> timedelta:
    """Return the time to live that `36h` or `7d` means.  Errors: OptionsError."""
    match = _EXPIRY.fullmatch(text.strip())
    if match is None:
        raise OptionsError(f"{text!r} is not a time to live: write hours or days, such as 36h or 7d")
    return timedelta(hours=int(match[1])) if match[2] == "h" else timedelta(days=int(match[1]))


def parse_time_zone(name: str) -> tzinfo:
    """Return the time zone `UTC`, `Europe/Berlin`, ....  Errors: OptionsError if this machine does not know it."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (ValueError, OSError, ModuleNotFoundError, LookupError) as exc:
        raise OptionsError(
            f"{name!r} is no time zone that this machine knows: write UTC or one such as Europe/Berlin, or install the "
            f"package tzdata"
        ) from exc


def format_size(size: int) -> str:
    """Return `size` bytes for a person: `0 B`, `512 B`, `1.5 MiB`, `2.0 TiB`, `7.0 EiB`."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < KIB:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= KIB
    return f"{value:.1f} EiB"


def format_rate(bytes_per_s: float) -> str:
    """Return a rate for a person: `1.5 GiB/s`."""
    return f"{format_size(int(bytes_per_s))}/s"


def utc_now() -> datetime:
    """Return the time now, in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def format_time(when: datetime) -> str:
    """Return RFC 3339 in UTC: `2026-11-23T04:05:06Z`."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""Sizes, rates and times: between people and integers.

K, M, G, T are powers of 1024, with or without `iB` or `B`, as in qemu-img and rclone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ntxengine.errors import OptionsError

KIB = 1024
MIB = 1024**2
GIB = 1024**3
TIB = 1024**4

BLOCK_SIZE = 64 * KIB
"""The unit of digests, zero tests and work alignment (NTX_BLOCK_SIZE in csrc/ntx.h)."""

_FACTORS = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}
_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([KMGT]?)(?:iB|B)?", re.IGNORECASE)


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


def parse_rate(text: str) -> int:
    """Return bytes per second; `0` and `off` mean no limit and give 0."""
    return 0 if text.strip().lower() == "off" else parse_size(text.strip().removesuffix("/s"))


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

"""Figures of a transfer for people: what was counted, or a dash.

A rate is of the bytes that were read.  What reads as zero is done at once, and would make terabytes per second of an
empty disk.
"""

from __future__ import annotations

from typing import Protocol

from ntxengine.units import format_rate, format_size

UNKNOWN = "-"

MIN_SECONDS = 1.0
"""Below it the time went into opening and first answers: what the threads waited for says nothing of the next copy."""

MIN_SHARE = 0.5
"""Of the threads' time: what took less than all others together is not what to look at first."""

FIRST_ESTIMATE_S = 1.0
"""A rate of less time than this says little of the time that is left."""


class Amounts(Protocol):
    """What of a transfer's progress is shown (ntxengine.dataplane.copy.Progress has it)."""

    @property
    def bytes_done(self) -> int: ...
    @property
    def bytes_total(self) -> int: ...
    @property
    def bytes_read(self) -> int | None: ...
    @property
    def seconds(self) -> float: ...
    @property
    def is_flushing(self) -> bool: ...
    @property
    def bottleneck(self) -> str: ...
    @property
    def bottleneck_share(self) -> float: ...


def rate_of(bytes_read: int | None, seconds: float | None) -> float | None:
    """Return bytes per second; None if nothing was read, or it is not known."""
    if bytes_read is None or seconds is None:
        return None
    return bytes_read / seconds if bytes_read > 0 and seconds > 0 else None


def shown_rate(bytes_read: int | None, seconds: float | None) -> str:
    """Return `410.0 MiB/s`, or a dash."""
    rate = rate_of(bytes_read, seconds)
    return UNKNOWN if rate is None else format_rate(rate)


def with_rate(text: str, bytes_read: int, seconds: float) -> str:
    """Return `1.0 GiB, 410.0 MiB/s`, or `text` alone where there is no rate."""
    rate = rate_of(bytes_read, seconds)
    return text if rate is None else f"{text}, {format_rate(rate)}"


def done_and_total(amounts: Amounts) -> tuple[int, int]:
    """Return what is done and what there is (0: unknown), never more than all."""
    total = amounts.bytes_total
    return (min(amounts.bytes_done, total) if total else amounts.bytes_done), total


def seconds_left(amounts: Amounts) -> float | None:
    """Return how long the rest will take at the pace so far; None if that cannot be said."""
    done, total = done_and_total(amounts)
    if not 0 < done < total or amounts.seconds < FIRST_ESTIMATE_S:
        return None
    return (total - done) * amounts.seconds / done


def bottleneck_text(name: str | None, share: float | None, *, bytes_read: int | None, seconds: float | None) -> str:
    """Return `target is the bottleneck: 71 % of worker time`; "" if nothing stands out, or too little was done."""
    if not name or share is None or seconds is None or not bytes_read:
        return ""
    if share < MIN_SHARE or seconds < MIN_SECONDS:
        return ""
    return f"{name} is the bottleneck: {share * 100:.0f} % of worker time"


def bottleneck_of(amounts: Amounts) -> str:
    """The same of a transfer."""
    return bottleneck_text(
        amounts.bottleneck, amounts.bottleneck_share, bytes_read=amounts.bytes_read, seconds=amounts.seconds
    )


def packed_text(sent: int, stored: int, seconds: float) -> str:
    """What compressing brought and took, "" if nothing was."""
    if seconds <= 0 or not sent:
        return ""
    return f"{format_size(stored)}, {100 * stored / sent:.0f} %, compressed in {seconds:.1f} s of worker time"

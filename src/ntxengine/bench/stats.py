"""Medians, quartiles, and ratios of what was measured in the same round.

A round runs everybody within seconds: what the machine did to one it did to the others.  Ratios are therefore taken
round by round, and the median of them is shown; a ratio of two medians would compare different moments.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import msgspec


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A median and its quartiles, of `count` values."""

    median: float
    q1: float
    q3: float
    count: int


def spread(values: Sequence[float]) -> Spread | None:
    """Return median and quartiles, None of nothing."""
    if not values:
        return None
    if len(values) == 1:
        return Spread(median=values[0], q1=values[0], q3=values[0], count=1)
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median=median, q1=q1, q3=q3, count=len(values))


def paired_ratios(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """Return ours / theirs for each round that both have."""
    return [value / theirs[number] for number, value in sorted(ours.items()) if theirs.get(number)]

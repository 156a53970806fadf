"""How fast a VM grows, from the points that it has: what those of the last 30 days added, by the time between them.

    first point   |----- point ----- point --- newest|      bytes of all but the first / days from the first to the last

LIMIT: points that were pruned are not there any more, and what pruning will free is not known: under a retention that
keeps as many points as it removes, the repository grows more slowly than this says.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

WINDOW_DAYS = 30.0
"""How far back points are looked at from the newest one on."""

MIN_DAYS = 1.0
"""Between the first and the last point that are looked at: of less nobody can tell what a day adds."""

_DAY = timedelta(days=1)


def growth_per_day(points: Sequence[tuple[datetime, int]]) -> float | None:
    """Return how many bytes are added in a day, from the times of points, oldest first, and what each takes.

    None where it cannot be said: there are less than two points, or less than a day between them.
    """
    if not points:
        return None
    newest = points[-1][0]
    recent = [(when, size) for when, size in points if newest - when <= WINDOW_DAYS * _DAY]
    days = (newest - recent[0][0]) / _DAY
    if days < MIN_DAYS:
        return None
    return sum(size for _, size in recent[1:]) / days


def days_left(bytes_free: int, per_day: float | None) -> float | None:
    """Return for how many days there is room at this growth; None where that cannot be said, or nothing grows."""
    return bytes_free / per_day if per_day else None

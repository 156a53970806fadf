"""What is unlike all that a VM did before: much more change, or data that does not compress any more.

Ransomware shows so, and so does a database that was imported, or a log that nobody cuts: it is said, not judged.  A
decision on the history of one VM in one job, no I/O.

    change       increments alone: of disks that were tracked since the point before, and while the disks have their
                 sizes.  A full point, a disk that is new, and one whose tracking was lost say nothing here.
    compression  of what was stored compressed; where nothing is, nothing is known

Both need a history, and an amount that is worth a word; and what happened before in the history, such as each week, is
usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import median

from ntxengine.agent.records import Anomaly, Figures, Run
from ntxengine.units import MIB, format_size

LOOKED_AT = 200
"""Runs of the VM that are looked at: the newest."""

ENOUGH = 5
"""Runs without which nothing is usual."""

TIMES = 10
SEEN_TIMES = 1.5
"""Less than this many times the most that was seen before is no news."""

CHANGE_FLOOR = 256 * MIB
CHANGE_FLOOR_SHARE = 0.01
"""Of the disks: what changes less is not worth a word."""

PACK_FLOOR = 64 * MIB
PACK_SAMPLE = 4 * MIB
"""What sends less says nothing about how its data compress."""

PACKS = 0.75
"""What is stored of data that compress is at most this share of them, and of data that do not, at least the next."""
DOES_NOT_PACK = 0.95

SHORTEST_S = 60.0


class Kind(StrEnum):
    """What is unlike before."""

    CHANGE = "change"
    COMPRESSION = "compression"


def anomalies(run: Run, history: Sequence[Run]) -> tuple[Anomaly, ...]:
    """Return what of a run that succeeded is unlike the runs before it, which are given newest first."""
    return tuple(filter(None, (_change(run, history), _compression(run, history))))


@dataclass(frozen=True)
class _Increment:
    """What changed in which time."""

    bytes_changed: int
    seconds: float


def _change(run: Run, history: Sequence[Run]) -> Anomaly | None:
    figures = run.figures
    if figures is None or not history or not figures.bytes_tracked:
        return None
    before = history[0].figures
    if before is not None and before.bytes_size != figures.bytes_size:
        return None
    known = [each for each in (_increment(later, earlier) for later, earlier in pairwise(history)) if each is not None]
    now = _increment(run, history[0])
    if now is None or len(known) < ENOUGH:
        return None
    rate = median(each.bytes_changed / each.seconds for each in known)
    # In a moment nothing changes, and what then does is no rate: no time is shorter than the usual one.
    usual = rate * max(now.seconds, median(each.seconds for each in known))
    most = max(each.bytes_changed for each in known)
    floor = max(CHANGE_FLOOR, CHANGE_FLOOR_SHARE * figures.bytes_tracked)
    if now.bytes_changed < max(floor, TIMES * usual, SEEN_TIMES * most):
        return None
    times = f"{now.bytes_changed / usual:.0f} times as much as usual" if usual >= 1 else "and usually nothing does"
    text = f"{format_size(now.bytes_changed)} changed since the point before, {times} ({format_size(int(usual))})"
    return Anomaly(Kind.CHANGE.value, text, float(now.bytes_changed), float(usual))


def _increment(later: Run, earlier: Run) -> _Increment | None:
    figures = later.figures
    if figures is None or not figures.bytes_tracked:
        return None
    seconds = (later.started_at - earlier.started_at).total_seconds()
    return _Increment(figures.bytes_tracked_changed, max(SHORTEST_S, seconds))


def _compression(run: Run, history: Sequence[Run]) -> Anomaly | None:
    figures = run.figures
    if figures is None or figures.bytes_to_pack < PACK_FLOOR:
        return None
    known = [_packed(each.figures) for each in history if each.figures and each.figures.bytes_to_pack >= PACK_SAMPLE]
    if len(known) < ENOUGH:
        return None
    now, usual = _packed(figures), median(known)
    if now < DOES_NOT_PACK or usual > PACKS or max(known) >= DOES_NOT_PACK:
        return None
    text = (
        f"{format_size(figures.bytes_to_pack)} that were sent do not compress: {100 * now:.0f} % is left of them, and"
        f" usually {100 * usual:.0f} %"
    )
    return Anomaly(Kind.COMPRESSION.value, text, round(now, 4), round(usual, 4))


def _packed(figures: Figures) -> float:
    return figures.bytes_packed / figures.bytes_to_pack

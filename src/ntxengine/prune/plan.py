"""Which points of a VM take over what is below them, and which can just go.  Nothing is read but what points say.

    A <- b <- c <- D <- E        small letters are forgotten
    D takes over b and c, and is on top of A then; b and c can go

A point that an interrupted capture is on top of, and that can be gone on with, stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ntxengine.repository import Point, PointDisk


@dataclass(frozen=True)
class Merge:
    """`point` takes over what the points `below` hold for it, nearest first, and is on top of `onto` then, or of
    nothing."""

    point: Point
    below: tuple[Point, ...]
    onto: Point | None

    def taken_from(self, disk: PointDisk) -> int:
        """Return how many images below that of a disk of `point` are taken over; 0: it stays as it is."""
        for number, point in enumerate(self.below):
            if not disk.backing:
                return number
            disk = point.disk(disk.disk_id)
        return len(self.below)

    def disk_below(self, disk: PointDisk) -> PointDisk | None:
        """Return the disk of `onto` that a disk of `point` is on top of afterwards, None if it stands alone."""
        for point in self.below:
            if not disk.backing:
                return None
            disk = point.disk(disk.disk_id)
        return None if self.onto is None or not disk.backing else self.onto.disk(disk.disk_id)


@dataclass(frozen=True)
class Plan:
    """`merges` from the oldest point on; `removable` are forgotten and nothing is on top of them.

    `shares` are of points that go, by their ids: which part of their space each merge that takes them over frees.
    """

    merges: tuple[Merge, ...]
    removable: tuple[Point, ...]
    shares: Mapping[str, float]

    @property
    def goes(self) -> list[Point]:
        """All points that are to go, once nothing is on top of them, oldest first."""
        found = {point.id: point for merge in self.merges for point in merge.below}
        return [point for _, point in sorted((found | {point.id: point for point in self.removable}).items())]


def plan(points: Sequence[Point], forgotten: Collection[str], pinned: Collection[str]) -> Plan:
    """Plan what to do with the points of one VM, oldest first, of which some are forgotten, by their ids.

    `pinned` are ids of points that something unfinished is on top of.
    """
    by_id = {point.id: point for point in points}
    goes = {point.id for point in points if point.id in forgotten and point.id not in pinned}
    merges = tuple(
        found
        for point in points
        if point.id not in goes and point.id not in pinned and (found := _merge(point, by_id, goes))
    )
    return Plan(merges, _removable(points, goes), _shares(points, merges, by_id, goes))


def _removable(points: Sequence[Point], goes: Collection[str]) -> tuple[Point, ...]:
    """Return the points that go and that no point which stays is on top of, oldest first."""
    needed: set[str | None] = set()
    found = []
    for point in reversed(points):
        if point.id in goes and point.id not in needed:
            found.append(point)
        else:
            needed.add(point.parent_id)
    return tuple(reversed(found))


def _shares(
    points: Sequence[Point], merges: Sequence[Merge], by_id: Mapping[str, Point], goes: Collection[str]
) -> dict[str, float]:
    """Return the shares: none of what is below a point that stays and takes nothing over, as it is pinned."""
    takers = Counter(point.id for merge in merges for point in merge.below)
    merging = {merge.point.id for merge in merges}
    for point in points:
        at = None if point.id in goes or point.id in merging else by_id.get(str(point.parent_id))
        while at is not None and at.id in goes:
            takers.pop(at.id, None)
            at = by_id.get(str(at.parent_id))
    return {point_id: 1 / count for point_id, count in takers.items()}


def _merge(point: Point, by_id: Mapping[str, Point], goes: Collection[str]) -> Merge | None:
    below: list[Point] = []
    at = by_id.get(str(point.parent_id))
    while at is not None and at.id in goes:
        below.append(at)
        at = by_id.get(str(at.parent_id))
    return Merge(point, tuple(below), at) if below else None

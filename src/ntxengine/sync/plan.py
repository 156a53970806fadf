"""What a repository lacks of a VM, and what each point goes on top of there.

    here    A <- b <- C <- D        b is forgotten
    there   A                       C goes on top of A, then D on top of C

A point goes on top of the nearest one of its chain that is there; where there is none, of the newest older one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ntxengine.errors import RepositoryError
from ntxengine.repository import Point, PointDisk


def missing(here: Sequence[Point], there: Sequence[Point]) -> list[Point]:
    """Return the points that are not there, oldest first.

    Errors: RepositoryError (a point that is there holds something else).
    """
    known = {point.id: point for point in there}
    for point in here:
        if point.id in known and _contents(point) != _contents(known[point.id]):
            raise RepositoryError(
                f"{known[point.id].path}: holds other disks than {point.path}, though the points have one id: nothing "
                f"of this VM is copied"
            )
    return [point for point in here if point.id not in known]


def _contents(point: Point) -> set[tuple[str, int, str]]:
    return {(disk.disk_id, disk.size, disk.digest) for disk in point.disks}


def parent_of(chain: Sequence[Point], there: Sequence[Point]) -> Point | None:
    """Return what a point goes on top of; `chain` is what it is made of here, itself first."""
    known = {point.id: point for point in there}
    for point in chain[1:]:
        if point.id in known:
            return known[point.id]
    return max((point for point in there if point.id < chain[0].id), key=lambda point: point.id, default=None)


def images_above(chain: Sequence[Point], disk: PointDisk, parent: Point) -> int | None:
    """Return how many images of a disk are on top of that of `parent`, None if that is no part of its chain."""
    for number, point in enumerate(chain[1:], 1):
        if not disk.backing:
            return None
        if point.id == parent.id:
            return number
        disk = point.disk(disk.disk_id)
    return None


def disks_below(point: Point, parent: Point | None) -> Iterator[tuple[PointDisk, PointDisk | None]]:
    """Yield each disk of a point with the same disk of its parent."""
    for disk in point.disks:
        yield disk, None if parent is None else parent.find_disk(disk.disk_id)

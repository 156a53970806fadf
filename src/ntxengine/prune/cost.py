"""What a merge would write and what it would free, from the tables of the images: no byte of a disk is read.

Looked at are the images that are taken over, and the one on top of them, each alone or with these: never what is below
them.  So the merges of a chain cost together what its images do, and not each of them the whole chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.extents import ZERO
from ntxengine.errors import RepositoryError
from ntxengine.files import durable
from ntxengine.images.header import is_compressed
from ntxengine.images.open import open_with_clusters
from ntxengine.prune.plan import Merge
from ntxengine.repository import Point, PointDisk, check_image


@dataclass(frozen=True)
class Cost:
    """In bytes of files: what is written anew, and by how much the repository is smaller afterwards.

    LIMIT: of compressed images it is an estimate, by how well all of an image is compressed.
    """

    bytes_written: int
    bytes_freed: int

    def is_worth(self, max_waste: float) -> bool:
        """Say whether what is freed is at least this part of what is written."""
        return self.bytes_freed > 0 and self.bytes_freed >= max_waste * self.bytes_written


async def cost_of(merge: Merge, *, least: float, shares: Mapping[str, float]) -> Cost:
    """Return what a merge costs.  `shares`: which part of the points below, by their ids, it frees.

    Where it cannot be worth `least` whatever the tables say, they are not looked at, and the cost is the most that
    could be freed for the least that would be written.
    Errors: RepositoryError, SourceError, ToolError.
    """
    merged = [await to_thread_joined(_Disk.look, merge, disk) for disk in merge.point.disks if merge.taken_from(disk)]
    gone = await to_thread_joined(_freed, merge.below, shares)
    replaced = sum(disk.sizes[0] for disk in merged)
    bound = Cost(sum(max(disk.sizes) for disk in merged), 0)
    bound = Cost(bound.bytes_written, gone + replaced - bound.bytes_written)
    if not bound.is_worth(least):
        return bound
    written = sum([await disk.bytes_shown() for disk in merged])
    return Cost(written, gone + replaced - written)


@dataclass(frozen=True)
class _Disk:
    """A disk of the point: its image and those below that it takes over, nearest first, and their sizes on the file
    system."""

    images: tuple[Path, ...]
    sizes: tuple[int, ...]

    @classmethod
    def look(cls, merge: Merge, disk: PointDisk) -> _Disk:
        points = (merge.point, *merge.below[: merge.taken_from(disk)])
        images = tuple(check_image(point, point.disk(disk.disk_id)) for point in points)
        return cls(images, tuple(map(_size, images)))

    async def bytes_shown(self) -> int:
        """Return how much of the files shows through."""
        async with open_with_clusters(self.images) as opened:
            clusters = opened.clusters
        if clusters is None:  # too many to be looked at one by one: as if nothing were covered
            return sum(self.sizes)
        data = clusters[(clusters["flags"] & ZERO) == 0]
        shown = np.bincount(data["file"].astype(np.int64), weights=data["length"], minlength=len(self.images))
        return int(sum([bytes_shown * await self._density(number) for number, bytes_shown in enumerate(shown)]))

    async def _density(self, number: int) -> float:
        """Return what an image takes for each byte of the disk: less than 1 where it is compressed."""
        image = self.images[number]
        if not await to_thread_joined(is_compressed, image):
            return 1.0
        async with open_with_clusters([image]) as opened:
            own = opened.clusters
        if own is None:
            return 1.0
        held = float(own["length"][(own["flags"] & ZERO) == 0].sum(dtype=np.float64))
        return min(1.0, self.sizes[number] / held) if held else 1.0


def _freed(points: tuple[Point, ...], shares: Mapping[str, float]) -> int:
    return int(
        sum(_size(point.image_path(disk)) * shares.get(point.id, 0.0) for point in points for disk in point.disks)
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except OSError as exc:
        error = durable.read_error(path, exc)
        raise RepositoryError(str(error)) from exc

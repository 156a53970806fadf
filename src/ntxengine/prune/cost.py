"""What a merge would write and what it would free, from the tables of the images: no byte of a disk is read."""

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
from ntxengine.repository import Chains, Point, PointDisk, Repository


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


async def cost_of(repository: Repository, merge: Merge, *, least: float, shares: Mapping[str, float]) -> Cost:
    """Return what a merge costs.  `shares`: which part of the points below, by their ids, it frees.

    Where it cannot be worth `least` whatever the tables say, they are not looked at, and the cost is the most that
    could be freed for the least that would be written.
    Errors: RepositoryError, SourceError, ToolError.
    """
    chains = Chains()
    disks = [await _Disk.look(repository, merge, disk, chains) for disk in merge.point.disks if disk.backing]
    merged = [disk for disk in disks if disk.taken]
    gone = await to_thread_joined(_freed, merge.below, shares)
    replaced = sum(disk.sizes[0] for disk in merged)
    bound = Cost(sum(max(disk.sizes[: disk.taken + 1]) for disk in merged), 0)
    bound = Cost(bound.bytes_written, gone + replaced - bound.bytes_written)
    if not bound.is_worth(least):
        return bound
    written = sum([await disk.bytes_shown() for disk in merged])
    return Cost(written, gone + replaced - written)


@dataclass(frozen=True)
class _Disk:
    """A disk of the point: the images of its chain, their sizes on the file system, and how many of those below the
    first are taken over."""

    chain: tuple[Path, ...]
    sizes: tuple[int, ...]
    taken: int

    @classmethod
    async def look(cls, repository: Repository, merge: Merge, disk: PointDisk, chains: Chains) -> _Disk:
        chain = await repository.images(merge.point, disk, chains=chains)
        sizes = await to_thread_joined(lambda: tuple(map(_size, chain)))
        return cls(chain, sizes, merge.taken_from(disk))

    async def bytes_shown(self) -> int:
        """Return how much of the files up to the last that is taken over shows through."""
        async with open_with_clusters(self.chain) as opened:
            clusters = opened.clusters
        if clusters is None:  # too many to be looked at one by one: as if nothing were covered
            return sum(self.sizes[: self.taken + 1])
        data = clusters[(clusters["flags"] & ZERO) == 0]
        shown = np.bincount(data["file"].astype(np.int64), weights=data["length"], minlength=len(self.chain))
        total = 0.0
        for number in range(self.taken + 1):
            total += shown[number] * await self._density(number)
        return int(total)

    async def _density(self, number: int) -> float:
        """Return what an image takes for each byte of the disk: less than 1 where it is compressed."""
        if not await to_thread_joined(is_compressed, self.chain[number]):
            return 1.0
        own = await _bytes_own(self.chain[number:])
        return min(1.0, self.sizes[number] / own) if own else 1.0


async def _bytes_own(chain: tuple[Path, ...]) -> float:
    """Return how many bytes of the disk the first image of a chain holds."""
    async with open_with_clusters(chain) as opened:
        clusters = opened.clusters
    if clusters is None:
        return 0.0
    own = clusters[((clusters["flags"] & ZERO) == 0) & (clusters["file"] == 0)]
    return float(own["length"].sum(dtype=np.float64))


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

"""Where the disks of two points of one VM differ, by the digests of their blocks.

manifest of A, manifest of B  ->  windows of extents  ->  counted as they pass, or handed on
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from ntxengine.compare.profile import Profile
from ntxengine.dataplane.extents import Extents
from ntxengine.errors import OptionsError, RepositoryError
from ntxengine.repository import Point, PointDisk, Repository, changed_extents, reading

DiskChange = Literal["same", "changed", "added", "removed"]

MAX_CELLS = 4096


@dataclass(frozen=True)
class DiskDifference:
    """What became of one disk from one point to another.  `before` or `after` is None where that lacks the disk.

    Units:  bytes, whole blocks of 64 KiB but for the last one of the disk.
    `regions` hold other bytes than before, together `bytes_differ`, of which `bytes_zero` read as zero now.  Of a disk
    that was added all that is not zero differs; of one that was removed, and of what a disk lost that shrank, nothing
    is counted.  `cells` are shares (0..1) of equal parts of the disk.  `problem` says why it cannot be compared.
    """

    before: PointDisk | None
    after: PointDisk | None
    regions: int = 0
    bytes_differ: int = 0
    bytes_zero: int = 0
    cells: tuple[float, ...] = ()
    problem: str = ""

    @property
    def disk(self) -> PointDisk:
        """The disk as it is now, or was last."""
        found = self.after or self.before
        assert found is not None
        return found

    @property
    def is_resized(self) -> bool:
        return self.before is not None and self.after is not None and self.before.size != self.after.size

    @property
    def change(self) -> DiskChange:
        if self.before is None or self.after is None:
            return "added" if self.before is None else "removed"
        return "changed" if self.regions or self.is_resized or self.problem else "same"


@dataclass(frozen=True)
class PointDifference:
    """What became of the disks of a VM: those of `after` in its order, then those that only `before` has."""

    before: Point
    after: Point
    disks: tuple[DiskDifference, ...]

    @property
    def bytes_differ(self) -> int:
        """Bytes of all disks that are not what they were."""
        return sum(disk.bytes_differ for disk in self.disks)


@dataclass(frozen=True)
class DiskRegions:
    """A part of what differs of a disk: extents in bytes, ascending and apart from each other or of other flags; ZERO
    in the flags where they read as zero now.
    """

    disk: PointDisk
    extents: Extents


async def compare_points(
    repository: Repository, before: Point, after: Point, *, disks: tuple[str, ...] = (), cells: int = 0
) -> PointDifference:
    """Compare the disks of two points of one VM (ids or labels; none named: all) by the digests of their blocks.

    No byte of a disk is read, but both manifests of each: 16 bytes for each 64 KiB that are not zero.
    `cells`: how many parts of each disk to tell apart, 4096 at most.
    Errors: OptionsError (two VMs; `cells`), NotFoundError (no such disk), LockedError (a point is being removed).  A
            disk that cannot be compared says why, and keeps no other from being so.
    """
    if not 0 <= cells <= MAX_CELLS:
        raise OptionsError(f"{cells} cells: between 0 and {MAX_CELLS}")
    async with reading([before, after]):
        found = [await _compare(before, after, pair, cells) for pair in _pairs(before, after, disks)]
    return PointDifference(before, after, tuple(found))


async def region_windows(
    repository: Repository, before: Point, after: Point, *, disks: tuple[str, ...] = ()
) -> AsyncIterator[DiskRegions]:
    """Yield where the disks of two points of one VM differ, one disk after the other, as windows of extents.

    Errors: as compare_points; RepositoryError naming a manifest that cannot be read: those before it were yielded.
    """
    async with reading([before, after]):
        for _, newer in _pairs(before, after, disks):
            if newer is not None:
                async for window in _joined(changed_extents(after, newer.disk_id, since=before)):
                    yield DiskRegions(newer, window)


async def _joined(windows: AsyncIterator[Extents]) -> AsyncIterator[Extents]:
    """Yield the same extents; one that goes on in the next window is one."""
    held: Extents | None = None
    async for window in windows:
        if held is not None:
            end = held["offset"][0] + held["length"][0]
            if (end, held["flags"][0]) == (window["offset"][0], window["flags"][0]):
                window["offset"][0] = held["offset"][0]
                window["length"][0] += held["length"][0]
            else:
                yield held
        if len(window) > 1:
            yield window[:-1]
        held = window[-1:].copy()
    if held is not None:
        yield held


async def _compare(
    before: Point, after: Point, pair: tuple[PointDisk | None, PointDisk | None], cells: int
) -> DiskDifference:
    older, newer = pair
    if newer is None:
        return DiskDifference(older, newer)
    profile = Profile(newer.size, cells)
    try:
        async for window in changed_extents(after, newer.disk_id, since=before):
            profile.add(window)
    except RepositoryError as exc:
        return DiskDifference(older, newer, problem=str(exc))
    return DiskDifference(
        older, newer, profile.regions, profile.bytes_differ, profile.bytes_zero, profile.shares() if cells else ()
    )


def _pairs(before: Point, after: Point, names: tuple[str, ...]) -> list[tuple[PointDisk | None, PointDisk | None]]:
    """Return each disk as it was and as it is.  Errors: OptionsError, NotFoundError."""
    if before.vm_id != after.vm_id:
        raise OptionsError(
            f"point {before.id} is of VM {before.vm_id}, point {after.id} of {after.vm_id}: "
            f"compare two points of one VM"
        )
    pairs = [(before.find_disk(disk.disk_id), disk) for disk in after.disks]
    gone = [disk for disk in before.disks if after.find_disk(disk.disk_id) is None]
    every: list[tuple[PointDisk | None, PointDisk | None]] = [*pairs, *((disk, None) for disk in gone)]
    if not names:
        return every
    wanted = {_named(before, after, name).disk_id for name in names}
    return [pair for pair in every if any(disk is not None and disk.disk_id in wanted for disk in pair)]


def _named(before: Point, after: Point, name: str) -> PointDisk:
    """Return the disk that a name means in the later point, or only in the earlier one.  Errors: NotFoundError."""
    lowered = name.lower()
    is_gone = any(lowered in (disk.disk_id, disk.label.lower()) for disk in before.disks)
    is_here = any(lowered in (disk.disk_id, disk.label.lower()) for disk in after.disks)
    return before.disk(name) if is_gone and not is_here else after.disk(name)

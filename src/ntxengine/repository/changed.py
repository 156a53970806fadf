"""Where a disk of a point differs from an older point, by their manifests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.differing import differing_extents
from ntxengine.dataplane.extents import Extents
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import OptionsError
from ntxengine.repository.chain import open_manifest
from ntxengine.repository.point import Point, PointDisk
from ntxengine.repository.scan import read_point


async def changed_extents(point: Point, disk: str, *, since: Point | None = None) -> AsyncIterator[Extents]:
    """Yield where a disk of `point`, named by id or label, differs from the same disk in its parent, or in `since`.

    Shape:  windows, ascending: arrays of extents with the fields offset, length and flags.  ZERO in the flags: it reads
            as zero in `point`.  Where there is no older point (a full one has no parent), or none with this disk: all
            that is not zero.
    Units:  bytes, whole blocks of 64 KiB; the last one ends with the disk.
    Errors: NotFoundError (no such disk), OptionsError (`since` is of another VM), RepositoryError (a point or a
            manifest is damaged or missing).
    """
    wanted = point.disk(disk)
    older = since or await to_thread_joined(_parent, point)
    if older is not None and older.vm_id != point.vm_id:
        raise OptionsError(f"point {older.id} is of VM {older.vm_id}, point {point.id} of {point.vm_id}")
    with ExitStack() as stack:
        # Entered in the thread: what it opened is closed also if we are cancelled meanwhile.
        after = await to_thread_joined(lambda: stack.enter_context(open_manifest(point.path, wanted)))
        before = await to_thread_joined(lambda: stack.enter_context(_before(older, wanted)))
        windows = differing_extents(before, after)
        while (window := await to_thread_joined(next, windows, None)) is not None:
            yield window


def _parent(point: Point) -> Point | None:
    return None if point.parent_id is None else read_point(point.path.parent / point.parent_id)[0]


def _before(older: Point | None, disk: PointDisk) -> Manifest:
    """Open the manifest of a disk in an older point; where it is not in it, that of a disk of zeros."""
    disks = () if older is None else older.disks
    found = next((candidate for candidate in disks if candidate.disk_id == disk.disk_id), None)
    if older is None or found is None:
        return Manifest.temporary(size=disk.size)
    return open_manifest(older.path, found)

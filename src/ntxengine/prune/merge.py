"""The disks of a point made anew, on top of fewer points: what shows of it and of what it takes over, in new images.

    own bytes, and bytes of what is taken over     read through the old chain, compared with the digests of the point
    what differs from the point below              the same, or zero
    the rest                                       is in the point below

A new image is read back before anybody relies on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ntxengine.concurrency.completion import run_to_completion, to_thread, to_thread_joined
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.differing import differing_extents, require_same
from ntxengine.dataplane.extents import EXTENT, ZERO, ExtentFile, Extents, beginning_at, clipped, concatenate, normalise
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import ChecksumMismatch
from ntxengine.events import Emitter, ProgressAdapter, Stage, StageBegan, Subject
from ntxengine.files import durable
from ntxengine.images.choice import OWN, ImageOptions
from ntxengine.images.create import WRITERS, NewImage, create_image, make_image
from ntxengine.images.header import is_compressed
from ntxengine.images.open import open_with_clusters
from ntxengine.prune.plan import Merge
from ntxengine.repository import Chains, Point, PointDisk, Repository, backing_name, next_image_name
from ntxengine.verify import Below, verify_disk

_FORMAT = "qcow2"


@dataclass(frozen=True)
class Merging:
    """What the disks of one merge share."""

    repository: Repository
    merge: Merge
    options: CopyOptions
    emit: Emitter

    def subject_of(self, disk: PointDisk) -> Subject:
        """Return who the events of a disk are about."""
        point = self.merge.point
        return {
            "vm_id": point.vm_id,
            "vm_name": point.vm_name,
            "point_id": point.id,
            "disk_id": disk.disk_id,
            "disk_label": disk.label,
        }


def merged_point(merge: Merge) -> Point:
    """Return what the point says of itself afterwards."""
    disks = tuple(_merged_disk(merge, disk) for disk in merge.point.disks)
    is_full = not any(disk.backing for disk in disks)
    onto = None if is_full or merge.onto is None else merge.onto.id
    return dataclasses.replace(merge.point, disks=disks, parent_id=onto, kind="full" if is_full else merge.point.kind)


def _merged_disk(merge: Merge, disk: PointDisk) -> PointDisk:
    if not merge.taken_from(disk):
        return disk
    below = merge.disk_below(disk)
    backing = "" if below is None or merge.onto is None else backing_name(merge.onto.id, below.file)
    return dataclasses.replace(disk, file=next_image_name(disk), backing=backing, writer=WRITERS[_FORMAT].version)


async def merge_disk(merging: Merging, disk: PointDisk) -> int:
    """Make the new image of a disk, whole and synced, and return its bytes on the file system.

    After an error it is not there.
    Errors: ChecksumMismatch, RepositoryError, SourceError (what is there is damaged), TargetError, ToolError.
    """
    merge = merging.merge
    merged = merged_point(merge)
    new_disk = merged.disk(disk.disk_id)
    path = merged.image_path(new_disk)
    try:
        await _write(merging, disk, new_disk, path)
        await to_thread_joined(durable.restrict, path)
        await to_thread_joined(durable.sync, path)
        await _read_back(merging, merged, new_disk)
        return (await to_thread_joined(path.stat)).st_blocks * 512
    except BaseException:
        await run_to_completion(to_thread(_remove, path))
        raise


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()


async def _write(merging: Merging, disk: PointDisk, new_disk: PointDisk, path: Path) -> None:
    repository, merge = merging.repository, merging.merge
    below = merge.disk_below(disk)
    subject = merging.subject_of(disk)
    merging.emit(StageBegan(stage=Stage.MERGE, **subject))
    chain = await repository.images(merge.point, disk)
    lower = () if below is None or merge.onto is None else await repository.images(merge.onto, below)
    image = await to_thread_joined(_image_options, chain[: merge.taken_from(disk) + 1])
    new = NewImage(path, disk.size, new_disk.backing, lower, image)
    if not disk.size:
        await make_image(new, _FORMAT)
        return
    async with AsyncExitStack() as stack:
        stored = stack.enter_context(await repository.manifest(merge.point, disk))
        before = stack.enter_context(
            Manifest.temporary(size=disk.size) if below is None else await _manifest(merging, below)
        )
        found = stack.enter_context(Manifest.temporary(size=disk.size))
        opened = await stack.enter_async_context(
            open_with_clusters(chain, timeout_s=merging.options.timeout_s, connections=merging.options.most_connections)
        )
        moved = stack.enter_context(ExtentFile())
        await to_thread_joined(
            _collect, moved, _own(opened.clusters, merge.taken_from(disk), disk.size), before, stored
        )
        async with create_image(new, _FORMAT, merging.options) as written:
            await dataplane.copy(
                opened.device,
                written.device,
                moved.windows(),
                options=dataclasses.replace(merging.options, target_is_zero=not new.backing),
                manifest=found,
                bytes_expected=moved.bytes_data,
                on_progress=ProgressAdapter(merging.emit, Stage.MERGE, subject),
            )
            await to_thread_joined(
                require_same, stored, found, moved.windows(), f"point {merge.point.id} disk {disk.label}"
            )
            await written.finish()


async def _manifest(merging: Merging, below: PointDisk) -> Manifest:
    assert merging.merge.onto is not None
    return await merging.repository.manifest(merging.merge.onto, below)


def _image_options(images: tuple[Path, ...]) -> ImageOptions:
    """Compress what was compressed."""
    return ImageOptions(zstd_level=1) if any(map(is_compressed, images)) else OWN


def _own(clusters: Extents | None, taken: int, size: int) -> Extents | None:
    """Return where the disk is data of its own image or of one that is taken over; None if nobody can tell."""
    if clusters is None:
        return None
    own = clusters[((clusters["flags"] & ZERO) == 0) & (clusters["file"] <= taken)]
    extents = np.zeros(len(own), dtype=EXTENT)
    extents["offset"], extents["length"] = own["offset"], own["length"]
    return clipped(extents, size)


def _collect(moved: ExtentFile, own: Extents | None, before: Manifest, stored: Manifest) -> None:
    """Collect what is to be written: own bytes, and blocks that differ from those below by their digests."""
    for window in _joined(own, differing_extents(before, stored), stored.size):
        moved.append(window)
    moved.flush()


def _joined(own: Extents | None, windows: Iterator[Extents], size: int) -> Iterator[Extents]:
    """Yield both in one: data where either says data."""
    if own is None:
        yield from windows
        return
    at = 0
    for window in windows:
        end = int(window["offset"][-1] + window["length"][-1])
        yield normalise(concatenate([_between(own, at, end), window]), size=size, name="what is merged")
        at = end
    yield _between(own, at, size)


def _between(extents: Extents, begin: int, end: int) -> Extents:
    return clipped(next(beginning_at(begin, [extents])), end)


async def _read_back(merging: Merging, merged: Point, disk: PointDisk) -> None:
    """Compare the new image with the digests of its point, and say what differs.  Errors: ChecksumMismatch."""
    merge = merging.merge
    subject = merging.subject_of(disk)
    merging.emit(StageBegan(stage=Stage.VERIFY, **subject))
    below = merge.disk_below(merge.point.disk(disk.disk_id))
    trusted = None if below is None or merge.onto is None else Below(merge.onto, below, 1, {})
    verdict = await verify_disk(
        merging.repository,
        merged,
        disk,
        below=trusted,
        chains=Chains([merged]),
        options=merging.options,
        on_progress=ProgressAdapter(merging.emit, Stage.VERIFY, subject),
    )
    merging.emit.raise_failure()
    if verdict.problem:
        raise ChecksumMismatch(
            f"point {merged.id} disk {disk.label}: what was merged reads back wrong: {verdict.problem}",
            offsets=verdict.offsets,
            blocks=verdict.wrong_blocks,
        )

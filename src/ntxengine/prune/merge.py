"""The disks of a point made anew, on top of fewer points: what shows of it and of what it takes over, in new images."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.events import Emitter, ProgressAdapter, Stage, StageBegan, Subject
from ntxengine.files import durable
from ntxengine.images.create import NewImage
from ntxengine.prune.plan import Merge
from ntxengine.rebase import WRITER, Rebased, prove, rebase_disk
from ntxengine.repository import Chains, Point, PointDisk, Repository, backing_name, next_image_name


@dataclass(frozen=True)
class Merging:
    """What the disks of one merge share.  `points` are all of the VM, as their folders have them now."""

    repository: Repository
    merge: Merge
    points: tuple[Point, ...]
    options: CopyOptions
    emit: Emitter

    def progress(self, stage: Stage, disk: PointDisk) -> ProgressAdapter:
        """Tell that a stage of a disk begins, and return what tells how far it is."""
        point = self.merge.point
        subject: Subject = {
            "vm_id": point.vm_id,
            "vm_name": point.vm_name,
            "point_id": point.id,
            "disk_id": disk.disk_id,
            "disk_label": disk.label,
        }
        self.emit(StageBegan(stage=stage, **subject))
        return ProgressAdapter(self.emit, stage, subject)


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
    return dataclasses.replace(disk, file=next_image_name(disk), backing=backing, writer=WRITER)


async def merge_disk(merging: Merging, disk: PointDisk) -> None:
    """Make the new image of a disk, whole and synced, and read it back.  After an error it is not there.

    Errors: ChecksumMismatch, RepositoryError, SourceError (what is there is damaged), TargetError, ToolError.
    """
    repository, merge = merging.repository, merging.merge
    merged = merged_point(merge)
    new_disk = merged.disk(disk.disk_id)
    lower = merge.disk_below(disk)
    onto = None if lower is None or merge.onto is None else (merge.onto, lower)
    path = merged.image_path(new_disk)
    chains = Chains(merging.points)
    try:
        with ExitStack() as stack:
            # Of a killed merge: no point said that it is a disk, nobody reads it.
            await to_thread_joined(durable.remove_file, path)
            below = () if onto is None else await repository.images(*onto, chains=chains)
            rebased = Rebased(
                name=f"point {merge.point.id} disk {disk.label}",
                chain=await repository.images(merge.point, disk, chains=chains),
                stored=stack.enter_context(await repository.manifest(merge.point, disk)),
                before=None if onto is None else stack.enter_context(await repository.manifest(*onto)),
                taken=1 + merge.taken_from(disk),
                new=NewImage(path, disk.size, new_disk.backing, below),
                shares=True,
            )
            await rebase_disk(rebased, options=merging.options, on_progress=merging.progress(Stage.MERGE, disk))
        on_progress = merging.progress(Stage.VERIFY, disk)
        await prove(
            repository, merged, new_disk, onto, known=merging.points, options=merging.options, on_progress=on_progress
        )
        merging.emit.raise_failure()
    except BaseException:
        await to_thread_joined(_remove, path)
        raise


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()

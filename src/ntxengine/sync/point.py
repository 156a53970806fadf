"""One point of a repository written into another, each disk on top of what is there, and read back there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.concurrency.parallel import map_limited
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import RepositoryError
from ntxengine.events import Emitter, ProgressAdapter, Stage, StageBegan, Subject
from ntxengine.files import durable
from ntxengine.rebase import WRITER, Rebased, prove, rebase_disk
from ntxengine.repository import Point, PointDisk, Repository, UnfinishedPoint, VmLock, copy_said
from ntxengine.sync.plan import disks_below, images_above


@dataclass(frozen=True)
class PointCopy:
    """A point of `here` that `there`, where the VM is locked, is to have on top of `parent`.

    `chain` is what it is made of here, itself first.
    """

    here: Repository
    there: Repository
    lock: VmLock
    chain: Sequence[Point]
    parent: Point | None
    options: CopyOptions
    parallel: int
    emit: Emitter

    @property
    def point(self) -> Point:
        return self.chain[0]

    async def run(self) -> Point:
        """Copy it, or go on where an earlier try was interrupted, and return what is there now.

        Errors: RepositoryError, ChecksumMismatch, SourceError (it is damaged here), TargetError, ToolError.
        """
        config = await self._config()
        unfinished = await self.there.begin_copy(self.lock, self.point, self.parent)
        entries = await map_limited(
            list(disks_below(self.point, self.parent)), partial(self._copy, unfinished), at_once=self.parallel
        )
        await copy_said(self.here, self.there, self.lock, self.point.id)
        return await unfinished.commit(self._record(unfinished, entries), vm_config=config)

    async def _config(self) -> Mapping[str, Any] | None:
        data = await self.here.vm_config(self.point)
        if data is None:
            return None
        try:
            found = json.loads(data)
        except ValueError as exc:
            raise RepositoryError(f"{self.point.path}: its configuration is no JSON: {exc}") from exc
        if not isinstance(found, dict):
            raise RepositoryError(f"{self.point.path}: its configuration is no JSON object")
        return found

    def _record(self, unfinished: UnfinishedPoint, disks: Sequence[PointDisk]) -> Point:
        is_incremental = any(disk.backing for disk in disks)
        return dataclasses.replace(
            self.point,
            disks=tuple(disks),
            parent_id=self.parent.id if self.parent is not None and is_incremental else None,
            kind="incremental" if is_incremental else "full",
            path=unfinished.path,
        )

    async def _copy(self, unfinished: UnfinishedPoint, pair: tuple[PointDisk, PointDisk | None]) -> PointDisk:
        disk, below = pair
        new = await unfinished.add_disk(disk.disk_id, disk.size, below)
        entry = dataclasses.replace(
            unfinished.disk_entry(disk.disk_id, disk.label, disk.digest, writer=WRITER), backing=new.backing
        )
        onto = None if below is None or self.parent is None else (self.parent, below)
        with ExitStack() as stack:
            stored = stack.enter_context(await self.here.manifest(self.point, disk))
            rebased = Rebased(
                name=f"point {self.point.id} disk {disk.label}",
                chain=await self.here.images(self.point, disk),
                stored=stored,
                before=None if onto is None else stack.enter_context(await self.there.manifest(*onto)),
                taken=len(self.chain) if self.parent is None else images_above(self.chain, disk, self.parent),
                new=new,
                journal=unfinished.resume_paths(disk.disk_id).journal,
            )
            await rebase_disk(rebased, options=self.options, on_progress=self._progress(Stage.COPY, disk))
            await to_thread_joined(_copy_manifest, stored, unfinished.manifest_path(disk.disk_id))
        becoming = dataclasses.replace(self._record(unfinished, [entry]), disks=(entry,))
        on_progress = self._progress(Stage.VERIFY, disk)
        await prove(self.there, becoming, entry, onto, options=self.options, on_progress=on_progress)
        self.emit.raise_failure()
        return entry

    def _progress(self, stage: Stage, disk: PointDisk) -> ProgressAdapter:
        subject: Subject = {
            "vm_id": self.point.vm_id,
            "vm_name": self.point.vm_name,
            "point_id": self.point.id,
            "disk_id": disk.disk_id,
            "disk_label": disk.label,
        }
        self.emit(StageBegan(stage=stage, **subject))
        return ProgressAdapter(self.emit, stage, subject)


def _copy_manifest(stored: Manifest, path: Path) -> None:
    durable.remove_file(path)
    with Manifest.copy_of(stored, path, size=stored.size) as copy:
        copy.seal()

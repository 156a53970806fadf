"""`kvm:DIR`: raw or QCOW2 files for libvirt, Proxmox, oVirt, CloudStack, with a libvirt domain.

raw     written in place, or beside it where the file system shares blocks (raw.py)
qcow2   an overlay for each generation (qcow2.py); what no generation needs by itself is merged (../history.py)
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.machines import DiskFile, DiskFormat, Machine, writer
from ntxengine.replicate.state import Replica, StoredReplicaDisk
from ntxengine.replicate.targets.base import Finished, Kept, Named, Place, TargetDisk, stem_of
from ntxengine.replicate.targets.definition import write_definition
from ntxengine.replicate.targets.folder import FolderTarget
from ntxengine.replicate.targets.qcow2 import Qcow2Place, check_chain, mend_backing, reading_chain
from ntxengine.replicate.targets.raw import RawPlace, check_raw, reading_raw


class KvmTarget(FolderTarget):
    """See above."""

    kind = "kvm"
    forms = ("raw", "qcow2")
    passing = re.compile(
        r"[A-Za-z0-9._-]+-[a-z0-9]{8}\.(?:raw\.g[0-9]+\.next|g[0-9]+(?:m[0-9]+)?\.qcow2(?:\.map)?)"
        r"|[^/]+\.xml\.g[0-9]+\.next"
    )
    lasting = re.compile(r"[A-Za-z0-9._-]+-[a-z0-9]{8}\.(?:raw|xml)")

    @property
    def has_history(self) -> bool:
        """As Target.has_history."""
        return self.form == "qcow2"

    @property
    def can_mend(self) -> bool:
        """As Target.can_mend: an image is never written again."""
        return self.form == "raw"

    async def check(self, named: Named, disks: Sequence[TargetDisk]) -> None:
        """As Target.check."""
        await super().check(named, disks)
        for disk in disks:
            if self.form == "raw":
                await to_thread_joined(check_raw, self._raw(named, disk), disk, named)
            else:
                await to_thread_joined(check_chain, self.folder_of(named), disk, named)

    def chain_folder(self, named: Named) -> Path | None:
        """As Target.chain_folder."""
        return self.folder_of(named) if self.form == "qcow2" else None

    def _mend(self, path: Path, replica: Replica) -> None:
        if self.form == "qcow2":
            mend_backing(path, replica.disks)

    def place(self, named: Named, disk: TargetDisk, generation: int, *, is_incremental: bool) -> Place:
        """As Target.place."""
        if self.form == "raw":
            return RawPlace(disk, self._raw(named, disk), generation)
        name = f"{stem_of(disk)}.g{generation}.qcow2"
        return Qcow2Place(disk, self.folder_of(named), name, is_incremental=is_incremental)

    @asynccontextmanager
    async def reading(self, named: Named, disk: StoredReplicaDisk, options: CopyOptions) -> AsyncIterator[Device]:
        """As Target.reading."""
        chain = tuple(self.folder_of(named) / image.name for image in disk.files)
        opening = reading_raw(chain[0], options) if self.form == "raw" else reading_chain(chain, options)
        async with opening as device:
            yield device

    def check_machine(self, machine: Machine) -> None:
        """As Target.check_machine."""
        writer("libvirt").check(machine, self.options.definition)

    async def finish(
        self, named: Named, generation: int, disks: Sequence[Kept], machine: Machine | None, folder: Path
    ) -> Finished:
        """As Target.finish: a libvirt domain, which names the newest files."""
        del folder
        if machine is None:
            return Finished()
        at = self.folder_of(named)
        form: DiskFormat = "raw" if self.form == "raw" else "qcow2"
        files = [DiskFile(kept.disk.disk_id, str(at / kept.files[0]), form) for kept in disks]
        return await write_definition(at, named.name, generation, "libvirt", machine, files, self.options.definition)

    def _raw(self, named: Named, disk: TargetDisk) -> Path:
        name = disk.before.files[0].name if disk.before is not None else f"{stem_of(disk)}.raw"
        return self.folder_of(named) / name

"""`vmware:DIR`: a folder of a datastore that is mounted here, as NFS is: flat VMDKs, with a VMX and an OVF.

NAME.vmx, NAME.ovf        the machine: to be registered, or read by others
<disk>.vmdk               the descriptor: written anew for each generation, with a content id of its own
<disk>-flat.vmdk          the bytes: a raw file, in place or beside what is there, as for KVM (raw.py)

| form | the descriptor says    | for                                                     |
|------|------------------------|---------------------------------------------------------|
| vmfs | vmfs, as ESXi writes it | ESXi, on NFS too                                       |
| flat | monolithicFlat          | VMware Workstation, and what reads only what it writes |
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.files import durable
from ntxengine.images.vmdk import FLAT_KINDS, NO_PARENT, Adapter, FlatKind, check_size, flat_descriptor
from ntxengine.machines import DefinitionOptions, DiskFile, Machine, writer
from ntxengine.replicate.state import Replica, StoredReplicaDisk
from ntxengine.replicate.targets.base import Finished, Kept, Named, Place, TargetDisk, next_name, stem_of
from ntxengine.replicate.targets.definition import write_definition
from ntxengine.replicate.targets.folder import FolderTarget
from ntxengine.replicate.targets.raw import RawPlace, check_raw, reading_raw

_FLAT = "-flat.vmdk"


class VmwareTarget(FolderTarget):
    """See above."""

    kind = "vmware"
    forms = FLAT_KINDS
    passing = re.compile(
        r"[A-Za-z0-9._-]+-[a-z0-9]{8}(?:-flat)?\.vmdk\.g[0-9]+\.next|[^/]+\.(?:vmx|ovf)\.g[0-9]+\.next"
    )
    lasting = re.compile(r"[A-Za-z0-9._-]+-[a-z0-9]{8}(?:(?:-flat)?\.vmdk|\.vmx|\.ovf)")

    async def check(self, named: Named, disks: Sequence[TargetDisk]) -> None:
        """As Target.check."""
        await super().check(named, disks)
        for disk in disks:
            check_size(disk.size, f"{self.text}: {disk}")
            await to_thread_joined(check_raw, self._flat(named, disk), disk, named)

    def check_machine(self, machine: Machine) -> None:
        """As Target.check_machine."""
        for kind in ("vmx", "ovf"):
            writer(kind).check(machine, self.options.definition)

    def place(self, named: Named, disk: TargetDisk, generation: int, *, is_incremental: bool) -> Place:
        """As Target.place."""
        del is_incremental
        return RawPlace(disk, self._flat(named, disk), generation)

    async def finish(
        self, named: Named, generation: int, disks: Sequence[Kept], machine: Machine | None, folder: Path
    ) -> Finished:
        """As Target.finish: descriptors, then what names them."""
        del folder
        at, renames, files = self.folder_of(named), [], []
        for kept in disks:
            name = descriptor_of(kept.files[0])
            text = self._descriptor(kept.disk, kept.files[0], generation, machine)
            now = next_name(name, generation)
            await to_thread_joined(durable.replace_file, at / now, text)
            renames.append((now, name))
            files.append(DiskFile(kept.disk.disk_id, name, "vmdk", file_size=len(text)))
        if machine is None:
            return Finished(tuple(renames))
        made = [
            await write_definition(at, named.name, generation, kind, machine, files, self.options.definition)
            for kind in ("vmx", "ovf")
        ]
        for each in made:
            renames += each.renames
        vmx, ovf = made
        only_ovf = (loss for loss in ovf.not_carried_over if loss not in vmx.not_carried_over)
        return Finished(tuple(renames), vmx.definition, (*vmx.not_carried_over, *only_ovf))

    def copied_name(self, disk: StoredReplicaDisk) -> str:
        """As Target.copied_name: as it is called in the replica."""
        return disk.files[0].name

    async def define_copy(
        self,
        folder: Path,
        name: str,
        files: dict[str, Path],
        disks: Sequence[StoredReplicaDisk],
        machine: Machine,
        options: DefinitionOptions,
    ) -> tuple[Path, tuple[str, ...]]:
        """As Target.define_copy: descriptors and a VMX."""
        named = []
        for disk in disks:
            flat = files[disk.disk_id].name
            text = self._descriptor(disk, flat, 0, machine)
            await to_thread_joined(durable.write_file, folder / descriptor_of(flat), text)
            named.append(DiskFile(disk.disk_id, descriptor_of(flat), "vmdk"))
        chosen = writer("vmx")
        found = chosen.write(machine, named, options)
        path = folder / f"{name}{chosen.suffix}"
        await to_thread_joined(durable.write_file, path, found.text.encode())
        return path, found.losses

    def _descriptor(
        self, disk: TargetDisk | StoredReplicaDisk, flat: str, generation: int, machine: Machine | None
    ) -> bytes:
        kind: FlatKind = "vmfs" if self.form == "vmfs" else "flat"
        cid = content_id(disk.disk_id, generation)
        return flat_descriptor(kind, disk.size, flat, content_id=cid, adapter=adapter_of(machine, disk.disk_id))

    @asynccontextmanager
    async def reading(self, named: Named, disk: StoredReplicaDisk, options: CopyOptions) -> AsyncIterator[Device]:
        """As Target.reading."""
        async with reading_raw(self.folder_of(named) / disk.files[0].name, options) as device:
            yield device

    def files_of(self, replica: Replica) -> set[str]:
        """As Target.files_of."""
        machine = (
            {replica.definition, f"{replica.definition.removesuffix('.vmx')}.ovf"} if replica.definition else set()
        )
        return replica.names | {descriptor_of(name) for name in replica.names} | machine

    def _flat(self, named: Named, disk: TargetDisk) -> Path:
        name = disk.before.files[0].name if disk.before is not None else f"{stem_of(disk)}{_FLAT}"
        return self.folder_of(named) / name


def descriptor_of(flat_name: str) -> str:
    """Return the name of the descriptor of a flat file."""
    return f"{flat_name.removesuffix(_FLAT)}.vmdk"


def adapter_of(machine: Machine | None, disk_id: str) -> Adapter:
    """Return what a disk is connected by, as a descriptor tells it."""
    wanted = disk_id.lower()
    found = None if machine is None else next((each for each in machine.disks if each.id.lower() == wanted), None)
    return "ide" if found is not None and found.bus == "ide" else "lsilogic"


def content_id(disk_id: str, generation: int) -> int:
    """Return the content id of a disk at a generation: another for each, and never that of no parent."""
    digest = hashlib.sha256(f"{disk_id.lower()}:{generation}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % NO_PARENT

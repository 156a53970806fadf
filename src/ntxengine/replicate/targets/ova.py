"""`ovf:DIR`, once: an OVA, the machine and its disks in one file.  A second run makes all of it anew.

<disk>.raw.g3.next   what is read of the VM is written here first: changes come in no order, and an OVA has one
NAME.ova.g3.next     made of these --> (commit) --renamed--> NAME.ova; the raw files are removed

LIMIT: for a while both are there: the file system needs room for the data of the VM, and for them compressed.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.open import naming, open_source
from ntxengine.errors import OptionsError
from ntxengine.files import durable
from ntxengine.images.ova import OvaDisk, member_of, write_ova
from ntxengine.images.qemu_nbd import QemuNbd
from ntxengine.images.served import Embedded
from ntxengine.images.vmdk import NO_PARENT, check_size
from ntxengine.machines import Definition, DiskFile, Machine, writer
from ntxengine.replicate.state import StoredReplicaDisk
from ntxengine.replicate.targets.base import Finished, Kept, Named, Place, TargetDisk, next_name, stem_of
from ntxengine.replicate.targets.folder import FolderTarget
from ntxengine.replicate.targets.raw import NewRawPlace
from ntxengine.replicate.targets.vmware import adapter_of
from ntxengine.units import utc_now


class OvaTarget(FolderTarget):
    """See above."""

    kind = "ovf"
    forms = ("ova",)
    follows = False
    needs_machine = True
    ours = re.compile(r"[A-Za-z0-9._-]+-[a-z0-9]{8}\.raw\.g[0-9]+\.next|[^/]+\.ova\.g[0-9]+\.next")

    async def check(self, named: Named, disks: Sequence[TargetDisk], *, is_first: bool) -> None:
        """As Target.check."""
        await super().check(named, disks, is_first=is_first)
        for disk in disks:
            check_size(disk.size, f"{self.text}: {disk}")

    def check_machine(self, machine: Machine) -> None:
        """As Target.check_machine."""
        writer("ovf").check(machine, self.options.definition)

    async def check_room(self, named: Named, bytes_needed: int) -> None:
        """As Target.check_room: for the raw files, and for what they are when compressed, which may be no less."""
        await super().check_room(named, 2 * bytes_needed)

    def place(self, named: Named, disk: TargetDisk, generation: int, *, is_incremental: bool) -> Place:
        """As Target.place."""
        del is_incremental
        return _StagedPlace(disk, self.folder_of(named) / f"{stem_of(disk)}.raw", generation)

    async def finish(
        self, named: Named, generation: int, disks: Sequence[Kept], machine: Machine | None, folder: Path
    ) -> Finished:
        """As Target.finish: the OVA is made of what was written."""
        del folder
        if machine is None:
            raise OptionsError(f"{self.text}: is nothing without a definition of the machine")
        at, final = self.folder_of(named), f"{named.name}.ova"
        now = next_name(final, generation)
        options = dataclasses.replace(self.options.definition, now=self.options.definition.now or utc_now())
        contents = [
            OvaDisk(
                at / next_name(f"{stem_of(kept.disk)}.raw", generation),
                kept.disk.size,
                kept.files[0],
                adapter_of(machine, kept.disk.disk_id),
                secrets.randbelow(NO_PARENT),
            )
            for kept in disks
        ]

        def define(lengths: Sequence[int]) -> Definition:
            named_files = [
                DiskFile(kept.disk.disk_id, kept.files[0], "stream-vmdk", file_size=length)
                for kept, length in zip(disks, lengths, strict=True)
            ]
            return writer("ovf").write(machine, named_files, options)

        losses = define([0] * len(disks)).losses
        try:
            await write_ova(
                at / now, named.name, contents, lambda sizes: define(sizes).text.encode(), made_at=utc_now()
            )
            await to_thread_joined(durable.sync, at / now)
            await to_thread_joined(durable.sync_folder, at)
        except BaseException:
            await to_thread_joined(durable.remove_file, at / now)
            raise
        return Finished(((now, final),), final, losses)

    def path_of(self, named: Named, name: str) -> Path | None:
        """As Target.path_of: disks are parts of the OVA."""
        del named, name
        return None

    @asynccontextmanager
    async def reading(self, named: Named, disk: StoredReplicaDisk, options: CopyOptions) -> AsyncIterator[Device]:
        """As Target.reading: qemu reads the disk where it lies in the OVA."""
        path = self.folder_of(named) / f"{named.name}.ova"
        name = disk.files[0].name
        offset, size = await to_thread_joined(member_of, path, name)
        server = QemuNbd(Embedded(path, offset, size), read_only=True)
        async with server, open_source(server.uri, timeout_s=options.timeout_s) as device:
            with naming(device.name, f"{path}: {name}"):
                yield device


class _StagedPlace(NewRawPlace):
    """A raw file that an OVA is made of."""

    async def settle(self) -> Kept:
        """As Place.settle: how the disk is called in the OVA.  The raw file need not survive anything."""
        return Kept(self.disk, (f"{stem_of(self.disk)}.vmdk",))

"""`ovf:DIR`, once: an OVA, the machine and its disks in one file.  A second run makes all of it anew.

<disk>.raw.g3.next   what is read of the VM is written here first: changes come in no order, and an OVA has one
NAME.ova.g3.next     made of these --> (commit) --renamed--> NAME.ova; the raw files are removed

LIMIT: for a while both are there: the file system needs room for the data of the VM, and for them compressed.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
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
from ntxengine.replicate.state import Replica, StoredReplicaDisk
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
    packs = True
    passing = re.compile(r"[A-Za-z0-9._-]+-[a-z0-9]{8}\.raw\.g[0-9]+\.next|[^/]+\.ova\.g[0-9]+\.next")
    lasting = re.compile(r"[A-Za-z0-9._-]+-[a-z0-9]{8}\.ova")

    async def check(self, named: Named, disks: Sequence[TargetDisk]) -> None:
        """As Target.check."""
        await super().check(named, disks)
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

    async def pack(
        self,
        named: Named,
        generation: int,
        disks: Sequence[Kept],
        machine: Machine | None,
        on_progress: Callable[[int], None],
    ) -> None:
        """As Target.pack: the OVA is made of what was written."""
        path = self.folder_of(named) / next_name(f"{named.name}.ova", generation)
        contents = [
            OvaDisk(
                path.with_name(next_name(f"{stem_of(kept.disk)}.raw", generation)),
                kept.disk.size,
                kept.files[0],
                adapter_of(machine, kept.disk.disk_id),
                secrets.randbelow(NO_PARENT),
            )
            for kept in disks
        ]

        def envelope(lengths: Sequence[int]) -> bytes:
            return self._define(disks, lengths, machine).text.encode()

        try:
            await write_ova(path, named.name, contents, envelope, made_at=utc_now(), on_progress=on_progress)
            await to_thread_joined(durable.sync, path)
            await to_thread_joined(durable.sync_folder, path.parent)
        except BaseException:
            await to_thread_joined(durable.remove_file, path)
            raise

    async def finish(
        self, named: Named, generation: int, disks: Sequence[Kept], machine: Machine | None, folder: Path
    ) -> Finished:
        """As Target.finish: it is in the OVA already."""
        del folder
        final = f"{named.name}.ova"
        losses = self._define(disks, [0] * len(disks), machine).losses
        return Finished(((next_name(final, generation), final),), final, losses)

    def _define(self, disks: Sequence[Kept], lengths: Sequence[int], machine: Machine | None) -> Definition:
        if machine is None:
            raise OptionsError(f"{self.text}: is nothing without a definition of the machine")
        options = dataclasses.replace(self.options.definition, now=self.options.definition.now or utc_now())
        files = [
            DiskFile(kept.disk.disk_id, kept.files[0], "stream-vmdk", file_size=length)
            for kept, length in zip(disks, lengths, strict=True)
        ]
        return writer("ovf").write(machine, files, options)

    def files_of(self, replica: Replica) -> set[str]:
        """As Target.files_of: disks are parts of the OVA, and a file of such a name is a person's."""
        return {replica.definition} - {""}

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

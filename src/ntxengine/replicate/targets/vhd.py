"""`vhd:DIR`, once: a VHD of fixed size for each disk, for clouds.  A second run makes all of it anew.

<disk>.g3.next   --written, a footer behind it--> (commit) --renamed--> <disk>.vhd

The disk in it is as large as the next whole number of MiB: what is behind the bytes of the VM reads as zeros.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from ntxengine import files
from ntxengine._core.device import Device
from ntxengine.concurrency.completion import acquire_in_thread, to_thread_joined
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.extents import MAPPED_EXTENT
from ntxengine.errors import OptionsError
from ntxengine.files import durable
from ntxengine.images.vhd import fixed_footer, rounded_size
from ntxengine.machines import Machine
from ntxengine.replicate.state import StoredReplicaDisk
from ntxengine.replicate.targets.base import SECTOR, Finished, Kept, Named, Place, TargetDisk, stem_of
from ntxengine.replicate.targets.folder import FolderTarget
from ntxengine.replicate.targets.raw import NewRawPlace
from ntxengine.units import format_size, utc_now


class VhdTarget(FolderTarget):
    """See above."""

    kind = "vhd"
    forms = ("vhd",)
    follows = False
    passing = re.compile(r"[A-Za-z0-9._-]+-[a-z0-9]{8}\.vhd\.g[0-9]+\.next")
    lasting = re.compile(r"[A-Za-z0-9._-]+-[a-z0-9]{8}\.vhd")

    async def check(self, named: Named, disks: Sequence[TargetDisk]) -> None:
        """As Target.check."""
        await super().check(named, disks)
        for disk in disks:
            rounded_size(disk.size, f"{self.text}: {disk}")

    def check_machine(self, machine: Machine) -> None:
        """As Target.check_machine."""
        for disk in machine.disks:
            if disk.sector_size != SECTOR:
                raise OptionsError(
                    f"{self.text}: disk {disk.label} has sectors of {disk.sector_size} bytes, and a VHD has none but "
                    f"of {SECTOR}: exclude it, or replicate to kvm:DIR"
                )

    def place(self, named: Named, disk: TargetDisk, generation: int, *, is_incremental: bool) -> Place:
        """As Target.place."""
        del is_incremental
        return VhdPlace(disk, self.folder_of(named) / f"{stem_of(disk)}.vhd", generation)

    async def finish(
        self, named: Named, generation: int, disks: Sequence[Kept], machine: Machine | None, folder: Path
    ) -> Finished:
        """As Target.finish: a VHD describes no machine, so what is to be made for the disks is said."""
        del named, generation, folder
        remarks = []
        for kept in disks:
            size = rounded_size(kept.disk.size, str(kept.disk))
            if size != kept.disk.size:
                remarks.append(
                    f"{kept.disk} has {kept.disk.size} bytes, and {size} in its VHD, a whole number of MiB, as clouds "
                    f"want it: the second table of a GPT is not at the end of the disk any more (sgdisk -e moves it)"
                )
        if machine is None:
            return Finished(remarks=tuple(remarks))
        needs = (
            f"a VHD describes no machine: make one with {machine.cpu.count} processors, {format_size(machine.memory)} "
            f"of memory, {machine.firmware.upper()}{' with secure boot' if machine.is_secure_boot else ''}, "
            f"{len(machine.nics)} network cards"
        )
        return Finished(not_carried_over=(needs, *machine.losses), remarks=tuple(remarks))

    def path_of(self, named: Named, name: str) -> Path | None:
        """As Target.path_of: no file is the disk and nothing else."""
        del named, name
        return None

    @asynccontextmanager
    async def reading(self, named: Named, disk: StoredReplicaDisk, options: CopyOptions) -> AsyncIterator[Device]:
        """As Target.reading: the bytes of the VM, without what is behind them."""
        del options
        path = self.folder_of(named) / disk.files[0].name
        device = await acquire_in_thread(lambda: _open_part(path, disk.size), give_back=Device.close)
        try:
            yield device
        finally:
            await to_thread_joined(device.close)


class VhdPlace(NewRawPlace):
    """A raw file, which becomes a VHD once all is written."""

    async def settle(self) -> Kept:
        """As Place.settle."""
        size = rounded_size(self.disk.size, str(self.disk))
        footer = fixed_footer(size, unique_id=uuid.uuid4(), made_at=utc_now())
        await to_thread_joined(_append_footer, self.written, size, footer)
        return await super().settle()


def _append_footer(path: Path, size: int, footer: bytes) -> None:
    try:
        with path.open("r+b") as file:
            file.truncate(size)
            file.seek(size)
            file.write(footer)
    except OSError as exc:
        raise durable.write_error(path, "writing the footer", exc) from exc


def _open_part(path: Path, size: int) -> Device:
    """Open the first bytes of a file.  Errors: RepositoryError (it cannot be read), SourceError (it is shorter)."""
    try:
        fd = files.open_regular(path)
    except OSError as exc:
        raise durable.read_error(path, exc) from exc
    try:
        whole = np.array([(0, size, 0, 0, 0)], dtype=MAPPED_EXTENT)
        return Device.open_mapped(os.fsencode(path), size, [fd], whole)
    finally:
        os.close(fd)

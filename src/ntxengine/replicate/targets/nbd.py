"""NBD servers as a target: one export for each disk, written in place.

    nbd://host/{disk}          the label of the disk, reduced to letters, digits and ._-
    scsi.0=nbd://host/a        one URI for each disk, by its label

A disk that has an export keeps it, whatever its label is later: what is not written is as it was there alone.

LIMIT: that something else writes to an export, or a replica whose state is elsewhere, is not known: no server says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import quote

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.location import Location, parse
from ntxengine.dataplane.open import open_existing, open_source
from ntxengine.errors import OptionsError, PlaceError
from ntxengine.files import durable
from ntxengine.machines import DiskFile, Machine, writer
from ntxengine.replicate.state import Intent, Replica, StoredReplicaDisk
from ntxengine.replicate.targets.base import (
    Finished,
    Kept,
    Named,
    Place,
    Target,
    TargetDisk,
    TargetOptions,
    safe_name,
)
from ntxengine.replicate.targets.definition import write_definition

FIELD = "{disk}"
_TIMEOUT_S = 60.0


class NbdPlace(Place):
    """An export."""

    tells_zeros = False

    def __init__(self, disk: TargetDisk, location: Location, target: TargetOptions) -> None:
        super().__init__(disk)
        self._location = location
        self._options = target
        self.names = (location.text,)

    @asynccontextmanager
    async def writing(self, options: CopyOptions, stored_to: int) -> AsyncIterator[Device]:
        """As Place.writing."""
        del stored_to
        async with _open_for_writing(self._location, self.disk, self._options, options.timeout_s) as device:
            yield device

    @asynccontextmanager
    async def reading(self, options: CopyOptions) -> AsyncIterator[Device]:
        """As Place.reading."""
        opening = open_source(self._location, timeout_s=options.timeout_s, connection=self._options.connection)
        with _named(self._location):
            async with opening as device:
                yield device

    async def settle(self) -> Kept:
        """As Place.settle: the copy ended with a flush."""
        return Kept(self.disk, (self._location.text,))


class NbdTarget(Target):
    """See above."""

    kind = "nbd"
    has_marks = False

    def __init__(self, text: str, options: TargetOptions) -> None:
        super().__init__(text, options)
        self._template = ""
        self._by_label: dict[str, str] = {}
        for each in text.split():
            label, equals, uri = each.partition("=")
            if equals and ":" not in label:
                if label in self._by_label:
                    raise OptionsError(f"{text}: disk {label} has two URIs")
                self._by_label[label] = uri
            elif self._template:
                raise OptionsError(f"{text}: of several URIs each says which disk it is for: write scsi.0={each}")
            else:
                self._template = each
        for uri in filter(None, (self._template, *self._by_label.values())):
            _location(uri.replace(FIELD, "disk"))

    @property
    def place_text(self) -> str:
        """As Target.place_text."""
        return " ".join(sorted(self.text.split()))

    async def check(self, named: Named, disks: Sequence[TargetDisk]) -> None:
        """As Target.check: each export is there, can be written, and is large enough."""
        del named
        seen: dict[Location, TargetDisk] = {}
        for disk in disks:
            location = self._of(disk, one_of=len(disks))
            if disk.before is None and location.text not in disk.begun and not self.options.overwrite:
                raise OptionsError(
                    f"{self.text}: what the server holds for {disk} would be lost: allow that with --overwrite"
                )
            if (other := seen.setdefault(_export_of(location), disk)) is not disk:
                raise OptionsError(
                    f"{self.text}: {other} and {disk} would go to one export, {location.text}: give each disk a URI of "
                    f"its own (LABEL=nbd://...); a disk keeps the export that it has when it gets another label"
                )
        if unknown := {label for label, uri in self._by_label.items() if _export_of(_location(uri)) not in seen}:
            raise OptionsError(f"{self.text}: the VM has no disk {', '.join(sorted(unknown))}")
        for disk in disks:
            location = self._of(disk)
            async with _open_for_writing(location, disk, self.options, _TIMEOUT_S) as device:
                if disk.size % device.min_block:
                    raise OptionsError(
                        f"{location.text}: takes whole blocks of {device.min_block} bytes, and {disk} has {disk.size} "
                        f"bytes: resize the disk on the cluster, or let the server take smaller blocks"
                    )

    def check_other(self, disks: Sequence[TargetDisk], other: Replica | Intent) -> None:
        """As Target.check_other: an export is that of one replica, however its URI is written."""
        if isinstance(other, Replica):
            names = [disk.files[0].name for disk in other.disks]
        else:
            names = [name for disk in other.disks for name in disk.names]
        taken = {_export_of(_location(name)) for name in names if name.startswith("nbd")}
        for disk in disks:
            location = self._of(disk)
            if _export_of(location) in taken:
                raise OptionsError(
                    f"{location.text}: is written to by another replica, {other.id} of VM {other.vm_name!r}: use "
                    f"another export, or remove the folder of that replica from the state"
                )

    def place(self, named: Named, disk: TargetDisk, generation: int, *, is_incremental: bool) -> Place:
        """As Target.place."""
        del named, generation, is_incremental
        return NbdPlace(disk, self._of(disk), self.options)

    def check_machine(self, machine: Machine) -> None:
        """As Target.check_machine."""
        writer("libvirt").check(machine, self.options.definition)

    async def finish(
        self, named: Named, generation: int, disks: Sequence[Kept], machine: Machine | None, folder: Path
    ) -> Finished:
        """As Target.finish: a libvirt domain that uses the servers, in the folder of the state."""
        if machine is None:
            return Finished()
        files = [DiskFile(kept.disk.disk_id, kept.files[0], "raw") for kept in disks]
        made = await write_definition(
            folder, named.name, generation, "libvirt", machine, files, self.options.definition
        )
        for old, new in made.renames:  # it names no generation
            await to_thread_joined(durable.replace, folder / old, folder / new)
        return Finished((), str(folder / made.definition), made.not_carried_over)

    @asynccontextmanager
    async def reading(self, named: Named, disk: StoredReplicaDisk, options: CopyOptions) -> AsyncIterator[Device]:
        """As Target.reading."""
        del named
        location = _location(disk.files[0].name)
        opening = open_source(location, timeout_s=options.timeout_s, connection=self.options.connection)
        with _named(location):
            async with opening as device:
                yield device

    def _of(self, disk: TargetDisk, *, one_of: int = 1) -> Location:
        if disk.before is not None:
            return _location(disk.before.files[0].name)
        if disk.label in self._by_label:
            return _location(self._by_label[disk.label])
        if not self._template:
            raise OptionsError(f"{self.text}: {disk} has no URI: give {disk.label}=nbd://...")
        if FIELD not in self._template and one_of > 1:
            raise OptionsError(
                f"{self.text}: is one export, and the VM has {one_of} disks: write {FIELD} where the export is named "
                f"after the disk, or one URI for each ({disk.label}=nbd://...)"
            )
        return _location(self._template.replace(FIELD, quote(safe_name(disk.label, "disk"))))


def _location(uri: str) -> Location:
    location = parse(uri)
    if not location.kind.startswith("nbd"):
        raise OptionsError(f"{uri}: is no NBD URI: write nbd://HOST/EXPORT, or nbds:// through TLS")
    return location


def _export_of(location: Location) -> Location:
    """Return what is the same for all ways to write the URI of an export."""
    return dataclasses.replace(location, text="", host=location.host.lower(), is_tls=False, user="")


@asynccontextmanager
async def _open_for_writing(
    location: Location, disk: TargetDisk, options: TargetOptions, timeout_s: float
) -> AsyncIterator[Device]:
    opening = open_existing(
        location, size=disk.size, overwrite=True, timeout_s=timeout_s, connection=options.connection
    )
    with _named(location):
        async with opening as device:
            yield device


@contextmanager
def _named(location: Location) -> Iterator[None]:
    """Let an error begin with the URI as it was written."""
    try:
        yield
    except PlaceError as error:
        if location.text in str(error):
            raise
        text = f"{location.text}: {error}"
        raise type(error)(text, offset=error.offset, length=error.length, errno=error.errno) from error

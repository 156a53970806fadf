"""A replica target: where the disks of a VM are kept up to date, and what makes a machine of them.

    once for each cycle    check -> recover -> place, for each disk -> finish -> (commit) -> publish -> tidy
    place of a disk        prepare -> (intent) -> begin -> writing -> settle        a failure: give_up

A target is a class, and a row in TARGETS (registry.py).  It knows nothing of clusters, recovery points and manifests:
it is told what to make room for, gives a device to write to, and says what a disk consists of then.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.security import PLAIN, ConnectionOptions
from ntxengine.errors import OptionsError
from ntxengine.files import durable
from ntxengine.machines import DefinitionOptions, DiskFile, DiskFormat, Machine, writer
from ntxengine.replicate.state import FOLDER_PREFIX, Intent, Replica, StoredReplicaDisk
from ntxengine.units import format_size

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 60
SECTOR = 512


@dataclass(frozen=True)
class TargetOptions:
    """How a target keeps disks; each takes of it what it has.

    `format` "" is what the target takes by itself.  `history`: so many older generations stay.  `overwrite`: what a
    server holds before the first cycle may be lost.  `connection` is that to NBD servers.  `definition`: how the
    machine is defined.
    """

    format: str = ""
    history: int = 0
    overwrite: bool = False
    connection: ConnectionOptions = field(default_factory=lambda: PLAIN)
    definition: DefinitionOptions = field(default_factory=DefinitionOptions)


@dataclass(frozen=True)
class TargetDisk:
    """A disk that is to be kept: `before` is what the target has of it, None if nothing.

    `begun`: files or exports that a dead cycle may have begun to write it to.  `unnamed`: what its file is called where
    the commit of `before` was not followed by its renames.
    """

    disk_id: str
    label: str
    size: int
    before: StoredReplicaDisk | None = None
    begun: tuple[str, ...] = ()
    unnamed: str = ""

    def __str__(self) -> str:
        return f"disk {self.label} ({self.disk_id})"


@dataclass(frozen=True)
class Named:
    """Whose replica it is: `name` is what it is called on the target, of safe characters alone.

    `state_id` is that of the folder that keeps its state.
    """

    vm_id: str
    vm_name: str
    name: str
    replica_id: str
    state_id: str

    @property
    def anew(self) -> str:
        """What else can be done where the files of a generation are gone."""
        place = f"{self.vm_id}/{FOLDER_PREFIX}{self.replica_id}"
        return f"or remove the folder {place} of its state, so that the next cycle writes all of it"


@dataclass(frozen=True)
class Kept:
    """A disk as it is on the target once it is whole: `files`, newest first; `rename` gives the first its name, if it
    has another until the commit."""

    disk: TargetDisk
    files: tuple[str, ...]
    rename: tuple[str, str] | None = None


@dataclass(frozen=True)
class Finished:
    """What finishing a generation made: `renames` are done after the commit, (from, to), in the folder of the VM.

    `definition` is what describes the machine, "" if nothing does; `not_carried_over` is what it lacks.  `remarks` are
    told as warnings.
    """

    renames: tuple[tuple[str, str], ...] = ()
    definition: str = ""
    not_carried_over: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class Place(ABC):
    """Where one disk is written in one cycle.

    keeps       the generation before stays as it is until this one is whole
    is_zero     it reads as zeros before anything is written: known once it is prepared
    is_unknown  what is there was left by nobody knows what, and is read first: known once it is prepared
    tells_zeros it can be believed where it says that it is zero
    names       files that it makes or writes, for the intent
    """

    keeps: bool = False
    is_zero: bool = False
    is_unknown: bool = False
    tells_zeros: bool = True
    names: tuple[str, ...] = ()

    def __init__(self, disk: TargetDisk) -> None:
        self.disk = disk

    async def prepare(self) -> None:
        """Make what is needed beside what is there.  Nothing that the generation before has is changed.

        Errors: TargetError, RepositoryError (it is not as it was left).
        """
        return

    async def room_for(self, bytes_data: int) -> int:
        """Return how much room so many bytes of data may need, once it is prepared.  Errors: TargetError."""
        return bytes_data

    async def begin(self) -> None:
        """The intent is durable: give it its size.  Errors: TargetError."""
        return

    @abstractmethod
    def writing(self, options: CopyOptions, stored_to: int) -> AbstractAsyncContextManager[Device]:
        """Open it for writing; it is whole if the block ends without an error.  Again after a lost connection, where
        all below `stored_to` (bytes) is stored.

        Errors: as open_existing.
        """

    def keep(self) -> None:
        """What was written survives a lost connection from now on."""
        return

    @abstractmethod
    def reading(self, options: CopyOptions) -> AbstractAsyncContextManager[Device]:
        """Open what is there for reading: before anything is written, or after all was.  Errors: as open_source."""

    @abstractmethod
    async def settle(self) -> Kept:
        """Make it durable, and say what it consists of.  Errors: TargetError."""

    async def give_up(self) -> None:
        """The cycle failed: remove what it made beside."""
        return


class Target(ABC):
    """See above.  `kind` is what its text begins with; `form` is how it keeps disks.

    `follows`: a cycle writes what has changed since the one before.  If not, each makes a whole copy, beside the one
    before until it is whole, and keeps no recovery point.  `needs_machine`: it is nothing without a definition.
    `packs`: what was written is made one file of.  `has_marks`: a place says whose it is, so that nobody need look
    into the state of other replicas.
    """

    kind: ClassVar[str]
    follows: ClassVar[bool] = True
    needs_machine: ClassVar[bool] = False
    packs: ClassVar[bool] = False
    has_marks: ClassVar[bool] = True
    forms: ClassVar[tuple[str, ...]] = ("raw",)

    def __init__(self, text: str, options: TargetOptions) -> None:
        """Errors: OptionsError: it is no such target, or does not take these options."""
        self.text = text
        self.options = options
        self.form = options.format or self.forms[0]
        if self.form not in self.forms:
            raise OptionsError(f"{text}: format {self.form!r}: such a target keeps {' or '.join(self.forms)}")
        if options.history and not self.has_history:
            raise OptionsError(f"{text}: keeps no history as {self.form}: leave out --history, or say --format qcow2")

    @property
    def has_history(self) -> bool:
        """Whether it can keep older generations."""
        return False

    @property
    def can_mend(self) -> bool:
        """Whether what is wrong in a disk can be written over; if not, all of it is written anew."""
        return True

    @property
    @abstractmethod
    def place_text(self) -> str:
        """What tells this target from any other."""

    @property
    def id(self) -> str:
        """What its replicas are called in the state."""
        return hashlib.sha256(f"{self.kind}:{self.place_text}".encode()).hexdigest()[:12]

    @property
    def default_state(self) -> Path | None:
        """Where state is kept if nobody says otherwise; None: somebody has to."""
        return None

    def chain_folder(self, named: Named) -> Path | None:
        """Return the folder in which disks are QCOW2 images on top of each other; None if they are not."""
        del named
        return None

    @property
    def copies(self) -> Path | None:
        """Where an isolated copy of a replica is made if nobody says otherwise; None: somebody has to."""
        return None

    def path_of(self, named: Named, name: str) -> Path | None:
        """Return the path of a file that is a disk, or a part of one; None if there is none on this machine."""
        del named, name
        return None

    def files_of(self, replica: Replica) -> set[str]:
        """Return the files that a generation has in the folder of the VM: none where there is no such folder."""
        del replica
        return set()

    def copied_name(self, disk: StoredReplicaDisk) -> str:
        """Return what a copy of a disk is called, made of what is read of it: a raw file, or a QCOW2 image."""
        return f"{stem_of(disk)}.{'qcow2' if self.form == 'qcow2' else 'raw'}"

    async def define_copy(
        self,
        folder: Path,
        name: str,
        files: dict[str, Path],
        disks: Sequence[StoredReplicaDisk],
        machine: Machine,
        options: DefinitionOptions,
    ) -> tuple[Path, tuple[str, ...]]:
        """Describe a machine whose disks were copied into `folder`; `files` has the newest of each, by disk id.

        Return the definition, and what it lacks.  As it comes: a libvirt domain.
        Errors: OptionsError, TargetError.
        """
        del disks
        form: DiskFormat = "qcow2" if self.form == "qcow2" else "raw"
        named = [DiskFile(disk_id, str(path), form) for disk_id, path in files.items()]
        chosen = writer("libvirt")
        found = chosen.write(machine, named, options)
        path = folder / f"{name}{chosen.suffix}"
        await to_thread_joined(durable.write_file, path, found.text.encode())
        return path, found.losses

    def name_for(self, vm_name: str, vm_id: str) -> str:
        """Return what a VM is called on the target from its first cycle on."""
        return f"{safe_name(vm_name, 'vm')}-{vm_id[:8].lower()}"

    @abstractmethod
    async def check(self, named: Named, disks: Sequence[TargetDisk]) -> None:
        """Refuse what the target cannot take, before anything is made.

        Errors: OptionsError, TargetError, NbdError, RepositoryError (it is not as it was left).
        """

    def check_other(self, disks: Sequence[TargetDisk], other: Replica | Intent) -> None:
        """Refuse places that another replica is written to.  Asked where the target has no marks.

        Errors: OptionsError.
        """
        del disks, other

    async def check_place(self) -> None:
        """Refuse a place that is none, before even a state is made beside it.  Errors: OptionsError."""
        return

    def check_machine(self, machine: Machine) -> None:
        """Refuse a machine that cannot be defined here, before anything is made.  Errors: OptionsError."""
        del machine

    async def check_room(self, named: Named, bytes_needed: int) -> None:
        """Refuse so many bytes that are to be written, if it is known that they have no room.  Errors: TargetError."""
        del named, bytes_needed

    async def claim(self, named: Named) -> None:
        """Make it ours, durably.  Errors: TargetError, RepositoryError."""
        del named

    async def mark(self, named: Named, cycle: str) -> None:
        """Say durably at the target which cycle writes there now, where it can be said.  Errors: TargetError."""
        del named, cycle

    async def is_as_left(self, named: Named, cycles: Collection[str]) -> bool:
        """Say whether one of `cycles` was the last that wrote there, as far as the target tells.

        It is not where the target, or the state, is an older copy.  Errors: RepositoryError (it cannot be read).
        """
        del named, cycles
        return True

    async def recover(self, named: Named, replica: Replica | None, intent: Intent | None) -> None:
        """Finish what a commit decided, and remove what nobody names.  Errors: TargetError."""
        del named, replica, intent

    @abstractmethod
    def place(self, named: Named, disk: TargetDisk, generation: int, *, is_incremental: bool) -> Place:
        """Return where a disk goes in a cycle.  `is_incremental`: what is not written is as it was before."""

    async def pack(
        self,
        named: Named,
        generation: int,
        disks: Sequence[Kept],
        machine: Machine | None,
        on_progress: Callable[[int], None],
    ) -> None:
        """Before `finish`, where the target packs; `on_progress` is told how many bytes of all disks were read.

        Errors: TargetError.
        """
        del named, generation, disks, machine, on_progress

    async def finish(
        self, named: Named, generation: int, disks: Sequence[Kept], machine: Machine | None, folder: Path
    ) -> Finished:
        """All disks are whole and durable: describe the machine, beside what is there.

        `folder` is that of the state, for targets that have none of their own.
        Errors: TargetError.
        """
        del named, generation, disks, machine, folder
        return Finished()

    @abstractmethod
    def reading(
        self, named: Named, disk: StoredReplicaDisk, options: CopyOptions
    ) -> AbstractAsyncContextManager[Device]:
        """Open a disk of a whole generation for reading.  Errors: as open_source."""


def safe_name(text: str, otherwise: str) -> str:
    """Return a text reduced to what any file system, URI and hypervisor takes as a name."""
    return _UNSAFE.sub("-", text).strip(".-_")[:_LONGEST_NAME].rstrip(".-_") or otherwise


def next_name(name: str, generation: int) -> str:
    """Return what a file is called until the commit of its generation renames it.

    A cycle that is killed leaves what it had of it, and the next one does the renames of the commit before it again: so
    no two generations share such a name.
    """
    return f"{name}.g{generation}.next"


def stem_of(disk: TargetDisk | StoredReplicaDisk) -> str:
    """Return what the names of the files of a disk begin with."""
    return f"{safe_name(disk.label, 'disk')}-{safe_name(disk.disk_id.lower().replace('-', ''), '0')[:8]:0<8}"


def check_sizes(text: str, disks: Sequence[TargetDisk], multiple: int, why: str) -> None:
    """Refuse disks whose size is no multiple.  Errors: OptionsError."""
    for disk in disks:
        if disk.size % multiple or not disk.size:
            raise OptionsError(
                f"{text}: cannot take {disk}: it has {disk.size} bytes, and {why} has a multiple of "
                f"{format_size(multiple)}: resize it on the cluster, or leave it out of the VM"
            )

"""What is remembered of a replica: what its target holds, and what a cycle that is not over may have changed.

STATE/<vm id>/replica-<id>/
    replica.json               the last whole generation: committed by a rename
    intent.json                what a cycle is about to write, durable before its first write
    intent-<disk>-<n>.changes  the extents of one disk of it
    g<n>-<disk>.manifest       the digests of a disk at a generation; never changed once it is named

replica.json   intent.json          the target holds
N              none, or of N        N
N              of N + 1             between N and N + 1; N where the disk says that it is kept
none           of 1                 nothing whole yet
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import RepositoryError, TargetError
from ntxengine.files import durable
from ntxengine.repository import StoredAudit, StoredHead, decode_checked, encode_checked
from ntxengine.units import format_size

REPLICA_FORMAT, REPLICA_VERSION = "ntxengine-replica", 1
INTENT_FORMAT, INTENT_VERSION = "ntxengine-replica-intent", 1

REPLICA_FILE, INTENT_FILE = "replica.json", "intent.json"
FOLDER_PREFIX = "replica-"
_LIMIT = 16 * 1024**2
_ID = re.compile(r"[0-9a-f]{12}")
_MANIFEST = re.compile(r"g[1-9][0-9]{0,9}-[0-9a-f]{16}\.manifest")
_PLACE = re.compile(r"nbds?(?:\+unix)?://.*|[A-Za-z0-9][A-Za-z0-9._-]*", re.DOTALL)
"""An export; or what names a file in the folder of a VM, and no place outside."""
_CHANGES = re.compile(r"intent-[0-9a-f]{16}-[0-9]{1,10}\.changes")

File = TypeVar("File", bound=StoredHead)

Kind = Literal["regions", "scan", "full"]
"""Of what a cycle writes: these extents; whatever differs by digest; all."""


@dataclass(frozen=True)
class StoredImage:
    """A file that a disk consists of, newest first: its name, and the manifest of the disk as it shows there."""

    name: str
    manifest: str


@dataclass(frozen=True)
class StoredReplicaDisk:
    """A disk at a whole generation.

    `files` are names in the folder of the VM on the target, newest first; one URI where the target is a server.
    `is_doubted`: it may be something else than what was written, and is to be read as a whole.  `verified_at` is when
    all of it was last compared, `seed` and `position` how far samples are (dataplane.coverage.Shuffled).
    """

    disk_id: str
    label: str
    size: int
    files: tuple[StoredImage, ...]
    digest: str
    audit: StoredAudit | None = None
    is_doubted: bool = False
    seed: int = 0
    position: int = 0

    @property
    def manifest(self) -> str:
        """The name of the manifest of this generation."""
        return self.files[0].manifest


@dataclass(frozen=True)
class StoredFigures:
    """What a cycle did: bytes, seconds, and how it was found out what changed, by disk label."""

    bytes_changed: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    bytes_zeroed: int = 0
    seconds: float = 0.0
    tracking: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredVerified:
    """When the target was last read back: all of it, or a sample of `blocks`, of the generation then."""

    at: datetime
    generation: int
    blocks: int
    is_whole: bool


@dataclass(frozen=True)
class StoredGeneration:
    """An older generation that the target keeps: the files of each disk, newest first, by disk id."""

    generation: int
    frozen_at: datetime
    disks: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Replica(StoredHead):
    """A whole generation of a replica.

    `frozen_at` is the moment that it shows.  `record_id` names the record of its recovery point.  `renames`,
    (from, to), and `removals` were decided by the commit, and are done after it.  Once it was cut over to, nothing is
    written to it.
    """

    id: str
    vm_id: str
    vm_name: str
    target: str
    name: str
    form: str
    generation: int
    frozen_at: datetime
    committed_at: datetime
    record_id: str
    recovery_point_id: str
    consistency: str
    disks: tuple[StoredReplicaDisk, ...]
    renames: tuple[tuple[str, str], ...] = ()
    removals: tuple[str, ...] = ()
    history: tuple[StoredGeneration, ...] = ()
    figures: StoredFigures = field(default_factory=StoredFigures)
    verified: StoredVerified | None = None
    last_whole_check: StoredVerified | None = None
    definition: str = ""
    not_carried_over: tuple[str, ...] = ()
    cut_over_at: datetime | None = None

    @property
    def names(self) -> set[str]:
        """All files on the target, also those of older generations."""
        older = {name for each in self.history for chain in each.disks.values() for name in chain}
        return older | {image.name for disk in self.disks for image in disk.files}

    def doubted(self) -> Replica:
        """Return it without a disk that is believed to be there still."""
        return replace(self, disks=tuple(replace(disk, is_doubted=True) for disk in self.disks))

    def find(self, disk_id: str) -> StoredReplicaDisk | None:
        """Return a disk by its id."""
        return next((disk for disk in self.disks if disk.disk_id.lower() == disk_id.lower()), None)


@dataclass(frozen=True)
class IntentDisk:
    """What a cycle may have written of a disk.

    `keeps`: it writes beside what the generation before has, which stays.  `changes` names the file of extents, all of
    the disk unless `kind` is "regions".  `names` are files that it made or writes.
    """

    disk_id: str
    label: str
    size: int
    kind: Kind
    keeps: bool
    changes: str
    bytes: int
    names: tuple[str, ...] = ()

    @property
    def begun(self) -> tuple[str, ...]:
        """What may hold a part of it now, in place of what was there."""
        return () if self.keeps else self.names


@dataclass(frozen=True)
class Intent(StoredHead):
    """What a cycle is about to do, to become `generation`.

    `record_ids` name the records of its recovery point, and of those of dead cycles that it goes on from, newest first.
    """

    id: str
    vm_id: str
    vm_name: str
    target: str
    name: str
    form: str
    generation: int
    began_at: datetime
    recovery_point_id: str
    disks: tuple[IntentDisk, ...]
    record_ids: tuple[str, ...] = ()

    def find(self, disk_id: str) -> IntentDisk | None:
        """Return a disk by its id."""
        return next((disk for disk in self.disks if disk.disk_id.lower() == disk_id.lower()), None)

    @property
    def keeps(self) -> bool:
        """Whether the generation before is whole on the target all the same."""
        return all(disk.keeps for disk in self.disks)


def key_of(disk_id: str) -> str:
    """Return what stands for a disk in the names of files here, whatever its id is."""
    return hashlib.sha256(disk_id.lower().encode()).hexdigest()[:16]


class ReplicaState:
    """The folder of one replica.  Blocks.  Whoever changes something holds the lock of the VM."""

    def __init__(self, vm_folder: Path, replica_id: str) -> None:
        self.path = vm_folder / f"{FOLDER_PREFIX}{replica_id}"
        self.id = replica_id

    def make(self) -> None:
        """Make the folder unless it is there.  Errors: TargetError, RepositoryError."""
        durable.make_folder(self.path)

    def replica(self) -> Replica | None:
        """Return the last whole generation, None if there was none.  Errors: RepositoryError (damaged)."""
        path = self.path / REPLICA_FILE
        found = self._read(path, Replica, REPLICA_FORMAT, REPLICA_VERSION)
        if found is None:
            return None
        names = [image.manifest for disk in found.disks for image in disk.files]
        self._check(path, found.id, names, _MANIFEST)
        checks = (check for check in (found.verified, found.last_whole_check) if check is not None)
        times = [found.frozen_at, found.committed_at, found.cut_over_at, *(check.at for check in checks)]
        self._check_told(path, found.name, found.names, times + [each.frozen_at for each in found.history])
        if not all(disk.files for disk in found.disks) or found.generation < 1:
            raise RepositoryError(f"{path}: is damaged: a disk without a file, or no generation{_REMEDY}")
        if not all(chain for each in found.history for chain in each.disks.values()):
            raise RepositoryError(f"{path}: is damaged: an older generation has a disk without a file{_REMEDY}")
        return found

    def intent(self) -> Intent | None:
        """Return what a cycle that is not over was about to do; None if the last one came to its end.

        Errors: RepositoryError (damaged).
        """
        path = self.path / INTENT_FILE
        found = self._read(path, Intent, INTENT_FORMAT, INTENT_VERSION)
        if found is not None:
            self._check(path, found.id, [disk.changes for disk in found.disks], _CHANGES)
            self._check_told(path, found.name, {name for disk in found.disks for name in disk.names}, [found.began_at])
        return found

    def _read(self, path: Path, kind: type[File], format: str, version: int) -> File | None:
        if not os.path.lexists(path):
            return None
        data = durable.read_file(path, limit=_LIMIT)
        return decode_checked(path, data, kind, format=format, versions=(version,), remedy=_REMEDY, needs_check=True)

    def _check(self, path: Path, replica_id: str, names: list[str], pattern: re.Pattern[str]) -> None:
        if replica_id != self.id or not all(pattern.fullmatch(name) for name in names):
            raise RepositoryError(f"{path}: is damaged: it is of another replica, or names a strange file{_REMEDY}")

    def _check_told(self, path: Path, name: str, places: set[str], times: list[datetime | None]) -> None:
        if "/" in name or not all(_PLACE.fullmatch(each) for each in (name, *places)):
            raise RepositoryError(f"{path}: is damaged: it names a file outside of the folder of its VM{_REMEDY}")
        if any(time is not None and time.tzinfo is None for time in times):
            raise RepositoryError(f"{path}: is damaged: a time is of no time zone{_REMEDY}")

    def pending(self, replica: Replica | None) -> Intent | None:
        """Return the intent of a cycle that did not become a generation."""
        found = self.intent()
        done = 0 if replica is None else replica.generation
        return None if found is None or found.generation <= done else found

    def write_replica(self, replica: Replica) -> None:
        """Commit a generation, durably.  Errors: TargetError (no room; it would be more than is believed again)."""
        path, data = self.path / REPLICA_FILE, encode_checked(replica)
        if len(data) > _LIMIT:
            raise TargetError(
                f"{path}: would have {format_size(len(data))}, and {format_size(_LIMIT)} at most are believed: keep "
                f"fewer older generations (--history)"
            )
        durable.replace_file(path, data)

    def write_intent(self, intent: Intent) -> None:
        """Say durably what may be written from now on; the files of extents are there already.  Errors: TargetError."""
        durable.replace_file(self.path / INTENT_FILE, encode_checked(intent))

    def remove_intent(self) -> None:
        """The cycle came to its end.  Errors: TargetError."""
        durable.remove_file(self.path / INTENT_FILE)
        durable.sync_folder(self.path)

    def manifest_name(self, generation: int, disk_id: str) -> str:
        """Return the name of the manifest of a disk at a generation."""
        return f"g{generation}-{key_of(disk_id)}.manifest"

    def manifest(self, disk: StoredReplicaDisk) -> Manifest:
        """Open the manifest of a disk.  The caller closes it.  Errors: RepositoryError (missing, damaged, another)."""
        path = self.path / disk.manifest
        if not os.path.lexists(path):
            raise RepositoryError(f"{path}: the manifest is missing")
        found = Manifest.open(path)
        if found.disk_digest != disk.digest or found.size != disk.size:
            found.close()
            raise RepositoryError(f"{path}: the manifest is not that of generation and disk {disk.label}")
        return found

    def changes_path(self, disk_id: str) -> Path:
        """Return the path of a new file of extents."""
        stem = f"intent-{key_of(disk_id)}-"
        number = 0
        while os.path.lexists(self.path / f"{stem}{number}.changes"):
            number += 1
        return self.path / f"{stem}{number}.changes"

    def tidy(self, replica: Replica | None, intent: Intent | None) -> None:
        """Remove what neither names.  Errors: TargetError."""
        named = {REPLICA_FILE, INTENT_FILE}
        if replica is not None:
            named |= {image.manifest for disk in replica.disks for image in disk.files}
        if intent is not None:
            named |= {disk.changes for disk in intent.disks}
        else:
            named.discard(INTENT_FILE)
        if not self.path.is_dir():
            return
        for path in self.path.iterdir():
            is_ours = _MANIFEST.fullmatch(path.name) or _CHANGES.fullmatch(path.name) or path.name.endswith(".new")
            if path.name not in named and (is_ours or path.name == INTENT_FILE):
                durable.remove_file(path)


_REMEDY = "; restore it, or remove the folder of this replica: the next cycle reads the target, and begins anew"


def states_in(vm_folder: Path) -> Iterator[ReplicaState]:
    """Yield the replicas of a VM."""
    for path in sorted(vm_folder.glob(f"{FOLDER_PREFIX}*")):
        replica_id = path.name.removeprefix(FOLDER_PREFIX)
        if _ID.fullmatch(replica_id) and path.is_dir() and not path.is_symlink():
            yield ReplicaState(vm_folder, replica_id)

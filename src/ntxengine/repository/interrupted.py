"""Captures that were interrupted and can be gone on with: unfinished points with a record of what was frozen.

    .unfinished-<point id>/resume                      what was frozen, written once the recovery point is there
    .unfinished-<point id>/disk-<disk id>.journal      how far a disk is copied (dataplane/journal.py)

    {...one line of JSON...}
    2f1c...   XXH3-128 of the line above, in hex

Nothing in it is trusted that is not looked at: whoever goes on compares it with the cluster, with the plan of the new
capture, and with the source.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from ntxengine.dataplane import journal
from ntxengine.errors import NtxError, RepositoryError
from ntxengine.files import durable
from ntxengine.ids import is_canonical_uuid
from ntxengine.repository import layout, point, stored, strays
from ntxengine.repository.stored import StoredDiskPoint, StoredGuestTools

RESUME_FORMAT, RESUME_VERSION = "ntxengine-resume", 1

_LIMIT = 64 * 1024**2
"""Bytes of a record that are believed: it has the VM's configuration."""


@dataclass(frozen=True)
class StoredResumeDisk:
    """A disk of a VM as it was frozen; `point` is its disk recovery point."""

    disk_id: str
    label: str
    size: int
    point: StoredDiskPoint


@dataclass(frozen=True)
class StoredResume:
    """`resume` of an unfinished point: what was frozen, and what the point was to be.

    `asked` has the options that decide what a point is, as words; `expires_at` is when the cluster may delete the
    recovery point.  `times` counts how often the capture was gone on with, the last time from `bytes_done` of all its
    disks on, and `in_vain` how often in a row it failed without getting further, for a reason that does not pass.
    `vm_config` is the VM as Prism gave it.
    """

    format: str
    version: int
    point_id: str
    vm_id: str
    vm_name: str
    parent_id: str | None
    recovery_point_id: str
    frozen_at: datetime
    expires_at: datetime
    asked: str
    consistency: str
    consistency_reason: str
    disks: tuple[StoredResumeDisk, ...]
    excluded: tuple[str, ...] = ()
    quiescing: str = ""
    guest_tools: StoredGuestTools | None = None
    times: int = 0
    bytes_done: int = 0
    in_vain: int = 0
    vm_config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Interrupted:
    """An unfinished point.  Of `bytes_total`, the disks up to their ends, so many were copied when it was interrupted.

    `resume` is None where it cannot be gone on with, because of `problem`; `has_record` is false where nobody expects
    it to be: its VM was not frozen yet, or it is a point of another repository that a sync was writing (`is_of_sync`).
    """

    path: Path
    resume: StoredResume | None
    problem: str = ""
    bytes_done: int = 0
    bytes_total: int = 0
    has_record: bool = True
    is_of_sync: bool = False

    @property
    def point_id(self) -> str:
        """The id that the point has, or was to have."""
        return layout.unfinished_id(self.path)

    @property
    def vm_id(self) -> str:
        return self.path.parent.name

    def can_be_resumed(self, now: datetime) -> bool:
        """Say whether it has a record of a recovery point that the cluster keeps."""
        return self.resume is not None and now < self.resume.expires_at


def find(vm_folder: Path) -> list[Interrupted]:
    """Return the unfinished points of a VM, oldest first.  Blocks: small reads for each disk."""
    return [_look(folder) for folder in strays.unfinished(vm_folder)]


def write(folder: Path, resume: StoredResume) -> None:
    """Write or replace the record of an unfinished point, durably.  Errors: TargetError."""
    line = stored.encode_line(resume)
    durable.replace_file(folder / layout.RESUME_FILE, line + b"\n" + _check(line) + b"\n")


def remove(folder: Path) -> None:
    """Remove what only resuming needs, the record first.  Errors: TargetError."""
    names = [path.name for path in folder.iterdir() if layout.is_for_resuming(path.name)]
    for name in sorted(names, key=lambda name: name != layout.RESUME_FILE):
        durable.remove_tree(folder / name)


def clean(folder: Path, disk_ids: set[str]) -> None:
    """Remove what a killed capture left in its unfinished point and nobody goes on with.  Errors: TargetError."""
    names = (layout.image_name, layout.map_name, layout.manifest_name, layout.changes_name, layout.journal_name)
    kept = {layout.RESUME_FILE, *(name(disk_id) for disk_id in disk_ids for name in names)}
    for path in sorted(folder.iterdir()):
        if path.name not in kept:
            durable.remove_tree(path)


def _look(folder: Path) -> Interrupted:
    if folder.is_symlink() or not os.path.lexists(folder / layout.RESUME_FILE):
        is_of_sync = any(folder.glob(layout.journal_name("*")))  # a capture has none before its record
        return Interrupted(
            folder, None, f"{folder}: its VM was not frozen yet", has_record=False, is_of_sync=is_of_sync
        )
    try:
        resume = _read(folder)
    except NtxError as exc:
        return Interrupted(folder, None, str(exc))
    total = sum(disk.size for disk in resume.disks)
    return Interrupted(folder, resume, "", bytes_stored(folder, resume), total)


def bytes_stored(folder: Path, resume: StoredResume) -> int:
    """Return how many bytes of the disks lie below what their journals say; none of one that cannot be read."""
    return sum(min(disk.size, _stored_to(folder, disk.disk_id)) for disk in resume.disks)


def _stored_to(folder: Path, disk_id: str) -> int:
    try:
        found = journal.read(folder / layout.journal_name(disk_id))
    except NtxError:
        return 0
    return 0 if found is None else found.stored_to


def _read(folder: Path) -> StoredResume:
    """Return the record of an unfinished point.  Errors: RepositoryError (it is damaged, or of another version)."""
    path = folder / layout.RESUME_FILE
    line, _, check = durable.read_file(path, limit=_LIMIT).partition(b"\n")
    if check != _check(line) + b"\n":
        raise RepositoryError(f"{path}: is damaged: its checksum does not fit")
    try:
        found = msgspec.json.decode(line, type=StoredResume)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise RepositoryError(f"{path}: is damaged: {exc}") from exc
    if (found.format, found.version) != (RESUME_FORMAT, RESUME_VERSION):
        raise RepositoryError(f"{path}: is {found.format[:40]!r} version {found.version}: this ntxengine cannot use it")
    if not _is_of(found, folder):
        raise RepositoryError(f"{path}: is not of this point")
    return found


def _is_of(found: StoredResume, folder: Path) -> bool:
    ids = (found.point_id, found.vm_id)
    disks = [disk.disk_id for disk in found.disks]
    return (
        ids == (layout.unfinished_id(folder), folder.parent.name)
        and layout.is_point_id(found.point_id)
        and all(map(is_canonical_uuid, disks))
        and len(set(disks)) == len(disks)
        and all(0 <= disk.size <= point.MAX_DISK_SIZE for disk in found.disks)
        and found.frozen_at.tzinfo is not None
        and found.expires_at.tzinfo is not None
    )


def _check(line: bytes) -> bytes:
    return xxhash.xxh3_128_hexdigest(line).encode()

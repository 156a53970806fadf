"""A point: one VM at one moment.  And its JSON, which is not believed before it was checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from ntxengine.errors import NotFoundError, RepositoryError
from ntxengine.ids import is_canonical_uuid
from ntxengine.repository import layout, stored
from ntxengine.repository.report import CaptureReport, decode_report, encode_report
from ntxengine.repository.stored import (
    POINT_FORMAT,
    POINT_VERSIONS,
    StoredDisk,
    StoredDiskPoint,
    StoredHead,
    StoredKind,
    StoredMember,
    StoredPoint,
    StoredTracking,
)

MAX_POINT_BYTES = 64 * 1024**2
"""A point.json that is larger is not read: reports are numbers, not data."""

MAX_DISK_SIZE = 1 << 62
MIN_YEAR, MAX_YEAR = 1970, 9998  # every time between has a UTC time and a next second
_DIGEST = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class PointDisk:
    """One disk in a point.

    `size` is the disk's in bytes; the image's is that, rounded up to 512.  `file` and `manifest` are names in the
    point's folder, `digest` is the disk digest of the manifest in hex, `backing` the image below (relative) or "": that
    disk of the parent, whose own `file` says which image it is now.
    `writer` names what wrote the image, "" in points that do not say: a qemu-nbd.
    """

    disk_id: str
    label: str
    size: int
    file: str
    manifest: str
    digest: str
    backing: str = ""
    writer: str = ""


@dataclass(frozen=True)
class PointRecord:
    """All that is recorded of a point.

    `tracking` says how changes were found, `tracking_reason` why not in a better way ("" for the best).
    `recovery_point_disks` are the disk recovery points by disk id, for the next capture.
    `together` are the VMs that were frozen at the same moment, this one among them, each with the point that it was to
    become; empty for one alone.
    `sums` is the file with the digests of this and of the files beside it, "" in points that were made without.
    """

    id: str
    vm_id: str
    vm_name: str
    created_at: datetime
    parent_id: str | None
    kind: StoredKind
    consistency_requested: str
    consistency_obtained: str
    tracking: StoredTracking
    tracking_reason: str
    recovery_point_id: str
    recovery_point_disks: dict[str, StoredDiskPoint]
    disks: tuple[PointDisk, ...]
    report: CaptureReport = field(default_factory=CaptureReport)
    sums: str = ""
    together: tuple[StoredMember, ...] = ()


@dataclass(frozen=True)
class Point(PointRecord):
    """A committed point.  `path` is its folder."""

    path: Path = field(default=Path(), compare=False)

    @property
    def size(self) -> int:
        """Bytes of all disks."""
        return sum(disk.size for disk in self.disks)

    def disk(self, name: str) -> PointDisk:
        """Return the disk with this id or label.  Errors: NotFoundError, also if a label is not unique."""
        found = [disk for disk in self.disks if name.lower() == disk.disk_id]
        found = found or [disk for disk in self.disks if name.lower() == disk.label.lower()]
        if len(found) == 1:
            return found[0]
        known = ", ".join(f"{disk.label} ({disk.disk_id})" for disk in self.disks) or "none"
        problem = f"{len(found)} disks are called {name!r}, name one by its id" if found else f"no disk {name!r}"
        raise NotFoundError(f"point {self.id}: {problem}; its disks: {known}")

    def find_disk(self, disk_id: str) -> PointDisk | None:
        """Return the disk with this id, None if it is not in the point."""
        return next((disk for disk in self.disks if disk.disk_id == disk_id.lower()), None)

    def image_path(self, disk: PointDisk) -> Path:
        """Return the path of a disk's image.  To read it, see Repository.serve and Repository.images."""
        return self.path / disk.file

    def manifest_path(self, disk: PointDisk) -> Path:
        """Return the path of a disk's manifest."""
        return self.path / disk.manifest


def next_image_name(disk: PointDisk) -> str:
    """Return the name of the image that is to take the place of a disk's."""
    return layout.image_name(disk.disk_id, (layout.generation_of(disk.file, disk.disk_id) or 0) + 1)


def encode(record: PointRecord) -> bytes:
    """Return point.json."""
    return stored.encode(
        StoredPoint(
            format=POINT_FORMAT,
            version=_version(record),
            id=record.id,
            vm_id=record.vm_id,
            vm_name=record.vm_name,
            created_at=record.created_at,
            parent_id=record.parent_id,
            kind=record.kind,
            consistency_requested=record.consistency_requested,
            consistency_obtained=record.consistency_obtained,
            tracking=record.tracking,
            tracking_reason=record.tracking_reason,
            recovery_point_id=record.recovery_point_id,
            recovery_point_disks=record.recovery_point_disks,
            disks=tuple(_stored_disk(disk) for disk in record.disks),
            report=encode_report(record.report),
            sums=record.sums,
            together=record.together or msgspec.UNSET,
        )
    )


def _version(record: PointRecord) -> int:
    """Return the first version whose readers know such names of images: older ones refuse what they would not find."""
    plain = all(
        disk.file == layout.image_name(disk.disk_id)
        and disk.backing in ("", layout.backing_name(str(record.parent_id), disk.file))
        for disk in record.disks
    )
    return POINT_VERSIONS[0] if plain else POINT_VERSIONS[1]


def _stored_disk(disk: PointDisk) -> StoredDisk:
    return StoredDisk(
        disk_id=disk.disk_id,
        label=disk.label,
        size=disk.size,
        file=disk.file,
        manifest=disk.manifest,
        digest=disk.digest,
        backing=disk.backing,
        writer=disk.writer or msgspec.UNSET,
    )


def _disk(found: StoredDisk) -> PointDisk:
    return PointDisk(
        disk_id=found.disk_id,
        label=found.label,
        size=found.size,
        file=found.file,
        manifest=found.manifest,
        digest=found.digest,
        backing=found.backing,
        writer=found.writer or "",
    )


def _point(found: StoredPoint, folder: Path) -> Point:
    return Point(
        id=found.id,
        vm_id=found.vm_id,
        vm_name=found.vm_name,
        created_at=found.created_at,
        parent_id=found.parent_id,
        kind=found.kind,
        consistency_requested=found.consistency_requested,
        consistency_obtained=found.consistency_obtained,
        tracking=found.tracking,
        tracking_reason=found.tracking_reason,
        recovery_point_id=found.recovery_point_id,
        recovery_point_disks=found.recovery_point_disks,
        disks=tuple(_disk(disk) for disk in found.disks),
        report=decode_report(found.report),
        sums=found.sums,
        together=found.together or (),
        path=folder,
    )


def decode(data: bytes, *, file: Path, folder: Path) -> Point:
    """Return the point that `data`, read from `file`, describes.

    Errors: RepositoryError naming `file`, for anything that is not as `encode` writes it or does not fit its folder.
    """
    try:
        head = msgspec.json.decode(data, type=StoredHead)
        if head.format != POINT_FORMAT:
            raise RepositoryError(f"{file}: is not a point of ntxengine: format {head.format[:40]!r}")
        if head.version not in POINT_VERSIONS:
            raise RepositoryError(
                f"{file}: version {head.version}, this ntxengine reads versions {POINT_VERSIONS[0]} to "
                f"{POINT_VERSIONS[-1]}: use the one that wrote it"
            )
        found = _point(msgspec.json.decode(data, type=StoredPoint), folder)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise RepositoryError(f"{file}: is damaged: {exc}") from exc
    problem = find_problem(found)
    if not problem and (found.id != folder.name or found.vm_id != folder.parent.name):
        problem = f"it describes point {found.id} of VM {found.vm_id}, which is not the folder that it is in"
    if problem:
        raise RepositoryError(f"{file}: is damaged: {problem}")
    return found


def find_problem(record: PointRecord) -> str:
    """Return what cannot be true in a record, "" if all can.  No name that passes leads out of the VM's folder."""
    if not layout.is_point_id(record.id) or not is_canonical_uuid(record.vm_id):
        return f"point id {record.id[:80]!r} or VM id {record.vm_id[:80]!r} is not one"
    if record.created_at.tzinfo is None or not MIN_YEAR <= record.created_at.year <= MAX_YEAR:
        return f"created_at {record.created_at} has no time zone, or cannot be"
    if record.parent_id is not None and not (layout.is_point_id(record.parent_id) and record.parent_id < record.id):
        return f"parent {record.parent_id[:80]!r} is not an earlier point"
    if record.sums not in ("", layout.SUMS_FILE):
        return f"its digests are in {record.sums[:80]!r}, not in {layout.SUMS_FILE}"
    if len({disk.disk_id for disk in record.disks}) != len(record.disks):
        return "a disk is in it twice"
    return next(filter(None, (_find_disk_problem(record, disk) for disk in record.disks)), "")


def _find_disk_problem(record: PointRecord, disk: PointDisk) -> str:
    subject = f"disk {disk.disk_id[:80]!r}"
    if not is_canonical_uuid(disk.disk_id):
        return f"{subject} is not named by a UUID"
    if not 0 <= disk.size <= MAX_DISK_SIZE:
        return f"{subject} has {disk.size} bytes"
    is_image = layout.generation_of(disk.file, disk.disk_id) is not None
    if not is_image or disk.manifest != layout.manifest_name(disk.disk_id):
        return f"{subject}: its files are called {disk.file[:80]!r} and {disk.manifest[:80]!r}"
    if _DIGEST.fullmatch(disk.digest) is None:
        return f"{subject}: {disk.digest[:80]!r} is not a digest"
    if disk.backing and not layout.is_backing(disk.backing, str(record.parent_id), disk.disk_id):
        return f"{subject}: backing file {disk.backing[:120]!r} is not that of its parent"
    if disk.backing and record.kind == "full":
        return f"{subject} has a backing file in a full point"
    return ""

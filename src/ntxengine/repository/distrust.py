"""Points whose tracking is distrusted since an audit, kept beside them: a point itself never changes.

    REPO/<vm id>/distrusted.json

An audit of a later capture found that the cluster had reported as unchanged what had changed.  So each point whose
changes it had reported before may lack some, back to the last one for which the disk was read as a whole.  Such a point
is what was captured, byte for byte, and yet may not be what the disk was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ntxengine.errors import RepositoryError
from ntxengine.files import durable
from ntxengine.ids import is_canonical_uuid
from ntxengine.repository import layout, stored
from ntxengine.repository.chain import Chains
from ntxengine.repository.point import Point, PointDisk
from ntxengine.repository.stored import (
    DISTRUST_FORMAT,
    DISTRUST_VERSION,
    StoredDistrust,
    StoredDistrustFile,
    StoredTracking,
)

_LIMIT = 64 * 1024**2

_REMEDY = (
    "; put it back from a copy of the repository, or remove it and trust none of the older points: nobody knows now "
    "which are distrusted"
)

_READ_AS_A_WHOLE: tuple[StoredTracking, ...] = ("digest-scan", "full")
"""How a disk is captured without believing what the cluster says of it."""

_READ_AS_CHANGES: tuple[StoredTracking, ...] = ("v4-changed-regions", "v3-changed-regions")


@dataclass(frozen=True)
class Distrust:
    """One disk of a point.  `found_by` is the point whose capture found it, at `found_at`, and which may have failed;
    `offsets` are of blocks that it found wrong (bytes): they are examples, there may be more.
    """

    point_id: str
    disk_id: str
    label: str
    found_by: str
    found_at: datetime
    offsets: tuple[int, ...] = ()


@dataclass(frozen=True)
class Marks:
    """What is known of a point: the disks that may lack changes, or why nobody knows which (`problem`)."""

    distrusted: tuple[Distrust, ...] = ()
    problem: str = ""

    @property
    def is_distrusted(self) -> bool | None:
        """Whether it may lack changes; None if nobody knows."""
        return None if self.problem else bool(self.distrusted)


def read(vm_folder: Path) -> tuple[Distrust, ...]:
    """Return which disks of the points of a VM are distrusted.  Blocks: one small read.

    Errors: RepositoryError naming the file: nobody knows then which they are.
    """
    path = vm_folder / layout.DISTRUST_FILE
    if not os.path.lexists(path):
        return ()
    try:
        data = durable.read_file(path, limit=_LIMIT)
    except RepositoryError as exc:
        raise RepositoryError(f"{exc}{_REMEDY}") from exc
    found = stored.decode_checked(
        path, data, StoredDistrustFile, format=DISTRUST_FORMAT, versions=[DISTRUST_VERSION], remedy=_REMEDY
    )
    for each in found.disks:
        if not (layout.is_point_id(each.point_id) and is_canonical_uuid(each.disk_id)) or each.found_at.tzinfo is None:
            which = f"point {each.point_id[:80]!r} disk {each.disk_id[:80]!r}"
            raise RepositoryError(f"{path}: is damaged: it tells of {which}{_REMEDY}")
    return tuple(Distrust(**vars(each)) for each in found.disks)


def add(vm_folder: Path, marks: Sequence[Distrust]) -> None:
    """Remember marks, durably; of a disk that has one already the first stays.  The VM is locked.

    Errors: TargetError; as `read`, and then nothing is changed.
    """
    known = read(vm_folder)
    keys = {(each.point_id, each.disk_id) for each in known}
    new = [each for each in marks if (each.point_id, each.disk_id) not in keys]
    if not new:
        return
    document = StoredDistrustFile(
        format=DISTRUST_FORMAT,
        version=DISTRUST_VERSION,
        disks=tuple(StoredDistrust(**vars(each)) for each in (*known, *new)),
    )
    durable.replace_file(vm_folder / layout.DISTRUST_FILE, stored.encode_checked(document))


def of_chain(newest: Point, finding: Distrust, *, was_zero: bool) -> list[Distrust]:
    """Return marks of the points for which a tracker was believed that `finding`, about the newest, shows to be wrong.

    A full point that read only what the cluster said is allocated is among them if `was_zero`: a block was found wrong
    that is zero there, so that it may have been left out from the beginning.
    Blocks: a small read for each point below.
    """
    found: list[Distrust] = []
    for point in _chain(newest):
        disk = point.find_disk(finding.disk_id)
        if disk is None or was_read_whole(point, disk):
            break
        if disk.backing or was_zero or _took_over_changes(point, disk):
            found.append(replace(finding, point_id=point.id))
        if not disk.backing:
            break
    return found


def _took_over_changes(point: Point, disk: PointDisk) -> bool:
    """Say of a disk that stands alone whether it was captured as changes, and points below were merged into it."""
    report = point.report.disks.get(disk.disk_id)
    return report is not None and report.tracking in _READ_AS_CHANGES


def was_read_whole(point: Point, disk: PointDisk) -> bool:
    """Say whether nothing was believed of a disk: also where the cluster called all of it allocated, or none."""
    report = point.report.disks.get(disk.disk_id)
    if report is None:
        return False
    is_all_data = not disk.backing and report.bytes_changed == disk.size
    return report.tracking in _READ_AS_A_WHOLE or is_all_data


def _chain(newest: Point) -> Iterator[Point]:
    """Yield a point and those below it, as far down as they can be read."""
    with suppress(RepositoryError):
        yield from Chains().walk(newest)

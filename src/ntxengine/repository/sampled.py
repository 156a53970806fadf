"""How far verifying by samples has got, kept beside the points: a point itself never changes.

    REPO/<vm id>/sampled.json

It saves reading again what was read: without it, or where it cannot be read, samples begin anew.  It is of the very
files that were read: where one of them was replaced or written to, or lies elsewhere, what was read of it counts for
nothing.

LIMIT: of two that verify points of one VM at the same time, the last one's file stays; the next samples then read some
blocks again.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from ntxengine.errors import RepositoryError
from ntxengine.files import durable
from ntxengine.ids import is_canonical_uuid
from ntxengine.repository import layout, stored
from ntxengine.repository.point import Point
from ntxengine.repository.stored import SAMPLES_FORMAT, SAMPLES_VERSION, StoredSample, StoredSampleFile

log = logging.getLogger(__name__)

_LIMIT = 64 * 1024**2
_MAX_OFFSET = 2**62


def fingerprint(files: Sequence[Path]) -> str:
    """Return what changes when one of the files is written to, replaced, or moved to another file system.

    By the time of change of the inode, which nobody can set: a copy that is put back keeps the time of its contents.
    Errors: RepositoryError.
    """
    digest = hashlib.sha256()
    for path in files:
        try:
            found = os.stat(path, follow_symlinks=False)
        except OSError as exc:
            raise durable.read_error(path, exc) from exc
        name = f"{path.parent.name}/{path.name}"
        digest.update(f"{name}\0{found.st_ino}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ctime_ns}\n".encode())
    return digest.hexdigest()[:32]


def read(vm_folder: Path) -> tuple[StoredSample, ...]:
    """Return how far the samples of the points of a VM are; nothing, and a warning, where nobody knows.

    Blocks: one small read.
    """
    try:
        return read_or_fail(vm_folder)
    except RepositoryError as exc:
        log.warning("samples begin anew: %s", exc)
        return ()


def read_or_fail(vm_folder: Path) -> tuple[StoredSample, ...]:
    """Return the same.  Errors: RepositoryError naming the file."""
    path = vm_folder / layout.SAMPLES_FILE
    if not os.path.lexists(path):
        return ()
    data = durable.read_file(path, limit=_LIMIT)
    found = stored.decode_checked(path, data, StoredSampleFile, format=SAMPLES_FORMAT, versions=[SAMPLES_VERSION])
    if not all(map(_is_one, found.disks)):
        raise RepositoryError(f"{path}: is damaged: it tells of what is no disk of a point")
    return found.disks


def _is_one(each: StoredSample) -> bool:
    return (
        layout.is_point_id(each.point_id)
        and is_canonical_uuid(each.disk_id)
        and each.sampled_at.tzinfo is not None
        and all(0 <= offset <= _MAX_OFFSET for offset in each.wrong)
    )


def of_point(point: Point) -> dict[str, StoredSample]:
    """Return how far the samples of the disks of a point are, by disk id."""
    return {each.disk_id: each for each in read(point.path.parent) if each.point_id == point.id}


def keep(point: Point, samples: Sequence[StoredSample]) -> None:
    """Remember how far the samples of disks of a point are now, durably; what is known of points that are gone is
    forgotten.

    Errors: TargetError.
    """
    vm_folder = point.path.parent
    new = {each.disk_id for each in samples}
    others = [
        each
        for each in read(vm_folder)
        if not (each.point_id == point.id and each.disk_id in new) and (vm_folder / each.point_id).is_dir()
    ]
    document = StoredSampleFile(format=SAMPLES_FORMAT, version=SAMPLES_VERSION, disks=(*others, *samples))
    durable.replace_file(vm_folder / layout.SAMPLES_FILE, stored.encode_checked(document))

"""Replacing what a point says of itself, when points below were merged into it: all of its disks at one moment.

SHA256SUMS    the old digest of point.json, and the new one
point.json    replaced                                          <- from here on it is the new point
SHA256SUMS    the new digest alone
"""

from __future__ import annotations

from ntxengine.errors import RepositoryError
from ntxengine.files import durable
from ntxengine.repository import layout, sums
from ntxengine.repository.point import MAX_POINT_BYTES, Point, decode, encode, find_problem
from ntxengine.repository.sums import Sums


def rewrite(point: Point) -> Point:
    """Make `point` what its folder says, and return it as a reader finds it.  The VM is locked.

    After a power cut the folder says the old or the new.
    Errors: RepositoryError (it cannot be true, or the folder is damaged), TargetError.
    """
    if problem := find_problem(point):
        raise RepositoryError(f"{point.path}: cannot be rewritten: {problem}")
    file = point.path / layout.POINT_FILE
    before = durable.read_file(file, limit=MAX_POINT_BYTES)
    after = encode(point)
    found = sums.read_sums(point.path)
    durable.sync_folder(point.path)  # the names of its images, before anything says so
    if found is not None:
        sums.compare(point.path, layout.POINT_FILE, before, found)
        _write_sums(point, found, before, after)
    durable.replace_file(file, after)
    if found is not None:
        _write_sums(point, found, after)
    return decode(after, file=file, folder=point.path)


def settle(point: Point) -> None:
    """Bring SHA256SUMS to its end, if a rewriting was interrupted, and remove what that left.  Errors: as `rewrite`."""
    for name in (layout.POINT_FILE, layout.SUMS_FILE):
        durable.remove_half_written(point.path / name)
    found = sums.read_sums(point.path)
    if found is None or len(found.get(layout.POINT_FILE, ())) < 2:
        return
    now = durable.read_file(point.path / layout.POINT_FILE, limit=MAX_POINT_BYTES)
    sums.compare(point.path, layout.POINT_FILE, now, found)
    _write_sums(point, found, now)


def _write_sums(point: Point, found: Sums, *documents: bytes) -> None:
    digests = [sums.digest_of(document) for document in documents]
    durable.replace_file(point.path / layout.SUMS_FILE, sums.encode({**found, layout.POINT_FILE: digests}))

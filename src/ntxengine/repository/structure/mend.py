"""The safe part of mending: nothing of a point is changed but names that say the same, and no byte of a disk.

Whoever mends the folder of a VM has its lock, so that nothing in it is being made or removed; what is to be mended is
found again then, and what was not said before is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from functools import cache, partial
from pathlib import Path

from ntxengine.errors import NtxError, RepositoryError
from ntxengine.files import durable
from ntxengine.files.locks import is_locked
from ntxengine.images.header import BadHeader, read_header
from ntxengine.images.rebase import set_backing
from ntxengine.repository import interrupted, layout, removal, retention_file, rewrite, strays
from ntxengine.repository.catalog import Catalog
from ntxengine.repository.lock import VmLock
from ntxengine.repository.point import Point
from ntxengine.repository.scan import Scan, read_point, scan
from ntxengine.repository.store import PointStore
from ntxengine.repository.structure.finding import Finding, Kind
from ntxengine.repository.structure.vm import inspect_vm

_ORDER: Sequence[Kind] = (
    "rewrite", "backing", "half-written", "removed-point", "unfinished-point", "map", "unused-image", "sampled",
    "gone-points", "empty-folder",
)  # fmt: skip
"""Names are put right before what they name can go."""

REPAIRS: frozenset[Kind] = frozenset({"catalog", *_ORDER})
"""What can be mended."""

Mended = tuple[Finding, str]
"""What was mended, or why not: "" if it was."""


def mend_root(root: Path, findings: Collection[Finding]) -> list[Mended]:
    """Remove what interrupted changes to the files of a repository itself have left."""
    return [
        (each, _outcome(partial(durable.remove_file, each.path)))
        for each in findings
        if each.kind == "half-written" and each.path in strays.markers(root)
    ]


def mend_catalog(root: Path, finding: Finding) -> Mended:
    """Make the catalog anew from the directory."""

    def mend() -> None:
        Catalog(root / layout.CATALOG_FILE, guard=root / layout.MARKER_FILE).make_anew()
        PointStore.open(root)
        _, problem, _ = Catalog(root / layout.CATALOG_FILE, guard=root / layout.MARKER_FILE).look()
        if problem:
            raise RepositoryError(f"still damaged: {problem}")

    return finding, _outcome(mend)


def mend_vm(lock: VmLock, wanted: Collection[Finding], now: datetime) -> list[Mended]:
    """Mend those of `wanted` that are found in the folder of the VM that is locked, and return each that was wanted.

    What is not found any more is mended.
    Errors: RepositoryError (the folder cannot be read).
    """
    lock.check_held()
    folder = lock.folder
    found = {each.key(): each for each in inspect_vm(folder, now, is_ours=True).found}
    look = cache(partial(scan, folder.parent, {}, folder.name))  # nothing that is mended changes what points say
    results: list[Mended] = []
    for kind in _ORDER:
        for each in wanted:
            if each.kind == kind:
                is_there = each.key() in found
                results.append((each, _outcome(partial(_mend, folder, each, look)) if is_there else ""))
    return results


def _outcome(mend: Callable[[], object]) -> str:
    """Return why something could not be mended, "" if it was."""
    try:
        mend()
    except NtxError as exc:
        return str(exc)
    return ""


def _mend(folder: Path, finding: Finding, look: Callable[[], Scan]) -> None:
    """Errors: NtxError."""
    match finding.kind:
        case "rewrite":
            rewrite.settle(read_point(finding.path.parent)[0])
        case "backing":
            _put_right(finding.path)
        case "half-written" if finding.path.name.startswith(layout.RETENTION_HALF_WRITTEN):
            retention_file.tidy(folder)
        case "half-written" | "sampled":
            durable.remove_file(finding.path)
        case "removed-point" | "unfinished-point":
            durable.remove_tree(finding.path)
        case "map":
            _require_unlocked(finding.path)
            durable.remove_file(finding.path)
        case "unused-image":
            _remove_unused(look(), finding.path)
        case "gone-points":
            retention_file.drop_gone(folder)
        case _:  # an empty folder goes with its lock
            pass


def _require_unlocked(path: Path) -> None:
    if is_locked(path):
        raise RepositoryError("somebody has it open: try again when that has ended")


def _put_right(path: Path) -> None:
    """Let an image record what is its disk in the point below."""
    point = read_point(path.parent)[0]
    disk = next(disk for disk in point.disks if disk.file == path.name)
    parent = read_point(point.path.parent / str(point.parent_id))[0]
    _require_unlocked(path)
    set_backing(path, layout.backing_name(parent.id, parent.disk(disk.disk_id).file))


def _remove_unused(scanned: Scan, path: Path) -> None:
    """Remove an image that no point says is its disk, unless something records it, or may."""
    for damaged in scanned.damaged:
        raise RepositoryError(f"point {damaged.name} cannot be read, so nobody knows what that is on top of")
    point = next(point for point in scanned.points if point.path == path.parent)
    # All of them go at once.
    if problem := _needed_by(scanned.points, point, [each.name for each in removal.unused_images(point)]):
        raise RepositoryError(problem)
    if not removal.remove_unused_images(point):
        raise RepositoryError("somebody reads from its point: try again when that has ended")


def _needed_by(points: Sequence[Point], below: Point, names: Collection[str]) -> str:
    """Return why images of a point may be needed, "" if they are not."""
    for each in interrupted.find(below.path.parent):
        if each.resume is not None and each.resume.parent_id == below.id:
            return f"the interrupted capture {each.point_id} is on top of its point"
    for point in points:
        for image in _images(point) if point.parent_id == below.id else ():
            try:
                recorded = read_header(image).backing.rpartition("/")[2]
                if recorded in names:
                    return f"{image} records {recorded}"
            except BadHeader as exc:
                return f"{image} {exc}, so nobody knows what it is on top of"
    return ""


def _images(point: Point) -> Iterator[Path]:
    yield from (point.image_path(disk) for disk in point.disks if disk.backing)

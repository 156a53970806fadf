"""The folder of a point: its small files against their digests, its manifests, the headers of its images, and what else
lies there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from ntxengine.dataplane import manifest
from ntxengine.errors import NtxError, RepositoryError
from ntxengine.files import durable
from ntxengine.images import qemu_img
from ntxengine.images.header import BadHeader, read_header
from ntxengine.repository import layout, sums
from ntxengine.repository.chain import open_manifest
from ntxengine.repository.point import Point, PointDisk
from ntxengine.repository.removal import IMAGE_NAME
from ntxengine.repository.structure.finding import Finding, Place
from ntxengine.repository.structure.names import HALF_WRITTEN, find_readable, listed, unknown

COPY = (
    "put it back from a copy of the repository; without one restore another point, and `ntx capture --full` makes one "
    "that needs none of these"
)
_SUMS_LIMIT = 4096


class Line:
    """The points of a VM, each asked for by those on top of it."""

    def __init__(self, points: Iterable[Point], damaged: Mapping[Path, RepositoryError]) -> None:
        self._points = {point.path: point for point in points}
        self._damaged = damaged
        self._told: set[Path] = set()

    def parent(self, point: Point) -> Point | None:
        """Return the point below, None if it has none, or that cannot be read."""
        return None if point.parent_id is None else self._points.get(point.path.parent / point.parent_id)

    def find_missing(self, point: Point) -> Iterator[Finding]:
        """Yield the point below if it is not there, once for all that are on top of it."""
        if point.parent_id is None:
            return
        folder = point.path.parent / point.parent_id
        if folder not in self._points and folder not in self._damaged and folder not in self._told:
            self._told.add(folder)
            place = Place(point.vm_id, folder.name)
            yield place.damage("parent", folder, f"is missing, and point {point.id} is on top of it", COPY)


def inspect_point(point: Point, line: Line) -> Iterator[Finding]:
    """Yield what is wrong in the folder of a point whose point.json is right.

    Blocks: reads the manifests, and of each image the header.
    """
    place = Place(point.vm_id, point.id)
    missing = list(line.find_missing(point))
    yield from missing
    yield from _small_files(place, point.path)
    parent = line.parent(point)
    for disk in point.disks:
        try:
            open_manifest(point.path, disk).close()
            if not manifest.is_padded(point.manifest_path(disk)):
                yield place.damage("manifest", point.manifest_path(disk), "is damaged behind its header", COPY)
        except NtxError as exc:
            yield place.from_error("manifest", exc, [point.manifest_path(disk)], COPY)
        yield from _image(place, point, disk, parent)
    yield from _names(place, point)


def inspect_damaged(folder: Path) -> Iterator[Finding]:
    """Yield what is wrong beside its point.json with a point that cannot be read."""
    for text in sums.find_problems(folder):
        paths = [folder / name for name in (layout.VM_FILE, layout.REPORT_FILE)]
        if any(text.startswith(f"{path}: ") for path in paths):
            yield Place(folder.parent.name, folder.name).from_error("file", RepositoryError(text), paths, COPY)


# ------------------------------------------------------------------------------------------------------ its files


def _small_files(place: Place, folder: Path) -> Iterator[Finding]:
    paths = [folder / name for name in (layout.VM_FILE, layout.REPORT_FILE, layout.SUMS_FILE)]
    for text in sums.find_problems(folder):
        yield place.from_error("file", RepositoryError(text), paths, COPY)
    path = folder / layout.SUMS_FILE
    with suppress(RepositoryError):
        found = sums.read_sums(folder)
        if found is None:
            return
        if durable.read_file(path, limit=_SUMS_LIMIT).replace(b" *", b"  ") != sums.encode(found):
            remedy = "`sha256sum -c` it; if that finds nothing wrong, write it anew with sha256sum"
            yield place.damage("sums", path, "is not as it was written, though its digests are right", remedy)
        elif len(found.get(layout.POINT_FILE, ())) > 1:
            text = "still has the digest of an older point.json: a prune was killed"
            yield place.leftover("rewrite", path, text, "`ntx repair`, or the next prune, brings that to its end")


def _image(place: Place, point: Point, disk: PointDisk, parent: Point | None) -> Iterator[Finding]:
    """Yield what is wrong with the header of an image, and with what it says is below it."""
    path = point.image_path(disk)

    def is_backing(name: str) -> bool:
        return bool(disk.backing) and layout.is_backing(name, str(point.parent_id), disk.disk_id)

    try:
        qemu_img.check(path, size=disk.size, backing=disk.backing, is_backing=is_backing)
    except NtxError as exc:
        yield place.from_error("image", exc, [path], COPY)
        return
    if not disk.backing or parent is None:
        return
    below = parent.find_disk(disk.disk_id)
    if below is None:
        problem = f"is on top of disk {disk.disk_id} of point {parent.id}, which has no such disk"
        yield place.damage("image", path, problem, COPY)
        return
    wanted = layout.backing_name(parent.id, below.file)
    with suppress(BadHeader):
        recorded = read_header(path).backing
        if recorded != wanted:
            yield _misled(place, path, recorded, wanted)


def _misled(place: Place, path: Path, recorded: str, wanted: str) -> Finding:
    """Return what is wrong with an image whose header names an image of the point below that is not its disk now."""
    remedy = f"`ntx repair`, or the next prune, lets it record {wanted}"
    if (path.parent / recorded).exists():
        return place.leftover("backing", path, f"records {recorded}, whose place another image has taken", remedy)
    problem = f"records {recorded}, which is gone: ntx reads it all the same, plain qemu cannot"
    return place.damage("backing", path, problem, remedy)


# ---------------------------------------------------------------------------------------------------------- names


def _names(place: Place, point: Point) -> Iterator[Finding]:
    known = {layout.POINT_FILE, layout.VM_FILE, layout.REPORT_FILE, layout.SUMS_FILE}
    known |= {name for disk in point.disks for name in (disk.file, disk.manifest)}
    names = listed(point.path)
    for name in names:
        path = point.path / name
        if name in known:
            continue
        if IMAGE_NAME.fullmatch(name) and name.endswith(layout.MAP_SUFFIX):
            whose = (
                "of an image that is gone"
                if name.removesuffix(layout.MAP_SUFFIX) not in names
                else "of an image that is whole"
            )
            yield place.leftover("map", path, f"is the cluster map {whose}")
        elif IMAGE_NAME.fullmatch(name):
            yield place.leftover("unused-image", path, "is an image that is no disk of the point: a merge replaced it")
        elif HALF_WRITTEN.fullmatch(name):
            yield place.leftover("half-written", path, "was to replace a file, and its writer was killed")
        else:
            yield unknown(place, path)
    yield from find_readable(place, point.path, (point.path / name for name in names))

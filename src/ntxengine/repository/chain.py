"""What a point is made of: the points below it, the images below an image, and a manifest for each.

Always from point.json, and always in the folder of one VM.  What an image records as its backing file is compared,
never followed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ntxengine.dataplane.manifest import Manifest, read_header
from ntxengine.errors import OptionsError, RepositoryError
from ntxengine.images import qemu_img
from ntxengine.repository import layout
from ntxengine.repository.point import Point, PointDisk
from ntxengine.repository.scan import read_point


class Chains:
    """Answers what points are made of, reading each point.json and each header of an image once.

    For one question, or for one command that asks about many points: so that what many have below them is not read for
    each of them.  What is read is believed as long as the object is used.  Several threads may ask.
    """

    def __init__(self, known: Iterable[Point] = (), *, checked: bool = True) -> None:
        """`known` are points that were read already.  `checked` as for read_point: whether each point.json is what was
        written.
        """
        self._checked = checked
        self._points: dict[Path, Point | RepositoryError] = {point.path: point for point in known}
        self._images: dict[tuple[Path, str], tuple[Path, ...] | RepositoryError] = {}

    def points_of(self, point: Point) -> list[Point]:
        """Return the points that `point` is made of, itself first, the root last.

        Errors: RepositoryError if one is missing or damaged.
        """
        return list(self.walk(point))

    def walk(self, point: Point) -> Iterator[Point]:
        """Yield the same, one by one.  Errors: as points_of, once those above were yielded."""
        yield point
        # Ends: a parent sorts before its child, which reading it has checked.
        while point.parent_id is not None:
            point = self._parent(point)
            yield point

    def fresh(self, point: Point) -> Point:
        """Return a point as its folder has it now.  Errors: RepositoryError."""
        if point.path not in self._points:
            self._points[point.path] = read_point(point.path, checked=self._checked)[0]
        found = self._points[point.path]
        if isinstance(found, RepositoryError):
            raise RepositoryError(str(found)) from found
        return found

    def images_of(self, point: Point, disk: PointDisk) -> tuple[Path, ...]:
        """Return the images of a disk, newest first down to the root, each checked against its point.

        Blocks: a small read for each.
        Errors: RepositoryError naming the file that is missing, or is not what its point says.
        """
        levels: list[tuple[Path, str, Path]] = []
        at, found = point, disk
        # Down to the root, or to what is known, and up again.
        while (known := self._images.get((at.path, disk.disk_id))) is None:
            levels.append((at.path, disk.disk_id, at.image_path(found)))
            try:
                check_image(at, found)
                if not found.backing:
                    known = ()
                    break
                at, found = self._below(at, found)
            except RepositoryError as exc:
                known = exc
                break
        for folder, disk_id, path in reversed(levels):
            known = known if isinstance(known, RepositoryError) else (path, *known)
            self._images[folder, disk_id] = known
        if isinstance(known, RepositoryError):
            raise RepositoryError(str(known)) from known
        return known

    def _below(self, point: Point, disk: PointDisk) -> tuple[Point, PointDisk]:
        parent = self._parent(point)
        found = next((candidate for candidate in parent.disks if candidate.disk_id == disk.disk_id), None)
        if found is None:
            raise RepositoryError(
                f"{parent.path}: has no disk {disk.disk_id}, which point {point.id} has on top of it: "
                f"disk {disk.label} cannot be read whole"
            )
        return parent, found

    def _parent(self, point: Point) -> Point:
        folder = point.path.parent / str(point.parent_id)
        if folder not in self._points:
            try:
                self._points[folder] = read_point(folder, checked=self._checked)[0]
            except RepositoryError as exc:
                self._points[folder] = (
                    exc
                    if folder.is_dir()
                    else RepositoryError(f"{folder}: is missing, and point {point.id} is on top of it")
                )
        found = self._points[folder]
        if isinstance(found, RepositoryError):
            raise RepositoryError(str(found)) from found
        return found


def check_image(point: Point, disk: PointDisk) -> Path:
    """Check what the image of a disk says of itself, and return its path.  What is below it is not looked at: that may
    be any generation of the parent's disk, as all hold the same.

    Blocks: a small read.
    Errors: RepositoryError naming the file that is missing, or is not what its point says.
    """
    parent_id = str(point.parent_id)

    def is_backing(name: str) -> bool:
        return name == disk.backing or (bool(disk.backing) and layout.is_backing(name, parent_id, disk.disk_id))

    path = point.image_path(disk)
    qemu_img.check(path, size=disk.size, backing=disk.backing, is_backing=is_backing)
    return path


def images_of(point: Point, disk: PointDisk) -> tuple[Path, ...]:
    """Return the images of a disk: as Chains.images_of, for one question."""
    return Chains().images_of(point, disk)


def check_manifest(folder: Path, disk: PointDisk) -> None:
    """Check that the header of a manifest fits what the point says of the disk.  Its digests are not read.

    Errors: as open_manifest.
    """
    path = folder / disk.manifest
    _compare(path, disk, *read_header(path))


def open_manifest(folder: Path, disk: PointDisk) -> Manifest:
    """Open the manifest of a disk in the folder of its point, checked against what the point says.

    Blocks: reads all of it.  The caller closes it.
    Errors: RepositoryError if it is missing, damaged, or that of something else.
    """
    path = folder / disk.manifest
    try:
        manifest = Manifest.open(path)
    except OptionsError as exc:
        raise RepositoryError(str(exc)) from exc
    try:
        _compare(path, disk, manifest.size, manifest.disk_digest)
    except RepositoryError:
        manifest.close()
        raise
    return manifest


def _compare(path: Path, disk: PointDisk, size: int, digest: str) -> None:
    if (size, digest) != (disk.size, disk.digest):
        raise RepositoryError(
            f"{path}: is not the manifest of disk {disk.label} in this point: it is of {size} bytes with "
            f"digest {digest}, the point says {disk.size} and {disk.digest}"
        )

"""What the directory holds: the points of a repository, compared with what the catalog remembers of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ntxengine.errors import RepositoryError
from ntxengine.files import durable
from ntxengine.ids import is_canonical_uuid
from ntxengine.repository import layout, sums
from ntxengine.repository.catalog import Key, NewRow, Row, Stamp
from ntxengine.repository.point import MAX_POINT_BYTES, Point, decode


@dataclass
class Scan:
    """`points` oldest first; `damaged` are others, by folder; `strange` stands where the folder of a VM should be.

    `new` and `gone` is what the catalog lacks and has too much.
    """

    points: list[Point] = field(default_factory=list)
    damaged: dict[Path, RepositoryError] = field(default_factory=dict)
    strange: dict[Path, RepositoryError] = field(default_factory=dict)
    new: list[NewRow] = field(default_factory=list)
    gone: list[Key] = field(default_factory=list)

    def folders(self) -> list[Path]:
        """Return the folders of all points, also of damaged ones."""
        return [*(point.path for point in self.points), *self.damaged]


def scan(root: Path, rows: Mapping[Key, Row], vm_id: str | None) -> Scan:
    """Read the points of one VM or of all; from `rows` where the file is still the one that was read then.

    Errors: RepositoryError if the directory itself cannot be read.
    """
    found = Scan()
    left = dict(rows)
    for vm in _subfolders(root, is_canonical_uuid, found.strange) if vm_id is None else [root / vm_id]:
        for folder in _point_folders(vm, found):
            row = left.pop((vm.name, folder.name), None)
            try:
                point, read = _believe(folder, row) or read_point(folder)
            except RepositoryError as exc:
                found.damaged[folder] = exc
                if row is not None:
                    found.gone.append((vm.name, folder.name))
                continue
            found.points.append(point)
            if read is not row:
                found.new.append(NewRow(point, read))
    found.gone += left
    found.points.sort(key=lambda point: (point.id, point.vm_id))
    return found


def vm_folders(root: Path) -> list[Path]:
    """Return the folders of the VMs of a repository, sorted."""
    return _subfolders(root, is_canonical_uuid, {})


def read_point(folder: Path, *, checked: bool = True) -> tuple[Point, Row]:
    """Read a point from its folder, and compare point.json with its digest unless it is not to be `checked`.

    Errors: RepositoryError naming the file.
    """
    if os.path.lexists(folder):
        durable.check_folder(folder)
    while True:
        point, row = _read(folder)
        try:
            if checked:
                _check(point, row.document)
            return point, row
        except RepositoryError:
            # A merge replaces point.json and its digest, one after the other: of an old one and a new one neither fits.
            if _read(folder)[1] == row:
                raise


def _read(folder: Path) -> tuple[Point, Row]:
    file = folder / layout.POINT_FILE
    stamp = _stamp(file)
    document = durable.read_file(file, limit=MAX_POINT_BYTES)
    return decode(document, file=file, folder=folder), Row(stamp, document)


def _check(point: Point, document: bytes) -> None:
    """Compare what was read of a point with its digest."""
    try:
        digests = sums.read_sums(point.path)
        if digests is not None:
            sums.compare(point.path, layout.POINT_FILE, document, digests)
        elif point.sums:
            raise RepositoryError(f"{point.path / point.sums}: is missing, and the point was made with it")
    except RepositoryError as exc:
        raise RepositoryError(
            f"{exc}; if point.json is right as it is, write {layout.SUMS_FILE} anew with sha256sum, or restore with "
            f"--no-check"
        ) from exc


def _believe(folder: Path, row: Row | None) -> tuple[Point, Row] | None:
    """Return what the catalog says of a point, None if it says nothing that can be believed."""
    file = folder / layout.POINT_FILE
    if row is None or row.stamp != _stamp(file):
        return None
    try:
        return decode(row.document, file=file, folder=folder), row
    except RepositoryError:
        return None


def _stamp(file: Path) -> Stamp:
    try:
        status = file.lstat()
    except OSError as exc:
        raise durable.read_error(file, exc) from exc
    return Stamp(status.st_size, status.st_mtime_ns)


def _point_folders(vm: Path, found: Scan) -> list[Path]:
    """Return the folders of the points of a VM.  One that cannot be looked into does not hide the other VMs."""
    try:
        if os.path.lexists(vm):
            durable.check_folder(vm)
        return _subfolders(vm, layout.is_point_id, found.damaged)
    except RepositoryError as exc:
        found.strange[vm] = exc
        return []


def _subfolders(path: Path, is_name: Callable[[str], bool], strange: dict[Path, RepositoryError]) -> list[Path]:
    """Return the folders with such names, sorted; what has such a name and is no folder is `strange`."""
    try:
        with os.scandir(path) as entries:
            named = sorted(Path(entry.path) for entry in entries if is_name(entry.name))
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise durable.read_error(path, exc) from exc
    folders = []
    for each in named:
        try:
            durable.check_folder(each)
            folders.append(each)
        except RepositoryError as exc:
            strange[each] = exc
    return folders

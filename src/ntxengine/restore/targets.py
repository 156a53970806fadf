"""Where each disk goes, and what is refused before anything is touched.

    scsi.0=./disk.qcow2             a file that is made, and gets its name with all others of the restore
    scsi.1=/dev/sdb                 a block device, written in place
    scsi.2=nbd://host/export        an NBD server, written in place
    DIRECTORY                       takes the disks that were given no target

LIMIT: that two servers, or a server and a device, are one is not known; nor what an NBD server serves of a repository.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.location import Location, parse, socket_uri
from ntxengine.dataplane.open import check_new, open_existing
from ntxengine.dataplane.options import CopyOptions
from ntxengine.errors import OptionsError
from ntxengine.files.identity import Place, is_same, places_of
from ntxengine.images.formats import looks_like, named_like
from ntxengine.repository import VM_FILE, Point, PointDisk
from ntxengine.restore.folder import file_names
from ntxengine.restore.options import RestoreFormat, RestoreOptions

Kind = Literal["file", "device", "server"]

_DEVICES = Path("/dev")


@dataclass(frozen=True)
class Destination:
    """Where a disk goes.

    `text` is what the person wrote, or the path of a file in the directory.  `path` is that of a file or a device, all
    links followed but in the directory, None of a server.  `exists`: it did when this was found out; `room`: what is
    written in place had so many bytes.  `is_made`: a file is made of it under another name; all else is written in
    place.
    """

    disk: PointDisk
    kind: Kind
    text: str
    format: RestoreFormat
    location: Location
    path: Path | None = None
    is_made: bool = False
    in_directory: bool = False
    exists: bool = False
    room: int = 0

    @property
    def file(self) -> Path:
        """The path of a file that is made."""
        assert self.path is not None
        return self.path


@dataclass(frozen=True)
class Request:
    """What a person said of where disks go: `disks` and the keys of `targets` are ids or labels."""

    directory: Path | None
    disks: Sequence[str]
    targets: Mapping[str, str]

    def destinations(self, point: Point, options: RestoreOptions) -> list[Destination]:
        """Return where each disk that is wanted goes.  Blocks: looks at what there is; opens and changes nothing.

        Errors: NotFoundError (no such disk), OptionsError, TargetError (a file could not be made).
        """
        found = list(self._each(point, options))
        options.check_image(has_image=any(each.format == "qcow2" for each in found))
        if options.format == "qcow2" and not any(each.is_made for each in found) and found:
            raise OptionsError(f"{found[0].text}: format qcow2: only a file can be an image")
        _check_apart(found, None if self.directory is None else self.directory / VM_FILE)
        return found

    def _each(self, point: Point, options: RestoreOptions) -> Iterator[Destination]:
        given = self._given(point)
        names = file_names(point, options.format or "raw")
        for disk in self.wanted(point):
            if disk.disk_id in given:
                yield _named(disk, given[disk.disk_id], options)
            elif self.directory is not None:
                yield _in_directory(disk, self.directory / names[disk.disk_id], options)
            else:
                raise OptionsError(f"disk {disk.label} ({disk.disk_id}): has no target, and there is no directory")

    def _given(self, point: Point) -> dict[str, str]:
        given: dict[str, str] = {}
        for name, text in self.targets.items():
            disk = point.disk(name)
            if disk.disk_id in given:
                raise OptionsError(
                    f"disk {disk.label} ({disk.disk_id}): has two targets, {given[disk.disk_id]} and {text}"
                )
            given[disk.disk_id] = text
        return given

    def wanted(self, point: Point) -> list[PointDisk]:
        """Return which disks of a point are restored.  Errors: NotFoundError, OptionsError."""
        given = self._given(point)
        if self.directory is None and not given:
            raise OptionsError("no directory and no target: say where the disks are to go")
        named = list(dict.fromkeys(point.disk(name) for name in self.disks))
        if self.directory is not None and not named:
            return list(point.disks)
        return named + [disk for disk in point.disks if disk.disk_id in given and disk not in named]


# ---------------------------------------------------------------------------------------------- one destination


def _in_directory(disk: PointDisk, path: Path, options: RestoreOptions) -> Destination:
    location = Location("file", str(path), path=str(path))
    if options.in_place:
        if path.is_symlink():
            raise OptionsError(f"{path}: is a link, which is not followed: name where it leads as a target")
        _check_in_place(str(path), path, options)
    else:
        check_replaceable(path, options, "choose another directory")
    format = options.format or "raw"
    exists = os.path.lexists(path)
    return Destination(
        disk, "file", str(path), format, location, path, not options.in_place, in_directory=True, exists=exists
    )


def _check_in_place(text: str, path: Path, options: RestoreOptions) -> None:
    if not path.exists():
        raise OptionsError(f"{text}: is not there, and only what is there is restored in place: leave out --in-place")
    if not path.is_file():
        raise OptionsError(f"{text}: exists and is not a file: name another")
    _refuse_image(text, path, options)


def check_replaceable(path: Path, options: RestoreOptions, remedy: str) -> None:
    """Refuse a file that is in the way.  Errors: OptionsError."""
    if not os.path.lexists(path):
        return
    if not path.is_symlink() and not path.is_file():
        raise OptionsError(f"{path}: exists and is not a file: {remedy}")
    if not options.may_replace:
        raise OptionsError(f"{path}: exists already: allow it to be overwritten (--overwrite), or {remedy}")


def _named(disk: PointDisk, text: str, options: RestoreOptions) -> Destination:
    location = parse(text)
    if location.kind.startswith("nbd"):
        _require_overwrite(text, "an NBD server", options)
        return Destination(disk, "server", text, "raw", location, exists=True)
    if location.kind != "file":
        raise OptionsError(f"{text}: cannot keep a disk: write a path, or an NBD URI such as nbd://host/export")
    path, status = _followed(text)
    if status is not None and stat.S_ISBLK(status.st_mode):
        _require_overwrite(text, "a block device", options)
        _refuse_image(text, path, options)
        return Destination(disk, "device", text, "raw", location, path, exists=True)
    if options.in_place:
        _check_in_place(text, path, options)
        return Destination(disk, "file", text, "raw", location, path, exists=True)
    check_replaceable(path, options, "name another")
    _check_place(text, path)
    format = _format_of(text, path, options)
    return Destination(disk, "file", text, format, location, path, is_made=True, exists=status is not None)


def _followed(text: str) -> tuple[Path, os.stat_result | None]:
    """Return where a name leads, and what is there.  Errors: OptionsError: nothing that can hold a disk."""
    try:
        path = Path(text).absolute()
        while path.is_symlink():
            path = path.resolve()
        status = os.stat(path)
    except FileNotFoundError:
        if os.path.islink(text):
            raise OptionsError(f"{text}: is a link that leads nowhere: name another") from None
        return path, None
    except (OSError, RuntimeError, ValueError) as exc:
        raise OptionsError(f"{text}: {getattr(exc, 'strerror', None) or exc}: name another") from exc
    if stat.S_ISDIR(status.st_mode):
        raise OptionsError(f"{text}: is a folder: name the file in it")
    if stat.S_ISSOCK(status.st_mode):
        raise OptionsError(f"{text}: is a socket: write {socket_uri(text)}")
    if not stat.S_ISBLK(status.st_mode) and not stat.S_ISREG(status.st_mode):
        raise OptionsError(f"{text}: is neither a file nor a block device: name another")
    return path, status


def _require_overwrite(text: str, kind: str, options: RestoreOptions) -> None:
    if not options.may_replace:
        raise OptionsError(
            f"{text}: is {kind}, and what it holds would be lost: allow it to be overwritten (--overwrite), or name "
            f"another"
        )


def _refuse_image(text: str, path: Path, options: RestoreOptions) -> None:
    if options.format is None and (found := looks_like(path)):
        raise OptionsError(f"{text}: looks like an image in {found.name} format: say --format raw to write over it")


def _check_place(text: str, path: Path) -> None:
    """Refuse a place where no file can be made, or where one would not stay: a device with a slip in its name."""
    folder = path.parent.resolve()
    if folder.is_relative_to(_DEVICES) and folder.exists() and folder.stat().st_dev == _DEVICES.stat().st_dev:
        raise OptionsError(f"{text}: there is no such device, and a file there would be kept in memory: name another")
    check_new(path)
    try:
        str(path).encode()
    except UnicodeEncodeError as exc:
        raise OptionsError(f"{text!r}: qemu opens only paths in UTF-8: name another") from exc


def _format_of(text: str, path: Path, options: RestoreOptions) -> RestoreFormat:
    """Return the format of a new file.  Whoever wants it typed its name: unlike its bytes, that is believed."""
    if options.format is not None:
        return options.format
    like = named_like(path)
    if like is not None and path.suffix.lower() != ".qcow2":
        raise OptionsError(
            f"{text}: is named like an image in {like.name} format, which is not written: say --format raw for the "
            f"bytes alone, or name it .qcow2 for a QCOW2 image"
        )
    return "raw" if like is None else "qcow2"


# ------------------------------------------------------------------------------------------------ all of them


def _check_apart(found: Sequence[Destination], config: Path | None) -> None:
    """Refuse two disks in one place, or one in that of the configuration.  Errors: OptionsError."""
    for at, one in enumerate(found):
        for other in found[:at]:
            if not (one.in_directory and other.in_directory) and _is_one(one, other):
                raise OptionsError(
                    f"disks {other.disk.label} and {one.disk.label}: {other.text} and {one.text} are one target, or "
                    f"one lies on the other: name another"
                )
        if config is not None and not one.in_directory and one.path is not None and _is_one_file(one.path, config):
            raise OptionsError(f"{one.text}: is where the configuration of the VM goes: name another")


def _is_one(one: Destination, other: Destination) -> bool:
    if one.path is not None and other.path is not None:
        return _is_one_file(one.path, other.path)
    return _server_of(one.location) == _server_of(other.location)


def _is_one_file(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():  # in the directory, where a link is replaced and not followed
        return one.parent.resolve() / one.name == other.parent.resolve() / other.name
    return is_same(one, other)


def _server_of(location: Location) -> tuple[object, ...]:
    host = location.host.lower() or location.login
    path = os.path.realpath(location.path) if location.path else ""
    return location.kind, host, location.port, location.far, path, location.export


def check_outside(found: Sequence[Destination], directory: Path | None, repository: Path) -> None:
    """Refuse to write into the repository, also by a link, or a device that lies on a file of it.  Blocks.

    Errors: OptionsError.
    """
    inside = repository.resolve()
    if directory is not None and directory.resolve().is_relative_to(inside):
        raise OptionsError(f"{directory}: lies in the repository itself: choose a directory outside of {repository}")
    held: set[Place] | None = None
    for each in found:
        if each.path is None or each.in_directory:
            continue
        lies_inside = each.path.resolve().is_relative_to(inside)
        if not lies_inside and each.exists:
            held = _places_in(inside) if held is None else held
            lies_inside = not held.isdisjoint(places_of(each.path))
        if lies_inside:
            raise OptionsError(f"{each.text}: lies in the repository itself: name another, outside of {repository}")


def _places_in(folder: Path) -> set[Place]:
    """Return what all files of a repository are, by whatever name."""
    return {
        ("file", status.st_dev, status.st_ino)
        for root, _, names in os.walk(folder)
        for name in names
        if (status := _status(os.path.join(root, name))) is not None
    }


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None  # gone meanwhile


async def check_room(each: Destination, options: RestoreOptions) -> int:
    """Open what is written in place, and return its size in bytes.  Nothing is written.

    Errors: OptionsError (too small), TargetError (in use), NbdError, TransferTimeout.
    """
    subject = f"disk {each.disk.label} ({each.disk.disk_id}): {each.text}"
    if each.kind == "file":
        return await to_thread_joined(_size_of_file, each.file, each.disk.size, subject)
    opening = open_existing(
        each.location, size=0, overwrite=True, timeout_s=CopyOptions().timeout_s, connection=options.connection
    )
    async with opening as device:
        if device.size < each.disk.size:
            raise OptionsError(
                f"{subject}: is too small: it has {device.size} bytes, the disk {each.disk.size}: name another"
            )
        return device.size


def _size_of_file(path: Path, wanted: int, subject: str) -> int:
    try:
        size = path.stat().st_size
    except OSError as exc:
        raise OptionsError(f"{subject}: {exc.strerror}") from exc
    if size != wanted:
        raise OptionsError(
            f"{subject}: has {size} bytes, the disk {wanted}: only a file of that size is restored in place: cut it to "
            f"size, or leave out --in-place"
        )
    return size

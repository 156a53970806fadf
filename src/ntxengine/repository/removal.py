"""Removing points, and images that a merge has replaced: only what nobody reads from.

Everything here is for the holder of the VM's lock.  A point first loses its name, so that one that is removed in part
is never listed; what a kill leaves is removed the next time.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ntxengine import files
from ntxengine.errors import TargetError
from ntxengine.files import durable
from ntxengine.files.locks import give_back, is_locked, take
from ntxengine.images.header import BadHeader, read_header
from ntxengine.images.rebase import set_backing
from ntxengine.repository import layout, rewrite
from ntxengine.repository.point import Point
from ntxengine.repository.reading import lock_file

log = logging.getLogger(__name__)

IMAGE_NAME = re.compile(r"disk-[0-9a-f-]{36}(\.g[1-9][0-9]{0,5})?\.qcow2(\.map)?")
"""An image of a point, in any generation, or the cluster map of one that was being written."""

_STILL_OPEN = (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY)
"""What NFS and FUSE say of a folder, or a file in it, that has only lost the name that it was opened by."""


def unused_images(point: Point) -> list[Path]:
    """Return images in the folder of a point that are none of its disks: replaced by a merge, or left by a killed one.

    Errors: RepositoryError.
    """
    used = {disk.file for disk in point.disks}
    try:
        names = sorted(os.listdir(point.path))
    except OSError as exc:
        raise durable.read_error(point.path, exc) from exc
    return [point.path / name for name in names if name not in used and IMAGE_NAME.fullmatch(name)]


def remove_unused_images(point: Point) -> bool:
    """Remove them, unless somebody reads from the point; say whether none is left.  Errors: TargetError."""
    unused = unused_images(point)
    if not unused:
        return True
    with _alone(point) as is_alone:
        if not is_alone or any(map(is_locked, unused)):
            return False
        for path in unused:
            durable.remove_file(path)
        durable.sync_folder(point.path)
    return True


@dataclass(frozen=True)
class Removal:
    """Points that are gone, and those that are left to the next prune, as somebody reads from them."""

    removed: tuple[Point, ...]
    in_use: tuple[Point, ...]


def remove_points(points: Sequence[Point], goes: Collection[str]) -> Removal:
    """Remove of the points of a VM, oldest first, those with such ids that nothing which stays is on top of.

    Errors: TargetError, RepositoryError.
    """
    needed: set[str | None] = {name for point in points for name in _below_unused(point)}
    removed, in_use = [], []
    for point in reversed(points):
        if point.id not in goes:
            needed.add(point.parent_id)
        elif point.id not in needed and _remove(point):
            removed.append(point)
        else:
            needed.add(point.parent_id)
            in_use.append(point)
    return Removal(tuple(removed), tuple(in_use))


def _below_unused(point: Point) -> Iterator[str]:
    """Yield the ids of the points that unused images of a point are on top of, for who still reads them."""
    for path in unused_images(point):
        with suppress(BadHeader):  # one that was never finished
            yield read_header(path).backing.removeprefix("../").partition("/")[0]


def _remove(point: Point) -> bool:
    """Remove a point, unless somebody reads from it; say whether it is gone."""
    with _alone(point) as is_alone:
        if not is_alone or any(is_locked(point.image_path(disk)) for disk in point.disks):
            return False
        removed = point.path.with_name(f"{layout.REMOVED_PREFIX}{point.id}")
        durable.remove_tree(removed)
        durable.rename(point.path, removed)
        durable.sync_folder(removed.parent)
    # Its lock is given back by now: NFS keeps the names of files that are open, and a folder of such names.
    _remove_rest(removed)
    return True


def finish_pruning(points: Sequence[Point], vm_folder: Path) -> None:
    """Bring to its end what an earlier prune could not, or was killed in: no image is left that no point says is its
    disk, unless somebody reads from it, and each image records the one that the point below says is its own.

    Errors: RepositoryError, TargetError.
    """
    remove_rests(vm_folder)
    for point in points:
        rewrite.settle(point)
    for point in points:
        if unused_images(point):
            above = [each for each in points if each.parent_id == point.id]
            if all(list(map(partial(_put_on, point), above))):
                remove_unused_images(point)


def _put_on(parent: Point, point: Point) -> bool:
    """Let the images of a point record those that its parent has now; False if somebody has one open, or it is damaged:
    put back from a copy, it may record the one before.
    """
    for disk in point.disks:
        if disk.backing:
            path, backing = point.image_path(disk), layout.backing_name(parent.id, parent.disk(disk.disk_id).file)
            try:
                is_on_it = read_header(path).backing == backing
            except BadHeader as exc:
                log.warning("%s: the image %s: what was below it before a merge stays, for a copy of it", path, exc)
                return False
            if is_on_it:
                continue
            if is_locked(path):
                return False
            set_backing(path, backing)
    return True


def remove_rests(vm_folder: Path) -> None:
    """Remove points that lost their names before a kill.  Errors: TargetError."""
    for folder in sorted(vm_folder.glob(f"{layout.REMOVED_PREFIX}*")):
        _remove_rest(folder)


def _remove_rest(folder: Path) -> None:
    """Remove what is left of a point, but files that somebody has open where those keep a name: the next time does.

    Errors: TargetError.
    """
    try:
        durable.remove_tree(folder)
    except TargetError as exc:
        if exc.errno not in _STILL_OPEN:
            raise
        log.debug("%s", exc)


@contextmanager
def _alone(point: Point) -> Iterator[bool]:
    """Hold the lock of a point alone; False if somebody reads from it."""
    path = lock_file(point)
    try:
        fd = -1 if path is None else files.open_regular(path, os.O_RDWR)
    except FileNotFoundError:
        fd = -1  # damaged: nobody can read it
    except OSError as exc:
        raise durable.write_error(point.path, "locking", exc) from exc
    try:
        is_alone = True
        if fd >= 0:
            try:
                take(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # somebody has it, or it cannot be known
                is_alone = False
        yield is_alone
    finally:
        if fd >= 0:
            give_back(fd)


def bytes_of(vm_folder: Path) -> int:
    """Return what all files below a folder take on their file system.  Errors: RepositoryError."""
    total = 0
    try:
        for folder, _, names in os.walk(vm_folder, onerror=_raise):
            for name in names:
                with suppress(FileNotFoundError):
                    total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    except OSError as exc:
        raise durable.read_error(vm_folder, exc) from exc
    return total


def _raise(error: OSError) -> None:
    raise error

"""A raw file as a place: written beside what is there where the file system shares blocks, and in place where not.

reflink    NAME --clone--> NAME.g5.next --written--> (commit) --renamed--> NAME
in place   NAME, which is between two generations while a cycle writes
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from ntxengine import files
from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.location import Location
from ntxengine.dataplane.open import naming, open_existing, open_source
from ntxengine.errors import RepositoryError, TargetError
from ntxengine.files import durable
from ntxengine.images.create import NewImage, make_image
from ntxengine.replicate.targets.base import Kept, Named, Place, TargetDisk, next_name

_FICLONE = 0x40049409
_CANNOT_SHARE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.ETXTBSY)


class RawPlace(Place):
    """The file at `path`."""

    def __init__(self, disk: TargetDisk, path: Path, generation: int) -> None:
        super().__init__(disk)
        self.path = path
        self._beside = path.with_name(next_name(path.name, generation))
        self.written = path
        self.names = (path.name,)

    async def prepare(self) -> None:
        """As Place.prepare: clone it, or make a new one where there is none."""
        await to_thread_joined(durable.remove_file, self._beside)
        if self.disk.before is None:
            self.is_unknown = await to_thread_joined(_is_file, self.path)
            if not self.is_unknown:
                await make_image(NewImage(self.path, self.disk.size), "raw")
                await to_thread_joined(durable.sync_folder, self.path.parent)
                self.is_zero = True
        elif not self.disk.begun and await to_thread_joined(clone, self.path, self._beside):
            self.keeps = True
            self.written = self._beside
            self.names = (self._beside.name,)

    async def room_for(self, bytes_data: int) -> int:
        """As Place.room_for: what is written in place has room where the file is not sparse."""
        if self.keeps:
            return bytes_data
        return min(bytes_data, await to_thread_joined(_bytes_sparse, self.path, self.disk.size))

    async def begin(self) -> None:
        """As Place.begin."""
        await to_thread_joined(_resize, self.written, self.disk.size)

    @asynccontextmanager
    async def writing(self, options: CopyOptions, stored_to: int) -> AsyncIterator[Device]:
        """As Place.writing.  Past the page cache: it is synced in the end all the same."""
        del stored_to
        with self._named():
            async with open_existing(
                _location(self.written),
                size=self.disk.size,
                overwrite=True,
                timeout_s=options.timeout_s,
                direct=True,
            ) as device:
                yield device

    @asynccontextmanager
    async def reading(self, options: CopyOptions) -> AsyncIterator[Device]:
        """As Place.reading."""
        with self._named():
            async with open_source(_location(self.written), timeout_s=options.timeout_s) as device:
                yield device

    async def settle(self) -> Kept:
        """As Place.settle."""
        await to_thread_joined(durable.sync, self.written)
        await to_thread_joined(durable.sync_folder, self.path.parent)
        rename = (self._beside.name, self.path.name) if self.keeps else None
        return Kept(self.disk, (self.path.name,), rename)

    async def give_up(self) -> None:
        """As Place.give_up."""
        if self.keeps:
            await to_thread_joined(durable.remove_file, self._beside)

    @contextmanager
    def _named(self) -> Iterator[None]:
        with naming(str(self.written), str(self.path)):
            yield


@asynccontextmanager
async def reading_raw(path: Path, options: CopyOptions) -> AsyncIterator[Device]:
    """Open a raw file of a whole generation.  Errors: as open_source."""
    async with open_source(_location(path), timeout_s=options.timeout_s) as device:
        yield device


def check_raw(path: Path, disk: TargetDisk, named: Named) -> None:
    """Refuse a file that is not as the last cycle left it.  Errors: RepositoryError.

    One of which is known that it is not, or may not be, is read before it is written: its size is given to it then.
    """
    if disk.before is None:
        return
    if not _is_file(path):
        raise RepositoryError(f"{path}: is missing, and {disk} of the replica is in it: put it back, {named.anew}")
    if disk.begun or disk.before.is_doubted:
        return
    unnamed = path.with_name(disk.unnamed) if disk.unnamed else path
    size = (unnamed if _is_file(unnamed) else path).stat().st_size
    if size != disk.before.size:
        raise RepositoryError(
            f"{path}: has {size} bytes, and {disk} of the replica had {disk.before.size}: somebody else changed it: "
            f"put it back, {named.anew}"
        )


def clone(source: Path, copy: Path) -> bool:
    """Make `copy` a file that shares the blocks of `source`; return false where the file system cannot.

    Errors: TargetError.
    """
    try:
        fd = files.open_regular(source)
    except OSError as exc:
        raise durable.read_error(source, exc) from exc
    try:
        made = files.open_regular(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IMODE(os.fstat(fd).st_mode))
        try:
            fcntl.ioctl(made, _FICLONE, fd)
            with suppress(OSError):  # whoever runs the machine may have been given the file
                os.fchown(made, os.fstat(fd).st_uid, os.fstat(fd).st_gid)
        except OSError:
            copy.unlink(missing_ok=True)
            raise
        finally:
            os.close(made)
    except OSError as exc:
        if exc.errno in _CANNOT_SHARE:
            return False
        raise durable.write_error(copy, f"cloning {source.name}", exc) from exc
    finally:
        os.close(fd)
    return True


class NewRawPlace(RawPlace):
    """A new file, whatever is at `path`, which stays until the commit."""

    async def prepare(self) -> None:
        """As Place.prepare."""
        await to_thread_joined(durable.remove_file, self._beside)
        self.keeps = self.is_zero = True
        self.written = self._beside
        self.names = (self._beside.name,)
        await make_image(NewImage(self._beside, self.disk.size), "raw")


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _bytes_sparse(path: Path, size: int) -> int:
    try:
        found = path.stat()
    except OSError as exc:
        raise durable.read_error(path, exc) from exc
    return max(0, size - found.st_blocks * 512)


def _resize(path: Path, size: int) -> None:
    try:
        if path.stat().st_size != size:
            os.truncate(path, size)
            durable.sync(path)
    except OSError as exc:
        text = f"{path}: cannot have {size} bytes: {exc.strerror}"
        raise TargetError(text, errno=exc.errno or 0) from exc


def _location(path: Path) -> Location:
    return Location("file", str(path), path=str(path))

"""Making a disk image: the counterpart of open_image.  The caller does not see what writes the format.

    async with create_image(new, "qcow2", CopyOptions()) as image:
        ... write to image.device ...
        await image.finish()

state       what may follow                 the file
open        checkpoint, finish, abandon     worthless
checkpoint  as open; reopen_image           holds what was written before, whatever becomes of us
finished                                    whole.  Not synced: that is the caller's, who may have several
abandoned                                   removed

An image that is left before finish() is kept as its last checkpoint, and removed if it has none.  A format is a class,
and a row in WRITERS.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ntxengine import files
from ntxengine._core.engine import Device
from ntxengine.concurrency.completion import acquire_in_thread, run_to_completion, to_thread, to_thread_joined
from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.location import Location
from ntxengine.dataplane.open import open_existing
from ntxengine.errors import Cancelled, OptionsError, TargetError
from ntxengine.files import durable
from ntxengine.images import qemu_img
from ntxengine.images.qemu_nbd import QemuNbd, ServerEnded
from ntxengine.images.served import ImageFile

_NOT_OPEN = "this image is not open: it was finished or closed"


@dataclass(frozen=True)
class NewImage:
    """An image to be made at `path`, of a disk of `size` bytes.

    `backing` is what it records as the image below it, relative to its folder, "" for none; `below` are the files of
    that one and those below it, nearest first, and nothing else is ever opened for it.
    """

    path: Path
    size: int
    backing: str = ""
    below: tuple[Path, ...] = ()


class ImageWriter(ABC):
    """An image that is being written, through `device`.  One task at a time may use it."""

    format: ClassVar[str]

    def __init__(self, new: NewImage, options: CopyOptions) -> None:
        """Not for callers: see create_image and reopen_image."""
        self.new = new
        self._options = options
        self._stack = AsyncExitStack()
        self._device: Device | None = None
        self._has_checkpoint = self._is_whole = False

    @property
    def device(self) -> Device:
        """What is to be written to.  Gone once the image is finished or closed."""
        if self._device is None:
            raise OptionsError(f"{self.new.path}: {_NOT_OPEN}")
        return self._device

    @classmethod
    @abstractmethod
    async def make(cls, new: NewImage) -> None:
        """Make the image with nothing in it.  Errors: TargetError, ToolError."""

    @abstractmethod
    async def _check(self) -> None:
        """Refuse a file that is not the image of a checkpoint, once nobody else has it open.

        Errors: RepositoryError, OptionsError; ToolError, TargetError (it cannot be looked at); LockedError.
        """

    @abstractmethod
    async def _open(self, stack: AsyncExitStack) -> Device:
        """Open the image that exists for writing; `stack` is closed by finish()."""

    async def open(self, *, again: bool = False) -> None:
        """Open what `make` made, or, `again`, what a checkpoint holds.

        Errors: NbdError, TargetError, ToolError, TransferTimeout; RepositoryError (it is not that image).
        """
        self._has_checkpoint = again
        try:
            if again:
                await self._check()
            self._device = await self._open(self._stack)
        except BaseException:
            await self.close()
            raise

    async def checkpoint(self) -> None:
        """Make what has been written survive us, and a power cut.  Nothing may be in flight.

        Errors: NbdError, TargetError, TransferTimeout.
        """
        await _flush(self.device, self._options)
        self.keep()

    def keep(self) -> None:
        """What has been written survives us from now on: a copy to the device has made a checkpoint of its own."""
        self._has_checkpoint = True

    @property
    def is_kept(self) -> bool:
        """Whether it can be opened again after it was closed: it has a checkpoint."""
        return self._has_checkpoint

    async def finish(self) -> None:
        """Close the image: it is whole now.

        Errors: ToolError (its writer did not close it properly); TargetError, as of a lost connection (it had ended).
        """
        if self._device is None:
            raise OptionsError(f"{self.new.path}: {_NOT_OPEN}")
        self._device = None
        try:
            await self._stack.aclose()
        except ServerEnded as exc:
            raise TargetError(str(exc), errno=errno.ECONNRESET) from exc
        self._is_whole = True

    async def abandon(self) -> None:
        """Close the image and remove it, whatever checkpoint it has."""
        self._has_checkpoint = False
        await self.close()

    async def close(self) -> None:
        """Close the image: kept as its last checkpoint, removed if it has none.  After finish() it does nothing."""
        self._device = None
        # What its writer says of an end is of no interest where nobody asked for a whole image: it goes to the log.
        why = sys.exc_info()[1] or Cancelled("the image is not wanted")
        await run_to_completion(self._end(why))

    async def _end(self, why: BaseException) -> None:
        try:
            await self._stack.__aexit__(type(why), why, why.__traceback__)
        finally:
            if not self._is_whole and not self._has_checkpoint:
                await to_thread(_remove, self.new.path)


async def _flush(device: Device, options: CopyOptions) -> None:
    """Let a copy of nothing end with its flush."""
    nothing = Device.open_null(device.size)
    try:
        await copy(nothing, device, [], options=dataclasses.replace(options, connections=1))
    finally:
        nothing.close()


class RawFile(ImageWriter):
    """The bytes of the disk, and holes where there are none."""

    format = "raw"

    @classmethod
    async def make(cls, new: NewImage) -> None:
        """As ImageWriter.make: a sparse file, which only its owner may read."""
        _refuse_backing(new)
        await acquire_in_thread(lambda: _make_sparse(new), give_back=_remove)

    async def _check(self) -> None:
        """The size is looked at when it is opened."""

    async def _open(self, stack: AsyncExitStack) -> Device:
        place = Location("file", str(self.new.path), path=str(self.new.path))
        opening = open_existing(place, size=self.new.size, overwrite=True, timeout_s=self._options.timeout_s)
        return await stack.enter_async_context(opening)


class QemuNbdImage(ImageWriter):
    """A QCOW2 image, written by a qemu-nbd."""

    format = "qcow2"
    _was_mended = False

    @classmethod
    async def make(cls, new: NewImage) -> None:
        """As ImageWriter.make, for its owner alone.

        An empty file may be there, of somebody who keeps the place: its mode stays.
        """
        path = await acquire_in_thread(lambda: _claim(new.path), give_back=_remove)
        try:
            await qemu_img.create(path, size=new.size, backing=new.backing)
        except BaseException:
            _remove(path)
            raise

    async def _check(self) -> None:
        new = self.new
        await to_thread_joined(qemu_img.check, new.path, size=new.size, backing=new.backing)
        await self._mend()
        self._was_mended = True

    async def _mend(self) -> None:
        await qemu_img.mend([self.new.path, *self.new.below])

    async def finish(self) -> None:
        """As ImageWriter.finish.  Errors: also as qemu_img.mend."""
        await super().finish()
        if self._was_mended:
            # Clusters that were taken behind the end of a file that could not grow are seen only now that it has.
            await self._mend()

    async def _open(self, stack: AsyncExitStack) -> Device:
        image = ImageFile(self.new.path, backing=self.new.below)
        server = QemuNbd(image, read_only=False, connections=self._options.most_connections)
        await stack.enter_async_context(server)
        opening = open_existing(server.uri, size=self.new.size, timeout_s=self._options.timeout_s)
        return await stack.enter_async_context(opening)


WRITERS: dict[str, type[ImageWriter]] = {writer.format: writer for writer in (RawFile, QemuNbdImage)}


async def make_image(new: NewImage, format: str) -> None:
    """Make an image that nothing is written to: it reads as what lies below it, or as zeros.

    Errors: TargetError (exists already, no room), ToolError; OptionsError (no such format).
    """
    await _writer(format).make(new)


@asynccontextmanager
async def create_image(new: NewImage, format: str, options: CopyOptions) -> AsyncIterator[ImageWriter]:
    """Make an image and open it for writing by a copy that has these options.

    Errors: as make_image and ImageWriter.open.
    """
    await make_image(new, format)
    async with _closing(new, format, options) as image:
        await image.open()
        yield image


@asynccontextmanager
async def reopen_image(new: NewImage, format: str, options: CopyOptions) -> AsyncIterator[ImageWriter]:
    """Open an image again of which somebody who is gone made a checkpoint.

    What was written after that checkpoint may be there or not.
    Errors: as ImageWriter.open.
    """
    async with _closing(new, format, options) as image:
        await image.open(again=True)
        yield image


@asynccontextmanager
async def _closing(new: NewImage, format: str, options: CopyOptions) -> AsyncIterator[ImageWriter]:
    image = _writer(format)(new, options)
    try:
        yield image
    finally:
        await image.close()


def _writer(format: str) -> type[ImageWriter]:
    try:
        return WRITERS[format]
    except KeyError:
        raise OptionsError(f"format {format!r}: must be one of {', '.join(WRITERS)}") from None


def _refuse_backing(new: NewImage) -> None:
    if new.backing or new.below:
        raise OptionsError(f"{new.path}: a raw file has nothing below it")


def _make_sparse(new: NewImage) -> Path:
    """Make the file and return its path."""
    try:
        fd = os.open(new.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, durable.FILE_MODE)
        try:
            os.ftruncate(fd, new.size)
        except OSError:
            _remove(new.path)
            raise
        finally:
            os.close(fd)
    except OSError as exc:
        raise durable.write_error(new.path, "making the file", exc) from exc
    return new.path


def _claim(path: Path) -> Path:
    """Make an empty file, or take one that is there, and return its path: qemu-img overwrites whatever it finds."""
    action = "making the image"
    try:
        fd = files.open_regular(path, os.O_WRONLY | os.O_CREAT, durable.FILE_MODE)
        try:
            is_empty = os.fstat(fd).st_size == 0
        finally:
            os.close(fd)
    except OSError as exc:
        raise durable.write_error(path, action, exc) from exc
    if not is_empty:
        raise durable.write_error(path, action, FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)))
    return path


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)

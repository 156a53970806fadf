"""An image that is being written: the contract of whatever writes one.

state       what may follow                 the file
open        checkpoint, finish, abandon     worthless
checkpoint  as open; reopen_image           holds what was written before, whatever becomes of us
finished                                    whole.  Not synced: that is the caller's, who may have several
abandoned                                   removed

An image that is left before finish() is kept as its last checkpoint, and removed if it has none.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ntxengine import files
from ntxengine._core.device import Device
from ntxengine.concurrency.completion import run_to_completion, to_thread_joined
from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.errors import Cancelled, OptionsError
from ntxengine.files import durable
from ntxengine.images.choice import OWN, ImageOptions

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
    options: ImageOptions = OWN


class ImageWriter(ABC):
    """An image that is being written, through `device`.  One task at a time may use it.

    `version` names what wrote it, so that images of a faulty one could be found.
    """

    format: ClassVar[str]
    version: ClassVar[str]

    def __init__(self, new: NewImage, options: CopyOptions) -> None:
        """Not for callers: see create_image and reopen_image."""
        self.new = new
        self._options = options
        self._stack = AsyncExitStack()
        self._device: Device | None = None
        self._is_worthless = self._has_checkpoint = False

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
    async def _make(self) -> None:
        """Make what _open opens; after an error nothing is left.  Errors: as make."""

    @abstractmethod
    async def _open(self, stack: AsyncExitStack) -> Device:
        """Open the image for writing; `stack` is closed by finish()."""

    @abstractmethod
    async def _open_again(self, stack: AsyncExitStack, stored_to: int) -> Device:
        """Open the image of a checkpoint, as _open, once nobody else has it open; refuse a file that is none.

        Errors: RepositoryError, OptionsError; ToolError, TargetError (it cannot be looked at); LockedError.
        """

    def _files(self) -> tuple[Path, ...]:
        """Return the files that are removed with an image that nobody wants."""
        return (self.new.path,)

    async def open(self) -> None:
        """Make the image and open it.  Errors: as make; NbdError, TransferTimeout."""
        await self._make()
        self._is_worthless = True
        await self._opened(self._open(self._stack))

    async def open_again(self, stored_to: int) -> None:
        """Open what a checkpoint holds; what was written at `stored_to` (bytes) or behind need not be kept.

        Errors: as open; RepositoryError (it is not that image), LockedError.
        """
        self._has_checkpoint = True
        await self._opened(self._open_again(self._stack, stored_to))

    async def _opened(self, opening: Awaitable[Device]) -> None:
        try:
            self._device = await opening
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
        self._is_worthless = False

    @property
    def is_kept(self) -> bool:
        """Whether it can be opened again after it was closed: it has a checkpoint."""
        return self._has_checkpoint

    async def finish(self) -> None:
        """Close the image: it is whole now.

        Errors: ToolError (its writer did not close it properly); TargetError.
        """
        if self._device is None:
            raise OptionsError(f"{self.new.path}: {_NOT_OPEN}")
        self._device = None
        await self._stack.aclose()
        self._is_worthless = False

    async def abandon(self) -> None:
        """Close the image and remove it, whatever checkpoint it has."""
        self._has_checkpoint = False
        self._is_worthless = True
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
            if self._is_worthless:
                await to_thread_joined(remove, *self._files())


async def _flush(device: Device, options: CopyOptions) -> None:
    """Let a copy of nothing end with its flush."""
    nothing = Device.open_null(device.size)
    try:
        await copy(nothing, device, [], options=dataclasses.replace(options, connections=1))
    finally:
        nothing.close()


def claim(path: Path) -> Path:
    """Make an empty file for its owner alone, or take one that is there, of somebody who keeps the place.

    Returns its path.  Errors: TargetError.
    """
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


def map_of(path: Path) -> Path:
    """Return where it is said, as long as an image of ours is not whole, which cluster of the disk is where in it."""
    return path.with_name(path.name + ".map")


def remove(*paths: Path) -> None:
    """Remove files, of which some may not be there."""
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)

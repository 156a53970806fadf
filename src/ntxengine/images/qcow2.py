"""A QCOW2 image that the core writes by itself.

PATH        clusters of the disk behind each other, and no header: no image, until it is finished
PATH.map    where they are, until then; what a checkpoint is gone on with
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import acquire_in_thread, to_thread_joined
from ntxengine.errors import LockedError, PlaceError, RepositoryError, TargetError
from ntxengine.files import durable, free_space
from ntxengine.images import qemu_img
from ntxengine.images.writer import ImageWriter, NewImage, claim, map_of, remove


class Qcow2Image(ImageWriter):
    """A QCOW2 image, written once and from its beginning to its end."""

    format = "qcow2"
    version = "ntx-qcow2/2"
    _is_begun = False

    @classmethod
    async def make(cls, new: NewImage) -> None:
        """As ImageWriter.make, for its owner alone."""
        await acquire_in_thread(lambda: _make_empty(new), give_back=remove)

    async def _make(self) -> None:
        await acquire_in_thread(lambda: claim(self.new.path), give_back=remove)

    async def _open(self, stack: AsyncExitStack) -> Device:
        device = await acquire_in_thread(lambda: _begun(self.new), give_back=lambda begun: _undo(begun, self.new))
        self._is_begun = True
        return self._kept(stack, device)

    async def _open_again(self, stack: AsyncExitStack, stored_to: int) -> Device:
        new = self.new
        if not await to_thread_joined(map_of(new.path).exists):
            if stored_to < new.size:
                raise RepositoryError(
                    f"{new.path}: {map_of(new.path).name} is missing, or something else wrote the image"
                )
            # It was whole already.  Whoever wrote it, it is looked at as a whole.
            await to_thread_joined(qemu_img.check, new.path, size=new.size, backing=new.backing)
            await qemu_img.mend([new.path, *new.below])
        device = await acquire_in_thread(lambda: _open(new, min(stored_to, new.size)), give_back=Device.close)
        self._is_begun = True
        return self._kept(stack, device)

    def _kept(self, stack: AsyncExitStack, device: Device) -> Device:
        stack.push_async_callback(to_thread_joined, device.close)
        return device

    def _files(self) -> tuple[Path, ...]:
        # What was not begun by us may be another's by now.
        return (map_of(self.new.path), self.new.path) if self._is_begun else ()

    async def finish(self) -> None:
        """As ImageWriter.finish, and synced.  Errors: TargetError."""
        device = self.device
        async with self._options.reserve(f"finishing {self.new.path}", [device.finish_bytes]):
            await to_thread_joined(_finish, device, self.new)
        await super().finish()


def _open(new: NewImage, again_from: int | None = None) -> Device:
    with _as_target(new):
        return Device.open_qcow2(
            os.fsencode(new.path),
            os.fsencode(map_of(new.path)),
            new.size,
            backing_name=os.fsencode(new.backing) if new.backing else None,
            zstd_level=new.options.zstd_level,
            again_from=again_from,
        )


def _begun(new: NewImage) -> Device:
    """Open an image whose place was claimed, for the first time."""
    try:
        return _open(new)
    except BaseException as exc:
        if not (isinstance(exc, TargetError) and exc.errno == errno.EEXIST):  # then somebody else has begun it
            remove(new.path)
        raise


def _undo(device: Device, new: NewImage) -> None:
    remove(map_of(new.path), new.path)
    device.close()


def _make_empty(new: NewImage) -> Path:
    """Make the image and return its path."""
    claim(new.path)
    device = _begun(new)
    try:
        _finish(device, new)
    except BaseException:
        _undo(device, new)
        raise
    device.close()
    return new.path


def _finish(device: Device, new: NewImage) -> None:
    """Make it whole.  The map goes while it is locked: whoever opens the image then finds one that is whole."""
    with _as_target(new):
        device.finish()
    durable.remove_file(map_of(new.path))


_NOT_THAT_IMAGE = {errno.ESTALE, errno.EBADMSG, errno.ENOENT}


@contextmanager
def _as_target(new: NewImage) -> Iterator[None]:
    """Say of a failure of the core what is left to the caller."""
    try:
        yield
    except PlaceError as exc:
        if exc.errno in _NOT_THAT_IMAGE:
            raise RepositoryError(str(exc)) from exc
        if exc.errno == errno.EBUSY:
            raise LockedError(f"{exc}: end it, or try later") from exc
        text = free_space.remedied(str(exc), exc.errno, new.path)
        raise TargetError(text, offset=exc.offset, length=exc.length, errno=exc.errno) from exc

"""A QCOW2 image that the core writes by itself.

PATH        clusters of the disk behind each other, and no header: no image, until it is finished
PATH.map    where they are, until then; what a checkpoint is gone on with
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from ntxengine._core.engine import Device
from ntxengine.concurrency.completion import acquire_in_thread, to_thread, to_thread_joined
from ntxengine.errors import LockedError, PlaceError, RepositoryError, TargetError
from ntxengine.images import qemu_img
from ntxengine.images.writer import ImageWriter, NewImage, claim, map_of, remove


class Qcow2Image(ImageWriter):
    """A QCOW2 image, written once and from its beginning to its end."""

    format = "qcow2"

    @classmethod
    async def make(cls, new: NewImage) -> None:
        """As ImageWriter.make, for its owner alone."""
        await acquire_in_thread(lambda: _make_empty(new), give_back=remove)

    async def _begin(self, stack: AsyncExitStack) -> Device:
        return await self._take(stack, lambda: _begun(self.new))

    async def _reopen(self, stack: AsyncExitStack, stored_to: int) -> Device:
        return await self._take(stack, lambda: _opened_again(self.new, stored_to))

    async def _take(self, stack: AsyncExitStack, opening: Callable[[], Device]) -> Device:
        device = await acquire_in_thread(opening, give_back=Device.close)
        stack.push_async_callback(to_thread, device.close)
        return device

    def _files(self) -> tuple[Path, ...]:
        return self.new.path, map_of(self.new.path)

    async def finish(self) -> None:
        """As ImageWriter.finish, and synced.  Errors: TargetError."""
        await to_thread_joined(_finish, self.device)
        await super().finish()
        await to_thread_joined(remove, map_of(self.new.path))


def _open(new: NewImage, again_from: int | None) -> Device:
    return Device.open_qcow2(
        os.fsencode(new.path),
        os.fsencode(map_of(new.path)),
        new.size,
        backing_name=os.fsencode(new.backing) if new.backing else None,
        again_from=again_from,
    )


def _begun(new: NewImage) -> Device:
    path = claim(new.path)
    remove(map_of(new.path))  # of somebody who died before the image was kept
    try:
        with _as_target():
            return _open(new, None)
    except BaseException:
        remove(path, map_of(new.path))
        raise


def _opened_again(new: NewImage, stored_to: int) -> Device:
    with _as_target():
        device = _open(new, min(stored_to, new.size))
    try:
        if not map_of(new.path).exists():  # whole already: is it the right one?
            qemu_img.check(new.path, size=new.size, backing=new.backing)
    except BaseException:
        device.close()
        raise
    return device


def _make_empty(new: NewImage) -> Path:
    device = _begun(new)
    try:
        _finish(device)
    except BaseException:
        remove(new.path)
        raise
    finally:
        device.close()
        remove(map_of(new.path))
    return new.path


def _finish(device: Device) -> None:
    with _as_target():
        device.finish()


_NOT_THAT_IMAGE = {errno.ESTALE, errno.EBADMSG, errno.ENOENT}


@contextmanager
def _as_target() -> Iterator[None]:
    """Say of a failure of the core what is left to the caller."""
    try:
        yield
    except PlaceError as exc:
        if exc.errno in _NOT_THAT_IMAGE:
            raise RepositoryError(str(exc)) from exc
        if exc.errno == errno.EBUSY:
            raise LockedError(f"{exc}: end it, or try later") from exc
        raise TargetError(str(exc), offset=exc.offset, length=exc.length, errno=exc.errno) from exc

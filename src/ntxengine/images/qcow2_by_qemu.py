"""A QCOW2 image that a qemu-nbd writes: the judge of our own writer, and the way around it."""

from __future__ import annotations

import errno
from contextlib import AsyncExitStack

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import acquire_in_thread, to_thread_joined
from ntxengine.dataplane.open import open_existing
from ntxengine.errors import TargetError
from ntxengine.images import qemu_img
from ntxengine.images.qemu_nbd import QemuNbd, ServerEnded
from ntxengine.images.served import ImageFile
from ntxengine.images.writer import ImageWriter, NewImage, claim, remove


class Qcow2ByQemu(ImageWriter):
    """A QCOW2 image, written by a qemu-nbd."""

    format = "qcow2-by-qemu"
    version = "qemu-nbd"
    _was_mended = False

    @classmethod
    async def make(cls, new: NewImage) -> None:
        """As ImageWriter.make, for its owner alone.

        An empty file may be there, of somebody who keeps the place: its mode stays.
        """
        path = await acquire_in_thread(lambda: claim(new.path), give_back=remove)
        try:
            await qemu_img.create(path, size=new.size, backing=new.backing)
        except BaseException:
            remove(path)
            raise

    async def _make(self) -> None:
        await self.make(self.new)

    async def _open_again(self, stack: AsyncExitStack, stored_to: int) -> Device:
        new = self.new
        await to_thread_joined(qemu_img.check, new.path, size=new.size, backing=new.backing)
        await self._mend()
        self._was_mended = True
        return await self._open(stack)

    async def _mend(self) -> None:
        await qemu_img.mend([self.new.path, *self.new.below])

    async def finish(self) -> None:
        """As ImageWriter.finish.  Errors: also as qemu_img.mend; TargetError, as of a lost connection (it ended)."""
        try:
            await super().finish()
        except ServerEnded as exc:
            raise TargetError(str(exc), errno=errno.ECONNRESET) from exc
        if self._was_mended:
            # Clusters that were taken behind the end of a file that could not grow are seen only now that it has.
            await self._mend()

    async def _open(self, stack: AsyncExitStack) -> Device:
        image = ImageFile(self.new.path, backing=self.new.below)
        server = QemuNbd(image, read_only=False, connections=self._options.most_connections)
        await stack.enter_async_context(server)
        opening = open_existing(server.uri, size=self.new.size, timeout_s=self._options.timeout_s)
        return await stack.enter_async_context(opening)

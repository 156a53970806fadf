"""A raw file as an image that is written."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from pathlib import Path

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import acquire_in_thread
from ntxengine.dataplane.location import Location
from ntxengine.dataplane.open import open_existing
from ntxengine.errors import OptionsError
from ntxengine.files import durable
from ntxengine.images.writer import ImageWriter, NewImage, claim, remove


class RawFile(ImageWriter):
    """The bytes of the disk, and holes where there are none."""

    format = "raw"
    version = "raw"

    @classmethod
    async def make(cls, new: NewImage) -> None:
        """As ImageWriter.make: a sparse file, which only its owner may read.

        An empty file may be there, of somebody who keeps the place: its mode stays.
        """
        _refuse_backing(new)
        await acquire_in_thread(lambda: _make_sparse(new), give_back=remove)

    async def _make(self) -> None:
        await self.make(self.new)

    async def _open_again(self, stack: AsyncExitStack, stored_to: int) -> Device:
        return await self._open(stack)  # which looks at the size

    async def _open(self, stack: AsyncExitStack) -> Device:
        place = Location("file", str(self.new.path), path=str(self.new.path))
        # Past the page cache: it is synced in the end all the same, which then takes longer and more CPU.
        opening = open_existing(
            place, size=self.new.size, overwrite=True, timeout_s=self._options.timeout_s, direct=True
        )
        return await stack.enter_async_context(opening)


def _refuse_backing(new: NewImage) -> None:
    if new.backing or new.below:
        raise OptionsError(f"{new.path}: a raw file has nothing below it")


def _make_sparse(new: NewImage) -> Path:
    """Make the file and return its path."""
    path = claim(new.path)
    try:
        os.truncate(path, new.size)
    except OSError as exc:
        remove(path)
        raise durable.write_error(path, "making the file", exc) from exc
    return path

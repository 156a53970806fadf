"""Making a disk image: the counterpart of open_image.  The caller does not see what writes the format.

    async with create_image(new, "qcow2", CopyOptions()) as image:
        ... write to image.device ...
        await image.finish()

A format is a class, whose contract is in writer.py, and a row in WRITERS.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ntxengine.dataplane.copy import CopyOptions
from ntxengine.errors import OptionsError
from ntxengine.images.qcow2 import Qcow2Image
from ntxengine.images.qcow2_by_qemu import Qcow2ByQemu
from ntxengine.images.raw import RawFile
from ntxengine.images.writer import ImageWriter, NewImage

__all__ = ["WRITERS", "ImageWriter", "NewImage", "create_image", "make_image", "reopen_image"]

WRITERS: dict[str, type[ImageWriter]] = {writer.format: writer for writer in (RawFile, Qcow2Image, Qcow2ByQemu)}


async def make_image(new: NewImage, format: str) -> None:
    """Make an image that nothing is written to: it reads as what lies below it, or as zeros.

    Errors: TargetError (exists already, no room), ToolError; OptionsError (no such format).
    """
    await _writer(format).make(new)


@asynccontextmanager
async def create_image(new: NewImage, format: str, options: CopyOptions) -> AsyncIterator[ImageWriter]:
    """Make an image and open it for writing by a copy that has these options.

    Errors: as ImageWriter.open; OptionsError (no such format).
    """
    async with _closing(new, format, options) as image:
        await image.open()
        yield image


@asynccontextmanager
async def reopen_image(
    new: NewImage, format: str, options: CopyOptions, *, stored_to: int
) -> AsyncIterator[ImageWriter]:
    """Open an image again of which somebody who is gone made a checkpoint.

    What was written after that checkpoint may be there or not; of that at `stored_to` (bytes) or behind nothing is
    believed.
    Errors: as ImageWriter.open_again.
    """
    async with _closing(new, format, options) as image:
        await image.open_again(stored_to)
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

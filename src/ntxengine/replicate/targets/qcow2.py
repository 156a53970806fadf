"""A QCOW2 image as a place: a new overlay for each generation, so that those before it stay.

NAME.g1.qcow2 <-backing- NAME.g2.qcow2 <-backing- NAME.g5.qcow2        a disk that nothing changed of gets none
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.errors import RepositoryError
from ntxengine.files import durable
from ntxengine.images.create import ImageWriter, NewImage, create_image, reopen_image
from ntxengine.images.header import BadHeader, read_header
from ntxengine.images.open import open_image
from ntxengine.images.rebase import set_backing
from ntxengine.images.writer import map_of
from ntxengine.replicate.state import StoredReplicaDisk
from ntxengine.replicate.targets.base import Kept, Named, Place, TargetDisk

FORMAT = "qcow2"


class Qcow2Place(Place):
    """A new image in `folder`, on top of those that the disk consists of, or of none."""

    keeps = True

    def __init__(self, disk: TargetDisk, folder: Path, name: str, *, is_incremental: bool) -> None:
        super().__init__(disk)
        below = disk.before.files if disk.before is not None and is_incremental else ()
        self._below = tuple(image.name for image in below)
        chain = tuple(folder / each for each in self._below)
        self._new = NewImage(folder / name, disk.size, self._below[0] if self._below else "", chain)
        self._image: ImageWriter | None = None
        self.is_zero = not self._below
        self.names = (name,)

    async def prepare(self) -> None:
        """As Place.prepare: an image that has the name may be of a generation that the state knows nothing of."""
        name = await to_thread_joined(_unused_name, self._new.path)
        self._new = dataclasses.replace(self._new, path=self._new.path.with_name(name))
        self.names = (name,)
        await self.give_up()

    @asynccontextmanager
    async def writing(self, options: CopyOptions, stored_to: int) -> AsyncIterator[Device]:
        """As Place.writing."""
        if self._image is not None and self._image.is_kept:
            opening = reopen_image(self._new, FORMAT, options, stored_to=stored_to)
        else:
            opening = create_image(self._new, FORMAT, options)
        async with opening as image:
            self._image = image
            yield image.device
            await image.finish()

    def keep(self) -> None:
        """As Place.keep."""
        if self._image is not None:
            self._image.keep()

    @asynccontextmanager
    async def reading(self, options: CopyOptions) -> AsyncIterator[Device]:
        """As Place.reading."""
        async with reading_chain((self._new.path, *self._new.below), options) as device:
            yield device

    async def settle(self) -> Kept:
        """As Place.settle."""
        await to_thread_joined(durable.restrict, self._new.path)
        await to_thread_joined(durable.sync, self._new.path)
        await to_thread_joined(durable.sync_folder, self._new.path.parent)
        return Kept(self.disk, (self._new.path.name, *self._below))

    async def give_up(self) -> None:
        """As Place.give_up."""
        await to_thread_joined(durable.remove_file, map_of(self._new.path))
        await to_thread_joined(durable.remove_file, self._new.path)


def free_name(folder: Path, name: str) -> str:
    """Return a name for what takes the place of an image, or is beside it: NAME.g7.qcow2 becomes NAME.g7m1.qcow2."""
    stem, _, generation = name.removesuffix(".qcow2").rpartition(".")
    first, _, number = generation.partition("m")
    count = int(number or 0) + 1
    while os.path.lexists(folder / f"{stem}.{first}m{count}.qcow2"):
        count += 1
    return f"{stem}.{first}m{count}.qcow2"


def _unused_name(path: Path) -> str:
    return free_name(path.parent, path.name) if os.path.lexists(path) else path.name


@asynccontextmanager
async def reading_chain(chain: Sequence[Path], options: CopyOptions) -> AsyncIterator[Device]:
    """Open images on top of each other, newest first.  Errors: as open_image."""
    async with open_image(chain, timeout_s=options.timeout_s, connections=options.most_connections) as device:
        yield device


def check_chain(folder: Path, disk: TargetDisk, named: Named) -> None:
    """Refuse images that are not there any more.  Errors: RepositoryError."""
    for image in disk.before.files if disk.before is not None else ():
        if not (folder / image.name).is_file():
            raise RepositoryError(
                f"{folder / image.name}: is missing, and {disk} of the replica is in it: put it back, {named.anew}"
            )


def mend_backing(folder: Path, disks: Sequence[StoredReplicaDisk]) -> None:
    """Let each image be on top of the one that the state says: a merge that was committed may not have come to that.

    Blocks.  Errors: RepositoryError, TargetError.
    """
    for disk in disks:
        for upper, lower in itertools.pairwise(disk.files):
            try:
                backing = read_header(folder / upper.name).backing
            except BadHeader as error:
                raise RepositoryError(f"{folder / upper.name}: the image {error}") from error
            if backing != lower.name:
                set_backing(folder / upper.name, lower.name)

"""One disk of a point into one file: each block is compared with the digest of its capture while it is written.

images of the chain --read--> digests, compared with the manifest at the end
                        `---> a raw file, or an image
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import CopyOptions, OnProgress
from ntxengine.dataplane.differing import require_same
from ntxengine.dataplane.extents import clipped
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.mapping import map_device
from ntxengine.errors import (
    ChecksumMismatch,
    MachineError,
    NbdError,
    PlaceError,
    RepositoryError,
    SourceError,
    TargetError,
)
from ntxengine.files import durable, free_space
from ntxengine.images.choice import OWN, ImageOptions
from ntxengine.images.create import NewImage, create_image, make_image
from ntxengine.images.open import open_image
from ntxengine.repository import Chains, Point, PointDisk, Repository

RestoreFormat = Literal["raw", "qcow2"]

_REMEDY = "restore another point, or write what is there with --no-check"


@dataclass(frozen=True)
class DiskFile:
    """A disk of a point, and the file that it becomes; `check`: compare it with its manifest."""

    point: Point
    disk: PointDisk
    path: Path
    format: RestoreFormat
    check: bool
    image: ImageOptions = OWN

    @property
    def writer(self) -> str:
        """The row of WRITERS (images/create.py)."""
        return self.image.format if self.format == "qcow2" else self.format

    def __str__(self) -> str:
        return f"point {self.point.id} disk {self.disk.label} ({self.disk.disk_id})"


async def write_disk(repository: Repository, what: DiskFile, *, options: CopyOptions, on_progress: OnProgress) -> None:
    """Write a disk into its file, which must not exist.

    A raw file has exactly the disk's size, an image whole sectors.  Not synced: that is the caller's.
    Errors: RepositoryError (an image or the manifest is damaged), ChecksumMismatch, SourceError (it cannot be read),
            TargetError (file system full), TransferTimeout, ToolError.  What is in the file is worthless then.
    """
    chain = await repository.images(what.point, what.disk, chains=Chains(checked=what.check))
    with ExitStack() as stack:
        stored = stack.enter_context(await _manifest(repository, what)) if what.check else None
        # Beside the disk: where that has room, so have its digests.
        found = stack.enter_context(_temporary(what.disk.size, what.path))
        new = NewImage(what.path, what.disk.size, options=what.image)
        if what.disk.size:
            connections = options.most_connections
            async with (
                open_image(chain, timeout_s=options.timeout_s, connections=connections) as source,
                create_image(new, what.writer, options) as image,
            ):
                with _naming(what, image.device):
                    await _copy(what, source, image.device, found, options, on_progress)
                    await image.finish()
        else:
            await make_image(new, what.writer)
        if stored is not None:
            await to_thread_joined(_require_same, what, stored, found)


def _temporary(size: int, beside: Path) -> Manifest:
    """Make a manifest without a name on the file system of a file.  Errors: TargetError."""
    try:
        return Manifest.temporary(size=size, directory=beside.parent)
    except OSError as exc:
        raise durable.write_error(beside, "making room for its digests", exc) from exc


async def _copy(
    what: DiskFile, source: Device, target: Device, found: Manifest, options: CopyOptions, on_progress: OnProgress
) -> None:
    with await map_device(source, timeout_s=options.timeout_s) as places:
        await dataplane.copy(
            source,
            target,
            (clipped(window, what.disk.size) for window in places.windows()),
            options=dataclasses.replace(options, target_is_zero=True),
            manifest=found,
            bytes_expected=what.disk.size,
            on_progress=on_progress,
        )


async def _manifest(repository: Repository, what: DiskFile) -> Manifest:
    try:
        return await repository.manifest(what.point, what.disk)
    except RepositoryError as exc:
        raise RepositoryError(f"{exc}; {_REMEDY}") from exc


@contextmanager
def _naming(what: DiskFile, target: Device) -> Iterator[None]:
    """Say of an error at a place, which may know no more than a socket, what it is about and what can be done."""
    try:
        yield
    except MachineError as error:
        text = f"{what.path}: {error}"
        if code := free_space.lacks_room(error):  # for the digests, which lie beside it: either may find it full first
            raise TargetError(free_space.remedied(text, code, what.path), errno=code) from error
        raise MachineError(text) from error
    except (SourceError, NbdError, TargetError) as error:
        kind: type[PlaceError] = SourceError
        message = (
            f"{what} cannot be read: {error}; restore another point, or save what qemu can read of the image with "
            f"`qemu-img convert --salvage`"
        )
        if isinstance(error, TargetError) or str(error).startswith(target.name):
            # A file is named already; of a server only the socket is.
            text = str(error) if str(error).startswith(str(what.path)) else f"{what.path}: {error}"
            kind, message = TargetError, free_space.remedied(text, error.errno, what.path)
        raise kind(message, offset=error.offset, length=error.length, errno=error.errno) from error


def _require_same(what: DiskFile, stored: Manifest, found: Manifest) -> None:
    try:
        require_same(stored, found, None, str(what))
    except ChecksumMismatch as exc:
        raise ChecksumMismatch(f"{exc}; {_REMEDY}", offsets=exc.offsets, blocks=exc.blocks) from exc

"""One disk of a point into one place: each block is compared with the digest of its capture while it is written.

images of the chain --read--> digests, compared with the manifest at the end
                        `---> a new file (raw, QCOW2), or a device or a server, written in place
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import Checkpoints, CopyOptions, OnProgress
from ntxengine.dataplane.differing import require_same
from ntxengine.dataplane.extents import clipped
from ntxengine.dataplane.location import Location
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.mapping import map_device
from ntxengine.dataplane.open import open_existing, open_source
from ntxengine.dataplane.retry import Patience, retrying
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
from ntxengine.images.create import NewImage, create_image, make_image
from ntxengine.images.open import open_image
from ntxengine.repository import Chains, Point, PointDisk, Repository
from ntxengine.restore.options import RestoreOptions
from ntxengine.restore.targets import Destination

_REMEDY = "restore another point, or write what is there with --no-check"


@dataclass(frozen=True)
class DiskWork:
    """A disk of a point, where it goes, and how.

    `path` is that of the file while it is made, None of what is written in place.  `copying` is for one disk of all.
    """

    repository: Repository
    point: Point
    destination: Destination
    path: Path | None
    options: RestoreOptions
    copying: CopyOptions
    tell: Callable[[str], None]

    @property
    def disk(self) -> PointDisk:
        """The disk."""
        return self.destination.disk

    @property
    def place(self) -> str:
        """What messages call the place that is written."""
        return self.destination.text if self.path is None else str(self.path)

    def __str__(self) -> str:
        return f"point {self.point.id} disk {self.disk.label} ({self.disk.disk_id})"


async def write_disk(work: DiskWork, on_progress: OnProgress) -> None:
    """Write a disk into its place.  A file must not exist, or be empty.

    A raw file has exactly the disk's size, an image whole sectors.  A file is not synced: that is the caller's.
    Errors: RepositoryError (an image or the manifest is damaged), ChecksumMismatch, SourceError (it cannot be read),
            TargetError (file system full), TransferTimeout, ToolError.  What is in the place is worthless then.
    """
    chain = await work.repository.images(work.point, work.disk, chains=Chains(checked=work.options.check))
    with ExitStack() as stack:
        stored = stack.enter_context(await _manifest(work)) if work.options.check else None
        found = stack.enter_context(temporary_manifest(work))
        if work.path is not None:
            await _make(work, work.path, chain, found, on_progress)
        elif work.disk.size:
            await _write_in_place(work, chain, found, on_progress)
        if stored is not None:
            await to_thread_joined(_require_same, work, stored, found)


async def _make(work: DiskWork, path: Path, chain: tuple[Path, ...], found: Manifest, on_progress: OnProgress) -> None:
    new = NewImage(path, work.disk.size, options=work.options.image)
    writer = new.options.format if work.destination.format == "qcow2" else "raw"
    if not work.disk.size:
        await make_image(new, writer)
        return
    async with _reading(work, chain) as source, create_image(new, writer, work.copying) as image:
        with naming(work, image.device.name):
            await _copy(work, source, image.device, found, on_progress, is_zero=True)
            await image.finish()


async def _write_in_place(work: DiskWork, chain: tuple[Path, ...], found: Manifest, on_progress: OnProgress) -> None:
    async def once(checkpoints: Checkpoints | None) -> None:
        async with _reading(work, chain) as source, writing_in_place(work) as target:
            await _copy(
                work, source, target, found, on_progress, is_zero=work.options.target_is_zero, checkpoints=checkpoints
            )

    await going_on(work, once)


async def going_on(work: DiskWork, once: Callable[[Checkpoints | None], Awaitable[None]]) -> None:
    """Do `once`, which opens what it needs; again where it was, after a lost connection to a server."""
    with naming(work, work.place):
        if work.destination.kind != "server" or work.options.retry_for_s == 0:
            await once(None)
            return
        checkpoints = Checkpoints()
        patience = Patience(work.options.retry_for_s)
        await retrying(lambda: once(checkpoints), checkpoints, patience, name=str(work), tell=work.tell)


@asynccontextmanager
async def _reading(work: DiskWork, chain: tuple[Path, ...]) -> AsyncIterator[Device]:
    copying = work.copying
    async with open_image(chain, timeout_s=copying.timeout_s, connections=copying.most_connections) as source:
        yield source


@asynccontextmanager
async def writing_in_place(work: DiskWork) -> AsyncIterator[Device]:
    """Open a device, a server or a file that is there for writing.  Errors: as open_existing."""
    async with open_existing(
        work.destination.location,
        size=work.disk.size,
        overwrite=True,
        timeout_s=work.copying.timeout_s,
        connection=work.options.connection,
    ) as device:
        yield device


async def _copy(
    work: DiskWork,
    source: Device,
    target: Device,
    found: Manifest,
    on_progress: OnProgress,
    *,
    is_zero: bool,
    checkpoints: Checkpoints | None = None,
) -> None:
    size = work.disk.size
    with await map_device(source, timeout_s=work.copying.timeout_s) as places:
        await dataplane.copy(
            source,
            target,
            (clipped(window, size) for window in places.windows()),
            options=dataclasses.replace(work.copying, target_is_zero=is_zero),
            manifest=found,
            bytes_expected=size,
            checkpoints=checkpoints,
            on_progress=_of_the_whole(on_progress, size, checkpoints),
        )


def _of_the_whole(on_progress: OnProgress, size: int, checkpoints: Checkpoints | None) -> OnProgress:
    """Let progress count what was stored before a connection was lost."""
    before = 0 if checkpoints is None else checkpoints.stored_to
    if not before:
        return on_progress
    return lambda now: on_progress(dataclasses.replace(now, bytes_total=size, bytes_done=before + now.bytes_done))


async def read_back(work: DiskWork, on_progress: OnProgress) -> None:
    """Read what was written, and compare it with the digests of the capture.

    Errors: ChecksumMismatch; else as write_disk.
    """
    with await _manifest(work) as stored, temporary_manifest(work) as found:

        async def once(checkpoints: Checkpoints | None) -> None:
            async with _opened_again(work) as device:
                await dataplane.verify(
                    device,
                    stored,
                    trusts_zeros=work.destination.format == "qcow2",
                    options=work.copying,
                    checkpoints=checkpoints,
                    found=found,
                    on_progress=_of_the_whole(on_progress, work.disk.size, checkpoints),
                )

        await going_on(work, once)


@asynccontextmanager
async def _opened_again(work: DiskWork) -> AsyncIterator[Device]:
    copying, destination = work.copying, work.destination
    if destination.format == "qcow2" and work.path is not None:
        async with open_image((work.path,), connections=copying.most_connections) as device:
            yield device
        return
    path = None if work.path is None else str(work.path)
    location = destination.location if path is None else Location("file", path, path=path)
    async with open_source(location, timeout_s=copying.timeout_s, connection=work.options.connection) as device:
        yield device


async def _manifest(work: DiskWork) -> Manifest:
    try:
        return await work.repository.manifest(work.point, work.disk)
    except RepositoryError as exc:
        raise RepositoryError(f"{exc}; {_REMEDY}") from exc


def temporary_manifest(work: DiskWork) -> Manifest:
    """Make a manifest without a name, beside a file that is made: where that has room, so have its digests.

    Errors: TargetError.
    """
    folder = None if work.path is None else work.path.parent
    try:
        return Manifest.temporary(size=work.disk.size, directory=folder)
    except OSError as exc:
        raise durable.write_error(work.place, "making room for its digests", exc) from exc


@contextmanager
def naming(work: DiskWork, target: str) -> Iterator[None]:
    """Say of an error at a place, which may know no more than a socket, what it is about and what can be done.

    `target` is what an error of the place that is written begins with.
    """
    place = work.place
    try:
        yield
    except MachineError as error:
        text = f"{place}: {error}"
        # No room for the digests, which lie beside a file: either may come to the end of it first.
        if work.path is not None and (code := free_space.lacks_room(error)):
            raise TargetError(free_space.remedied(text, code, place), errno=code) from error
        raise MachineError(text) from error
    except (SourceError, NbdError, TargetError) as error:
        kind: type[PlaceError] = SourceError
        message = (
            f"{work} cannot be read: {error}; restore another point, or save what qemu can read of the image with "
            f"`qemu-img convert --salvage`"
        )
        if isinstance(error, TargetError) or str(error).startswith(target):
            # A file is named already; of a server only the socket is.
            text = str(error) if str(error).startswith(place) else f"{place}: {error}"
            kind, message = TargetError, _remedied(work, text, error.errno)
        raise kind(message, offset=error.offset, length=error.length, errno=error.errno) from error


def _remedied(work: DiskWork, text: str, code: int) -> str:
    if work.path is not None:
        return free_space.remedied(text, code, work.path)
    return f"{text}; what is there now is neither what was there before nor the whole disk: restore it again"


def _require_same(work: DiskWork, stored: Manifest, found: Manifest) -> None:
    try:
        require_same(stored, found, None, str(work))
    except ChecksumMismatch as exc:
        there = "" if work.path is not None else f"; {work.place} holds it all the same"
        raise ChecksumMismatch(f"{exc}{there}; {_REMEDY}", offsets=exc.offsets, blocks=exc.blocks) from exc

"""What all ways to write a disk share: its images opened, its place opened, errors that say what they are about."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ntxengine._core.device import Device
from ntxengine.dataplane.copy import Checkpoints, CopyOptions, OnProgress
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_existing
from ntxengine.dataplane.retry import Going, Patience, retrying
from ntxengine.errors import MachineError, NbdError, PlaceError, RepositoryError, SourceError, TargetError
from ntxengine.files import durable, free_space
from ntxengine.images.open import open_image
from ntxengine.repository import Point, PointDisk, Repository
from ntxengine.restore.options import RestoreOptions
from ntxengine.restore.targets import Destination

REMEDY = "restore another point, or write what is there with --no-check"


@dataclass(frozen=True)
class DiskWork:
    """A disk of a point, where it goes, and how.

    `path` is that of the file while it is made, None of what is written in place.  `copying` is for one disk of all.
    `tell` hears of lost connections.
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

    @property
    def is_retried(self) -> bool:
        """Whether it goes on after a lost connection."""
        return self.destination.kind == "server" and self.options.retry_for_s > 0

    def __str__(self) -> str:
        return f"point {self.point.id} disk {self.disk.label} ({self.disk.disk_id})"


@asynccontextmanager
async def reading_images(work: DiskWork, chain: tuple[Path, ...]) -> AsyncIterator[Device]:
    """Open the images of the disk.  Errors: as open_image."""
    copying = work.copying
    async with open_image(chain, timeout_s=copying.timeout_s, connections=copying.most_connections) as source:
        yield source


@asynccontextmanager
async def writing_in_place(work: DiskWork) -> AsyncIterator[Device]:
    """Open a device, a server or a file that is there for writing.  Errors: as open_existing, of the place's name."""
    opening = open_existing(
        work.destination.location,
        size=work.disk.size,
        overwrite=True,
        timeout_s=work.copying.timeout_s,
        connection=work.options.connection,
    )
    async with named_as_written(work, opening) as device:
        yield device


@asynccontextmanager
async def named_as_written(work: DiskWork, opening: AbstractAsyncContextManager[Device]) -> AsyncIterator[Device]:
    """Open a place; its errors begin with its name as it was written, and not as a URI is spelled."""
    async with AsyncExitStack() as stack:
        try:
            device = await stack.enter_async_context(opening)
        except PlaceError as error:
            if str(error).startswith(work.place):
                raise
            raise _said(error, f"{work.place}: {error}") from error
        try:
            yield device
        except PlaceError as error:
            if not str(error).startswith(device.name):
                raise
            raise _said(error, work.place + str(error).removeprefix(device.name)) from error


def _said(error: PlaceError, text: str) -> PlaceError:
    return type(error)(text, offset=error.offset, length=error.length, errno=error.errno)


async def going_on(work: DiskWork, once: Callable[[], Awaitable[None]], going: Going) -> None:
    """Do `once`, which opens what it needs; again where `going` says that it was, after a lost connection.

    Errors: what it raises, as naming() says it.
    """
    with naming(work, work.place):
        if not work.is_retried:
            await once()
            return
        await retrying(once, going, Patience(work.options.retry_for_s), name=str(work), tell=work.tell)


def of_the_whole(on_progress: OnProgress, size: int, checkpoints: Checkpoints | None) -> OnProgress:
    """Let progress count what was stored before a connection was lost."""
    before = 0 if checkpoints is None else checkpoints.stored_to
    if not before:
        return on_progress
    return lambda now: on_progress(dataclasses.replace(now, bytes_total=size, bytes_done=before + now.bytes_done))


async def stored_manifest(work: DiskWork) -> Manifest:
    """Open the manifest of the disk.  Errors: RepositoryError."""
    try:
        return await work.repository.manifest(work.point, work.disk)
    except RepositoryError as exc:
        raise RepositoryError(f"{exc}; {REMEDY}") from exc


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
    if work.options.in_place:
        return f"{text}; what is there now is not the whole disk: the same command writes what is left"
    return f"{text}; what is there now is neither what was there before nor the whole disk: restore it again"

"""The copy of one disk, which goes on after a lost connection.

    image opened (again: as its last checkpoint)  ->  source opened (again: attached anew where it is gone)  ->  copied
          ^---------------------------------- a connection was lost ---------------------------------------------'

How far it got is kept in a journal, if there is one: the next capture can go on there.  What is retried is the way to
the bytes: a full file system, a disk that cannot be read, and a digest that is wrong end it.
"""

from __future__ import annotations

import errno
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from ntxengine._core.device import Device
from ntxengine.attach import Attached
from ntxengine.changes import Changes
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane import journal
from ntxengine.dataplane.copy import Checkpoints, CopyOptions, CopyReport, OnProgress, Progress
from ntxengine.dataplane.extents import ExtentFile, beginning_at, total
from ntxengine.dataplane.journal import DigestsBelow, Journal
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source
from ntxengine.dataplane.recognise import holds_what_was_copied
from ntxengine.dataplane.retry import Patience, is_lost_connection, retrying
from ntxengine.errors import AttachError, NtxError, PlaceError, PrismError, RepositoryError, SourceError, ToolError
from ntxengine.images.create import ImageWriter, NewImage, create_image, reopen_image


class AttachedDisk:
    """A disk that is readable here from `__aenter__` to `__aexit__`, by what `attach` gives; anew where that is gone.

    `attached` is how it is attached now.
    """

    def __init__(self, attach: Callable[[], AbstractAsyncContextManager[Attached]]) -> None:
        self._attach = attach
        self._stack = AsyncExitStack()
        self.attached: Attached

    async def __aenter__(self) -> AttachedDisk:
        self.attached = await self._stack.enter_async_context(self._attach())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, value, trace)

    @asynccontextmanager
    async def open(self, *, timeout_s: float, again: bool) -> AsyncIterator[Device]:
        """Open it for reading; `again`: what served it may have died since.

        Errors: as open_source; SourceError, as of a lost connection (it cannot be attached anew now).
        """
        async with AsyncExitStack() as stack:
            try:
                device = await stack.enter_async_context(open_source(self.attached.location, timeout_s=timeout_s))
            except PlaceError as error:
                if not again or not is_lost_connection(error):
                    raise
                await self._attach_anew(error)
                device = await stack.enter_async_context(open_source(self.attached.location, timeout_s=timeout_s))
            yield device

    async def _attach_anew(self, lost: PlaceError) -> None:
        await self._stack.__aexit__(type(lost), lost, lost.__traceback__)
        try:
            await self.__aenter__()
        except (AttachError, PrismError, ToolError) as error:
            raise SourceError(f"{lost}; it cannot be attached anew: {error}", errno=errno.ENOTCONN) from error


@dataclass(frozen=True)
class Copied:
    """What a copy did, all tries together.

    `reconnects` of them came after a lost connection.  `bytes_repeated` were copied once more, for these, or because an
    interrupted capture did not get to keep them.  Making `checkpoints` took `checkpoint_seconds`, most of them flushes.
    """

    report: CopyReport
    reconnects: int
    bytes_repeated: int
    checkpoints: int
    checkpoint_seconds: float


@dataclass(frozen=True)
class JournalPlace:
    """A journal, and what the copy is of that it tells of."""

    path: Path
    identity: Mapping[str, str]


class CannotResume(NtxError):
    """What an interrupted capture left is not what this one would go on with: begin again."""


@dataclass(frozen=True)
class Copying:
    """What is copied, and how: extents of `source` into the image `new`, whose digests go to `manifest`.

    Blocks that have the same digest in `before` are not stored.  `stored_to` (bytes) is where an interrupted capture
    got to, which made the image and wrote the digests; `journal` is where this one keeps that.  `naming` says of an
    error which disk it is about.
    """

    name: str
    source: AttachedDisk
    new: NewImage
    manifest: Manifest
    before: Manifest | None
    changes: Changes
    options: CopyOptions
    patience: Patience
    journal: JournalPlace | None
    stored_to: int
    naming: Callable[[], AbstractContextManager[None]]
    on_progress: OnProgress
    tell: Callable[[str], None]


async def copy_disk(copying: Copying) -> Copied:
    """Copy a disk into an image that is made for it; after a lost connection go on as long as `patience` lasts.

    Errors: as create_image, copy.copy and open_source; the image is kept as its last checkpoint then, if it has one.
            CannotResume (the source holds something else than what was copied of it, or the image is damaged).
    """
    return await _DiskCopy(copying).run()


async def finish_image(new: NewImage, options: CopyOptions) -> None:
    """Close an image properly into which an interrupted capture has copied everything.

    Errors: as reopen_image; CannotResume (it is damaged).
    """
    try:
        async with reopen_image(new, new.options.format, options, stored_to=new.size) as image:
            await image.finish()
    except RepositoryError as error:
        raise CannotResume(str(error)) from error


class _DiskCopy:
    def __init__(self, copying: Copying) -> None:
        self._copying = copying
        self._image: ImageWriter | None = None
        self._checkpoints = Checkpoints(self._keep, stored_to=copying.stored_to, is_resumed=copying.stored_to > 0)
        self._digests = DigestsBelow(copying.manifest)
        self._total = copying.changes.bytes_data + copying.changes.bytes_zero
        self._left = self._total

    async def run(self) -> Copied:
        copying, checkpoints = self._copying, self._checkpoints
        self._left = await to_thread_joined(bytes_from, copying.changes.extents, copying.stored_to)
        before = await to_thread_joined(self._done_in_vain)
        report = await retrying(self._once, checkpoints, copying.patience, name=copying.name, tell=copying.tell)
        together = report.after(checkpoints.failed)
        repeated = before + max(0, together.bytes_done - self._left)
        return Copied(together, checkpoints.retries, repeated, checkpoints.made, checkpoints.seconds)

    def _done_in_vain(self) -> int:
        """Return what an interrupted capture copied behind its last checkpoint, as far as digests tell: in the manifest
        of a full image they are of nothing else."""
        copying = self._copying
        if copying.stored_to == 0 or copying.changes.is_incremental:
            return 0
        return copying.manifest.bytes_data(copying.stored_to)

    async def _once(self) -> CopyReport:
        copying = self._copying
        options = copying.options
        async with AsyncExitStack() as stack:
            with copying.naming():  # before the image is removed: it says how much room was left
                image = await stack.enter_async_context(self._open_image(options))
                again = self._checkpoints.has_begun
                source = await stack.enter_async_context(copying.source.open(timeout_s=options.timeout_s, again=again))
                if copying.stored_to and not again:
                    await self._recognise(source)
                left = await to_thread_joined(bytes_from, copying.changes.extents, self._checkpoints.stored_to)
                report = await dataplane.copy(
                    source,
                    image.device,
                    copying.changes.extents.windows(),
                    options=options,
                    manifest=copying.manifest,
                    reference=copying.before,
                    bytes_expected=left,
                    checkpoints=self._checkpoints,
                    on_progress=self._progress(self._total - left),
                )
                await image.finish()
        return report

    @asynccontextmanager
    async def _open_image(self, options: CopyOptions) -> AsyncIterator[ImageWriter]:
        is_there = self._copying.stored_to > 0 if self._image is None else self._image.is_kept
        new, stored_to = self._copying.new, self._checkpoints.stored_to
        if is_there:
            opening = reopen_image(new, new.options.format, options, stored_to=stored_to)
        else:
            opening = create_image(new, new.options.format, options)
        async with AsyncExitStack() as stack:
            try:
                self._image = await stack.enter_async_context(opening)
            except RepositoryError as error:
                raise CannotResume(str(error)) from error
            yield self._image

    async def _recognise(self, source: Device) -> None:
        copying = self._copying
        is_same = await holds_what_was_copied(
            source,
            copying.manifest,
            stored_to=copying.stored_to,
            options=copying.options,
            chance=random.Random(),
            extents=copying.changes.extents.windows,
        )
        if not is_same:
            raise CannotResume(f"{copying.name}: it does not hold what was copied of it before")

    def _keep(self, stored_to: int) -> None:
        """Called in a thread, once everything below `stored_to` is stored."""
        if self._image is not None:
            self._image.keep()
        place, size = self._copying.journal, self._copying.manifest.size
        if place is not None:
            stored_to = min(stored_to, size)
            journal.write(place.path, Journal(place.identity, size, stored_to, self._digests.at(stored_to)))

    def _progress(self, before: int) -> OnProgress:
        """Return what tells the progress of a try; so many bytes were copied before it."""

        def told(now: Progress) -> None:
            self._copying.on_progress(replace(now, bytes_done=before + now.bytes_done, bytes_total=self._total))

        return told


def bytes_from(extents: ExtentFile, offset: int) -> int:
    """Return how many bytes of the extents lie at `offset` or behind it.  Blocks: reads them all."""
    return sum(total(window) for window in beginning_at(offset, extents.windows()))

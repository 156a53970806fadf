"""One disk of a point into one place: each block is compared with the digest of its capture while it is written.

images of the chain --read--> digests, compared with the manifest at the end
                        `---> a new file (raw, QCOW2), or a device or a server, written in place
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.blocks import untouched
from ntxengine.dataplane.copy import Checkpoints, OnProgress
from ntxengine.dataplane.differing import require_same
from ntxengine.dataplane.extents import ExtentFile, Extents, clipped
from ntxengine.dataplane.location import Location
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.mapping import map_device
from ntxengine.dataplane.open import open_source
from ntxengine.errors import ChecksumMismatch, OptionsError, RepositoryError
from ntxengine.events import Stage
from ntxengine.images.create import NewImage, create_image, make_image
from ntxengine.images.open import open_image
from ntxengine.repository import Chains
from ntxengine.restore.disk_work import (
    REMEDY,
    DiskWork,
    going_on,
    named_as_written,
    naming,
    of_the_whole,
    reading_images,
    stored_manifest,
    temporary_manifest,
    writing_in_place,
)
from ntxengine.restore.in_place import InPlace
from ntxengine.restore.losses import Losses, losses_of, without
from ntxengine.restore.salvage import Windows, extents_of, rescuing

ProgressOf = Callable[[Stage], OnProgress]
"""Announces that a stage of the disk begins, and gives whom to tell how far it is."""


@dataclass(frozen=True)
class Written:
    """What became of a disk.  `bytes_written` is None where all of it was.

    `losses` are known where they end nothing; the caller closes them.  `problem` is why nothing of it was compared, and
    what else is damaged.
    """

    bytes_written: int | None = None
    losses: Losses | None = None
    problem: str = ""
    is_checked: bool = True


async def write_disk(work: DiskWork, progress_of: ProgressOf) -> Written:
    """Write a disk into its place.  A file must not exist, or be empty.

    A raw file has exactly the disk's size, an image whole sectors.  A file is not synced: that is the caller's.
    Errors: RepositoryError (an image or the manifest is damaged), ChecksumMismatch, SourceError (it cannot be read),
            TargetError (file system full), TransferTimeout, ToolError.  What is in the place is worthless then.
    """
    if work.options.keep_going:
        return await _rescue(work, progress_of)
    chain = await work.repository.images(work.point, work.disk, chains=Chains(checked=work.options.check))
    with ExitStack() as stack:
        stored = stack.enter_context(await stored_manifest(work)) if work.options.check else None
        found = stack.enter_context(temporary_manifest(work))
        if work.options.in_place and stored is not None:
            there = stack.enter_context(closing(InPlace(work, stored, found)))
            if work.disk.size:
                await there.run(chain, progress_of)
            await to_thread_joined(_require_same, work, stored, found, there.differing.windows())
            return Written(there.bytes_written)
        await _write_all(work, chain, found, progress_of(Stage.RESTORE))
        if stored is not None:
            await to_thread_joined(_require_same, work, stored, found)
    return Written(is_checked=stored is not None)


async def _rescue(work: DiskWork, progress_of: ProgressOf) -> Written:
    """Write what is good of a disk.  Errors: as write_disk, of what leaves nothing to be written."""
    chain, problem = await _images(work)
    with ExitStack() as stack:
        stored: Manifest | None = None
        try:
            stored = stack.enter_context(await work.repository.manifest(work.point, work.disk))
        except (RepositoryError, OptionsError) as exc:
            problem = f"nothing of it could be compared: {exc}"
        found = stack.enter_context(temporary_manifest(work))
        if work.options.in_place:
            if stored is None:
                raise RepositoryError(f"{work}: {problem}: what differs is found by that")
            there = stack.enter_context(closing(InPlace(work, stored, found)))
            if work.disk.size:
                await there.run(chain, progress_of)
            touched = there.differing.windows()
            losses = await to_thread_joined(losses_of, stored, found, there.unreadable, touched, work.disk.size)
            return Written(there.bytes_written, losses, problem)
        on_progress = progress_of(Stage.RESTORE)

        async def attempt(unreadable: ExtentFile) -> None:
            await to_thread_joined(found.forget, 0)
            cut = lambda: without(windows(), unreadable.windows(), zeroed=True)  # noqa: E731
            await _write_all(work, chain, found, on_progress, cut)

        def windows() -> Iterable[Extents]:
            return extents_of(stored, work.disk.size)

        unreadable = stack.enter_context(await rescuing(work, chain, windows, attempt))
        losses = await to_thread_joined(losses_of, stored, found, unreadable, None, work.disk.size)
    return Written(losses=losses, problem=problem, is_checked=stored is not None)


async def _images(work: DiskWork) -> tuple[tuple[Path, ...], str]:
    """Return the images of a disk, and what is damaged of that which tells of them."""
    try:
        return await work.repository.images(work.point, work.disk, chains=Chains()), ""
    except RepositoryError as exc:
        # Whether they are the right ones is told by the digests of what is in them.
        return await work.repository.images(work.point, work.disk, chains=Chains(checked=False)), str(exc)


async def _write_all(
    work: DiskWork, chain: tuple[Path, ...], found: Manifest, on_progress: OnProgress, windows: Windows | None = None
) -> None:
    if work.path is not None:
        await _make(work, work.path, chain, found, on_progress, windows)
    elif work.disk.size:
        await _write_over(work, chain, found, on_progress, windows)


async def _make(
    work: DiskWork,
    path: Path,
    chain: tuple[Path, ...],
    found: Manifest,
    on_progress: OnProgress,
    windows: Windows | None,
) -> None:
    new = NewImage(path, work.disk.size, options=work.options.image)
    writer = new.options.format if work.destination.format == "qcow2" else "raw"
    if not work.disk.size:
        await make_image(new, writer)
        return
    async with reading_images(work, chain) as source, create_image(new, writer, work.copying) as image:
        with naming(work, image.device.name):
            await _copy(work, source, image.device, found, on_progress, windows, is_zero=True)
            await image.finish()


async def _write_over(
    work: DiskWork, chain: tuple[Path, ...], found: Manifest, on_progress: OnProgress, windows: Windows | None
) -> None:
    checkpoints = Checkpoints()

    async def once() -> None:
        async with reading_images(work, chain) as source, writing_in_place(work) as target:
            await _copy(
                work,
                source,
                target,
                found,
                on_progress,
                windows,
                is_zero=work.options.target_is_zero,
                checkpoints=checkpoints if work.is_retried else None,
            )

    await going_on(work, once, checkpoints)


async def _copy(
    work: DiskWork,
    source: Device,
    target: Device,
    found: Manifest,
    on_progress: OnProgress,
    windows: Windows | None,
    *,
    is_zero: bool,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Copy all of a disk: what its images say is data, or what `windows` say."""
    size = work.disk.size
    with ExitStack() as stack:
        if windows is None:
            places = stack.enter_context(await map_device(source, timeout_s=work.copying.timeout_s))
            windows = places.windows
        await dataplane.copy(
            source,
            target,
            (clipped(window, size) for window in windows()),
            options=dataclasses.replace(work.copying, target_is_zero=is_zero),
            manifest=found,
            bytes_expected=size,
            checkpoints=checkpoints,
            on_progress=of_the_whole(on_progress, size, checkpoints),
        )


async def read_back(work: DiskWork, on_progress: OnProgress, losses: Losses | None = None) -> None:
    """Read what was written, and compare it with the digests of the capture: all but `losses`.

    Errors: ChecksumMismatch; else as write_disk.
    """
    checkpoints = Checkpoints()

    def good() -> Iterable[Extents]:
        return [] if losses is None else untouched(losses.windows(), size=work.disk.size)

    with await stored_manifest(work) as stored, temporary_manifest(work) as found:

        async def once() -> None:
            async with _opened_again(work) as device:
                await dataplane.verify(
                    device,
                    stored,
                    extents=good if losses is not None and losses.count else None,
                    trusts_zeros=work.destination.format == "qcow2",
                    options=work.copying,
                    checkpoints=checkpoints if work.is_retried else None,
                    found=found,
                    on_progress=of_the_whole(on_progress, work.disk.size, checkpoints),
                )

        await going_on(work, once, checkpoints)


@asynccontextmanager
async def _opened_again(work: DiskWork) -> AsyncIterator[Device]:
    copying, destination = work.copying, work.destination
    if destination.format == "qcow2" and work.path is not None:
        async with open_image((work.path,), connections=copying.most_connections) as device:
            yield device
        return
    path = None if work.path is None else str(work.path)
    location = destination.location if path is None else Location("file", path, path=path)
    opening = open_source(location, timeout_s=copying.timeout_s, connection=work.options.connection)
    async with named_as_written(work, opening) as device:
        yield device


def _require_same(work: DiskWork, stored: Manifest, found: Manifest, touched: Iterable[Extents] | None = None) -> None:
    try:
        require_same(stored, found, touched, str(work))
    except ChecksumMismatch as exc:
        there = "" if work.path is not None else f"; {work.place} holds it all the same"
        raise ChecksumMismatch(f"{exc}{there}; {REMEDY}", offsets=exc.offsets, blocks=exc.blocks) from exc

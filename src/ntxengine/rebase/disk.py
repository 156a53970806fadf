"""A disk of a point written into a new image, on top of a disk below that other images may hold, or of nothing.

own bytes, down to where the disk below begins   read through the old chain, compared with the digests of the point
what differs from the disk below                 the same, or zero
the rest                                         is in the disk below
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import CopyOptions, OnProgress
from ntxengine.dataplane.differing import differing_extents, require_same
from ntxengine.dataplane.extents import EXTENT, ZERO, ExtentFile, Extents, beginning_at, clipped, concatenate, normalise
from ntxengine.dataplane.manifest import Manifest
from ntxengine.files import durable
from ntxengine.images.choice import OWN, ImageOptions
from ntxengine.images.create import WRITERS, NewImage, create_image, make_image
from ntxengine.images.header import is_compressed
from ntxengine.images.open import open_with_clusters
from ntxengine.rebase.progress import WriteProgress

FORMAT = "qcow2"
WRITER = WRITERS[FORMAT].version
"""What point.json says of images that are written here."""


@dataclass(frozen=True)
class Rebased:
    """What is written where.

    `name` is what an error calls the disk.  `chain` are its images, nearest first, and `stored` is its manifest.
    `before` is that of the disk below, None for none.  `taken`: so many images of the chain are on top of the disk
    below; None: it is no part of the chain, and the digests alone say what differs.  `journal`: where it is kept how
    far this got, for the next try; what that goes on with is not compared again while it is written, but read back.
    `shares`: what is taken over as it is may be shared with the images of the chain, where the file system can.
    """

    name: str
    chain: tuple[Path, ...]
    stored: Manifest
    before: Manifest | None
    taken: int | None
    new: NewImage
    journal: Path | None = None
    shares: bool = False


async def rebase_disk(what: Rebased, *, options: CopyOptions, on_progress: OnProgress) -> None:
    """Write the new image, synced; what was compressed is so again.

    Errors: ChecksumMismatch (what was read is not what was captured), RepositoryError, SourceError, TargetError,
            ToolError.
    """
    image = await to_thread_joined(_image_options, what.chain[: what.taken])
    new = dataclasses.replace(what.new, options=image)
    if what.stored.size:
        await _write(what, new, options, on_progress)
    else:
        await make_image(new, FORMAT)
    await to_thread_joined(durable.restrict, new.path)
    await to_thread_joined(durable.sync, new.path)


async def _write(what: Rebased, new: NewImage, options: CopyOptions, on_progress: OnProgress) -> None:
    stored, size = what.stored, what.stored.size
    async with AsyncExitStack() as stack:
        before = what.before or stack.enter_context(Manifest.temporary(size=size))
        found = stack.enter_context(Manifest.temporary(size=size))
        moved = stack.enter_context(ExtentFile())
        opened = await stack.enter_async_context(
            open_with_clusters(what.chain, timeout_s=options.timeout_s, connections=options.most_connections)
        )
        own = _own(opened.clusters, what.taken, size)
        await to_thread_joined(_collect, moved, own, before, stored)
        progress = None
        if what.journal is not None:
            identity = {"disk": stored.disk_digest, "below": before.disk_digest, "name": new.backing}
            progress = await to_thread_joined(WriteProgress, what.journal, identity, new)
        image = await stack.enter_async_context(
            create_image(new, FORMAT, options) if progress is None else progress.open(FORMAT, options)
        )
        if what.shares:
            image.device.share_clusters(opened.device)
        written = 0 if progress is None else progress.stored_to
        await dataplane.copy(
            opened.device,
            image.device,
            moved.windows(),
            options=dataclasses.replace(options, target_is_zero=not new.backing),
            manifest=found,
            bytes_expected=moved.bytes_data,
            checkpoints=None if progress is None else progress.checkpoints,
            on_progress=on_progress,
        )
        await to_thread_joined(require_same, stored, found, beginning_at(written, moved.windows()), what.name)
        await image.finish()


def _image_options(images: tuple[Path, ...]) -> ImageOptions:
    return ImageOptions(zstd_level=1) if any(map(is_compressed, images)) else OWN


def _own(clusters: Extents | None, taken: int | None, size: int) -> Extents | None:
    """Return where the disk is data of an image above the disk below; None if nobody can tell, or it does not count."""
    if clusters is None or taken is None:
        return None
    own = clusters[((clusters["flags"] & ZERO) == 0) & (clusters["file"] < taken)]
    extents = np.zeros(len(own), dtype=EXTENT)
    extents["offset"], extents["length"] = own["offset"], own["length"]
    return clipped(extents, size)


def _collect(moved: ExtentFile, own: Extents | None, before: Manifest, stored: Manifest) -> None:
    """Collect what is to be written: own bytes, and blocks that differ from those below by their digests."""
    for window in _joined(own, differing_extents(before, stored), stored.size):
        moved.append(window)
    moved.flush()


def _joined(own: Extents | None, windows: Iterator[Extents], size: int) -> Iterator[Extents]:
    """Yield both in one: data where either says data."""
    if own is None:
        yield from windows
        return
    at = 0
    for window in windows:
        end = int(window["offset"][-1] + window["length"][-1])
        yield normalise(concatenate([_between(own, at, end), window]), size=size, name="what is rebased")
        at = end
    yield _between(own, at, size)


def _between(extents: Extents, begin: int, end: int) -> Extents:
    return clipped(next(beginning_at(begin, [extents])), end)

"""Opening a chain of QCOW2 images for reading, in the quickest way that is right.

    async with open_image([overlay, base]) as device:
        ... whole sectors of the disk, as qemu would read them ...

| way          | reads                                                           | looked up by              |
|--------------|-----------------------------------------------------------------|---------------------------|
| by tables    | what we wrote, and what is like it: compressed by zstd, too     | the core (cluster_tables) |
| by map       | other images, where all is plain bytes in their files           | qemu-img (cluster_map)    |
| by server    | every image: one process more, each byte copied through a socket | qemu-nbd                  |

The first way that can read the whole chain is taken.  The caller does not see which.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import acquire_in_thread, to_thread_joined
from ntxengine.dataplane.extents import Extents
from ntxengine.dataplane.open import naming, open_source
from ntxengine.errors import NtxError
from ntxengine.images.cluster_map import map_clusters
from ntxengine.images.cluster_tables import clusters_of, open_tables
from ntxengine.images.held import CannotMap
from ntxengine.images.qemu_nbd import QemuNbd
from ntxengine.images.served import ImageFile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedImage:
    """An opened chain.

    `clusters` say in which image its bytes are, or that they are zero: dtype MAPPED_EXTENT, `file` counts from the
    nearest image, `place` means nothing.  None: nobody asked, or only qemu knows, or there are too many.
    """

    device: Device
    clusters: Extents | None


@dataclass(frozen=True)
class Way:
    """One way to read a chain.

    `open` takes the chain, and whether its clusters are wanted; it raises CannotMap where the chain is not for it.
    `otherwise` is what then happens, for the log.
    """

    open: Callable[[Sequence[Path], bool], AbstractAsyncContextManager[OpenedImage]]
    otherwise: str


@asynccontextmanager
async def open_image(
    chain: Sequence[Path], *, root_format: str = "qcow2", timeout_s: float = 60.0, connections: int = 1
) -> AsyncIterator[Device]:
    """Open the disk that `chain` is: an image and all those below it, nearest first.  No other file is opened.

    As open_with_clusters, for a caller that does not ask where its bytes lie.
    """
    async with AsyncExitStack() as stack:
        opened = await _enter_first(stack, chain, wants_clusters=False) if root_format == "qcow2" else None
        if opened is not None:
            yield opened.device
            return
        yield await stack.enter_async_context(_by_server(chain, root_format, timeout_s, connections))


@asynccontextmanager
async def open_with_clusters(
    chain: Sequence[Path], *, timeout_s: float = 60.0, connections: int = 1
) -> AsyncIterator[OpenedImage]:
    """Open the disk that `chain` is, and tell its clusters.

    Nobody may write to the images meanwhile.  `connections` are those to qemu-nbd, if it is needed.
    Errors: ToolError (qemu cannot open it), SourceError (it is damaged), NbdError, TransferTimeout.
    """
    async with AsyncExitStack() as stack:
        opened = await _enter_first(stack, chain, wants_clusters=True)
        if opened is None:
            device = await stack.enter_async_context(_by_server(chain, "qcow2", timeout_s, connections))
            opened = OpenedImage(device, None)
        yield opened


@asynccontextmanager
async def open_upper(images: Sequence[Path]) -> AsyncIterator[OpenedImage | None]:
    """Open the nearest images of a chain without those below: where they say nothing (ABSENT) they read as zero.

    None: only qemu knows where that is, or they have too many clusters.
    Errors: SourceError (one is damaged).
    """
    async with AsyncExitStack() as stack:
        opened = None
        try:
            opened = await stack.enter_async_context(_by_tables(images, wants_clusters=True))
        except CannotMap as exc:
            log.info("%s: is opened with all that is below it: %s", images[0], exc)
        yield opened if opened is not None and opened.clusters is not None else None


async def _enter_first(stack: AsyncExitStack, chain: Sequence[Path], *, wants_clusters: bool) -> OpenedImage | None:
    """Open it in the first way that can; None, and the reasons in the log, if none can."""
    for way in WAYS:
        try:
            return await stack.enter_async_context(way.open(chain, wants_clusters))
        except CannotMap as exc:
            log.info("%s: %s: %s", chain[0], way.otherwise, exc)
    return None


@asynccontextmanager
async def _by_tables(chain: Sequence[Path], wants_clusters: bool) -> AsyncIterator[OpenedImage]:
    async with open_tables(chain) as device:
        yield OpenedImage(device, await clusters_of(device) if wants_clusters else None)


@asynccontextmanager
async def _by_map(chain: Sequence[Path], wants_clusters: bool) -> AsyncIterator[OpenedImage]:
    del wants_clusters  # they are what it is opened by
    async with map_clusters(chain) as found:
        name = os.fsencode(chain[0])

        def open_now() -> Device:
            try:
                return Device.open_mapped(name, found.size, found.fds, found.extents)
            except NtxError as exc:
                raise CannotMap(str(exc)) from exc

        device = await acquire_in_thread(open_now, give_back=Device.close)
    try:
        yield OpenedImage(device, found.extents)
    finally:
        await to_thread_joined(device.close)


@asynccontextmanager
async def _by_server(
    chain: Sequence[Path], root_format: str, timeout_s: float, connections: int
) -> AsyncIterator[Device]:
    image = ImageFile(chain[0], backing=tuple(chain[1:]), root_format=root_format)
    server = QemuNbd(image, read_only=True, connections=connections)
    async with server, open_source(server.uri, timeout_s=timeout_s) as device:
        with naming(device.name, str(chain[0])):
            yield device


WAYS: tuple[Way, ...] = (
    Way(_by_tables, "its clusters are looked up by qemu-img"),
    Way(_by_map, "is read through qemu-nbd"),
)

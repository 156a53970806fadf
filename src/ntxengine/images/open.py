"""Opening a chain of QCOW2 images for reading, in the quickest way that is right.

    async with open_image([overlay, base]) as device:
        ... whole sectors of the disk, as qemu would read them ...

Its clusters are read right from the files where that can be done (cluster_map.py), otherwise through a qemu-nbd
that is started for it: one process more, and each byte copied through a socket.  The caller does not see which.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread, to_thread_joined
from ntxengine.dataplane.extents import Extents
from ntxengine.dataplane.open import naming, open_source
from ntxengine.errors import NtxError
from ntxengine.images.cluster_map import map_clusters
from ntxengine.images.held import CannotMap
from ntxengine.images.qemu_nbd import QemuNbd
from ntxengine.images.served import ImageFile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedImage:
    """An opened chain.  `clusters` say where its bytes lie (dtype MAPPED_EXTENT, `file` counts from the nearest image);
    None if only qemu knows."""

    device: Device
    clusters: Extents | None


@asynccontextmanager
async def open_image(
    chain: Sequence[Path], *, root_format: str = "qcow2", timeout_s: float = 60.0, connections: int = 1
) -> AsyncIterator[Device]:
    """Open the disk that `chain` is: an image and all those below it, nearest first.  No other file is opened.

    As open_with_clusters, for a caller that does not ask where its bytes lie.
    """
    opening = open_with_clusters(chain, root_format=root_format, timeout_s=timeout_s, connections=connections)
    async with opening as opened:
        yield opened.device


@asynccontextmanager
async def open_with_clusters(
    chain: Sequence[Path], *, root_format: str = "qcow2", timeout_s: float = 60.0, connections: int = 1
) -> AsyncIterator[OpenedImage]:
    """Open the disk that `chain` is.

    `root_format` is that of the last, where it is below another.
    Nobody may write to the images meanwhile.  `connections` are those to qemu-nbd, if it is needed.
    Errors: ToolError (qemu cannot open it), NbdError, TransferTimeout.
    """
    mapped = await _open_mapped(chain) if root_format == "qcow2" else None
    if mapped is None:
        image = ImageFile(chain[0], backing=tuple(chain[1:]), root_format=root_format)
        server = QemuNbd(image, read_only=True, connections=connections)
        async with server, open_source(server.uri, timeout_s=timeout_s) as device:
            with naming(device.name, str(chain[0])):
                yield OpenedImage(device, None)
        return
    try:
        yield mapped
    finally:
        await to_thread(mapped.device.close)


async def _open_mapped(chain: Sequence[Path]) -> OpenedImage | None:
    """Open the clusters in their files; None, and a word in the log, if that cannot be done."""
    opened: list[OpenedImage] = []
    try:
        async with map_clusters(chain) as found:
            name = os.fsencode(chain[0])

            def open_now() -> None:
                device = Device.open_mapped(name, found.size, found.fds, found.extents)
                opened.append(OpenedImage(device, found.extents))

            await to_thread_joined(open_now)
    except (CannotMap, NtxError) as exc:
        log.info("%s: is read through qemu-nbd: %s", chain[0], exc)
    except BaseException:
        for each in opened:
            each.device.close()
        raise
    return opened[0] if opened else None

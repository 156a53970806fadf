"""A chain read by its own tables, in the core: images that we wrote, and those of qemu that are like them.

    open_tables(chain)          version 3, clusters of 64 KiB, compressed by zstd or not; CannotMap: for a qemu to read
    clusters_of(device)         in which image each part of the disk is: for whoever reads only some of it

The core checks what the tables say before it uses it (csrc/qcow2_header.h).  What is damaged is an error, not a reason
to ask qemu: that reads as zero what lies behind the end of a file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import acquire_in_thread, to_thread_joined
from ntxengine.dataplane.extents import Extents
from ntxengine.errors import NtxError, PlaceError, SourceError
from ntxengine.images.held import CannotMap, HeldImages, held
from ntxengine.units import MIB

MAX_EXTENTS = MIB
"""Extents that clusters_of() keeps: 32 MiB."""

ROWS = 65536
"""Extents that are asked for at once."""


@asynccontextmanager
async def open_tables(chain: Sequence[Path]) -> AsyncIterator[Device]:
    """Open the disk that `chain` is, the nearest image first, and keep writers out.  Names in headers are not followed.

    Errors: CannotMap, SourceError (a header is damaged).
    """
    async with held(chain) as images:
        device = await acquire_in_thread(lambda: _open(images), give_back=Device.close)
        try:
            await images.check_unchanged()
        except BaseException:
            device.close()
            raise
    try:
        yield device
    finally:
        await to_thread_joined(device.close)


def _open(images: HeldImages) -> Device:
    try:
        return Device.open_qcow2_chain(os.fsencode(images.chain[0]), images.fds)
    except PlaceError as exc:
        if exc.errno == errno.EUCLEAN:
            raise SourceError(str(exc), errno=exc.errno) from exc
        raise CannotMap(str(exc)) from exc
    except NtxError as exc:
        raise CannotMap(str(exc)) from exc


async def clusters_of(device: Device) -> Extents | None:
    """Tell in which images the disk is (dtype MAPPED_EXTENT): contiguous from 0 to its end, wherever in their files.

    None where that is more than MAX_EXTENTS.
    Errors: SourceError (a table is damaged).
    """
    parts: list[Extents] = []
    at, count = 0, 0
    while at < device.size and count <= MAX_EXTENTS:
        rows = await to_thread_joined(_rows_from, device, at)
        at = int(rows["offset"][-1] + rows["length"][-1])
        count += len(rows)
        parts.append(rows)
    return np.concatenate(parts) if count <= MAX_EXTENTS else None


def _rows_from(device: Device, at: int) -> Extents:
    try:
        return device.map_images(at, device.size - at, capacity=ROWS)
    except PlaceError as exc:
        raise SourceError(str(exc), offset=exc.offset, length=exc.length, errno=exc.errno) from exc

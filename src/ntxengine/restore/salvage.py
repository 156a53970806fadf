"""A disk of which something cannot be read: all the rest of it, and what that is.

    try to write all  --a read fails-->  find out what can be read  -->  write that  --compare-->  losses

Only a disk that is damaged is read twice.  What cannot be read becomes zero, but in place stays what it was; a block
that differs from its digest is written as it was read, for most of it is right.  Both are losses.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from ntxengine._core.device import Device
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.extents import (
    EXTENT,
    WINDOW,
    ZERO,
    ExtentFile,
    Extents,
    beginning_at,
    clipped,
    join_neighbours,
    make,
    total,
    whole,
)
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.retry import is_lost_connection
from ntxengine.errors import NbdError, PlaceError, SourceError
from ntxengine.restore.disk_work import DiskWork, naming, reading_images
from ntxengine.units import BLOCK_SIZE, MIB

log = logging.getLogger(__name__)

Windows = Callable[[], Iterable[Extents]]

_ROUNDS = 4
"""A disk that gives other bytes each time is not waited for."""

_AT_ONCE = 256 * MIB
"""As much is read in one go; only where that fails block by block."""


def extents_of(stored: Manifest | None, size: int) -> Iterator[Extents]:
    """Yield what has to be read of a disk by its digests, and what is zero: all of it.  Without them all is to be read.

    Whatever the tables of an image say: what was captured as zero is zero.
    """
    if stored is None:
        yield whole(size)
        return
    for first in range(0, stored.blocks, WINDOW):
        blocks = np.arange(first, min(first + WINDOW, stored.blocks))
        extents = np.zeros(len(blocks), dtype=EXTENT)
        extents["offset"] = blocks * BLOCK_SIZE
        extents["length"] = np.minimum((blocks + 1) * BLOCK_SIZE, size) - blocks * BLOCK_SIZE
        extents["flags"] = ZERO
        if not stored.is_hole(first, len(blocks)):
            extents["flags"][stored.digests(first, len(blocks)).any(axis=1)] = 0
        yield join_neighbours(extents)


async def rescuing(
    work: DiskWork, chain: tuple[Path, ...], windows: Windows, attempt: Callable[[ExtentFile], Awaitable[None]]
) -> ExtentFile:
    """Do `attempt`, which writes what is not unreadable, until it succeeds; return what is.  The caller closes it.

    Errors: what `attempt` raises, but a SourceError at a place.
    """
    unreadable = ExtentFile()
    for left in reversed(range(_ROUNDS)):
        try:
            await attempt(unreadable)
            return unreadable
        except SourceError as error:
            unreadable.close()
            if not _is_of_bytes(error) or not left:
                raise
            work.tell(f"{work}: {error}: going on with what can be read")
        except BaseException:
            unreadable.close()
            raise
        unreadable = await _find_unreadable(work, chain, windows)
    raise AssertionError("the last round returns or raises")


async def _find_unreadable(work: DiskWork, chain: tuple[Path, ...], windows: Windows) -> ExtentFile:
    found = ExtentFile()
    try:
        for extents in _portions(windows()):
            try:
                with naming(work, work.place):
                    await _read(work, chain, extents, work.copying)
            except SourceError as error:
                if not _is_of_bytes(error):
                    raise
                await _read_by_block(work, chain, extents, found)
        found.flush()
    except BaseException:
        found.close()
        raise
    return found


def _portions(windows: Iterable[Extents]) -> Iterator[Extents]:
    """Yield the data of `windows`, at most so much at once."""
    for window in windows:
        data = window[(window["flags"] & ZERO) == 0]
        if not len(data):
            continue
        at, end = int(data["offset"][0]), int(data["offset"][-1] + data["length"][-1])
        while at < end:
            rest = _from(data, at)
            if not len(rest):
                break
            at = int(rest["offset"][0])
            portion = rest[rest["offset"] < at + _AT_ONCE].copy()
            behind = np.minimum(portion["offset"] + portion["length"], np.uint64(at + _AT_ONCE))
            portion["length"] = behind - portion["offset"]
            yield portion
            at += _AT_ONCE


def _is_of_bytes(error: PlaceError) -> bool:
    """Say whether other bytes may be read: it names some, or is of a qemu-nbd, which hangs up where it cannot read."""
    return error.length > 0 or is_lost_connection(error)


async def _read_by_block(work: DiskWork, chain: tuple[Path, ...], extents: Extents, found: ExtentFile) -> None:
    """Read one block after the other, and go on behind each that cannot be."""
    one_by_one = dataclasses.replace(work.copying, connections=1, in_flight=1, request_size=BLOCK_SIZE)
    at = int(extents["offset"][0])
    while len(rest := _from(extents, at)):
        try:
            await _read(work, chain, rest, one_by_one)
            return
        except (SourceError, NbdError) as error:
            if not _is_of_bytes(error):
                raise
            if not error.length:
                await _halve(work, chain, rest, found)
                return
            block = max(at, error.offset // BLOCK_SIZE * BLOCK_SIZE)
            found.append(make([(block, min(BLOCK_SIZE, work.disk.size - block), 0)]))
            at = block + BLOCK_SIZE


async def _halve(work: DiskWork, chain: tuple[Path, ...], extents: Extents, found: ExtentFile) -> None:
    """Find blocks that cannot be read where an error does not say which: in one half or the other.

    LIMIT: a qemu-nbd is started for each step, some twenty for a block that is alone.
    """
    pending = [extents]
    while pending:
        part = pending.pop()
        try:
            await _read(work, chain, part, work.copying)
        except (SourceError, NbdError) as error:
            if not _is_of_bytes(error):
                raise
            begin, end = int(part["offset"][0]), int(part["offset"][-1] + part["length"][-1])
            if end - begin <= BLOCK_SIZE:
                found.append(part)
                continue
            middle = begin + max(BLOCK_SIZE, (end - begin) // 2 // BLOCK_SIZE * BLOCK_SIZE)
            pending += [half for half in (_from(part, middle), clipped(part, middle)) if len(half)]


def _from(extents: Extents, at: int) -> Extents:
    return next(iter(beginning_at(at, [extents])))


async def _read(work: DiskWork, chain: tuple[Path, ...], extents: Extents, options: CopyOptions) -> None:
    """Read extents, and drop them.  The images are opened anew: a qemu that met a damaged table reads no more."""
    async with reading_images(work, chain) as source:
        nothing = Device.open_null(source.size)
        try:
            await dataplane.copy(source, nothing, [extents], options=options, bytes_expected=total(extents))
        finally:
            nothing.close()

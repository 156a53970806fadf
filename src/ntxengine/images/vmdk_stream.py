"""The streamOptimized VMDK: written from front to end, compressed, what is zero left out.

    header, descriptor | grain, grain, ... its table | grain, ... its table | directory | footer | end

A grain is 64 KiB of the disk, compressed by zlib, behind its place and its length.  A table names 512 grains, the
directory all tables; the footer, a header that knows where the directory is, comes last: nothing is ever written twice.
Version 3, as VMware exports it.  Places are sectors in 32 bits: such an image ends at 2 TiB.
Sources: VMware Virtual Disks, Virtual Disk Format 1.1 (Stream-Optimized Compressed Sparse Extents).
"""

from __future__ import annotations

import asyncio
import os
import struct
import zlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import TargetError
from ntxengine.images.vmdk import SECTOR, Adapter, check_size, stream_descriptor
from ntxengine.units import KIB, MIB

GRAIN = 64 * KIB
_GRAIN_SECTORS = GRAIN // SECTOR
_TABLE_ENTRIES = 512
_TABLE_BYTES = _TABLE_ENTRIES * GRAIN  # of the disk: 32 MiB
_OVERHEAD = 128
_DESCRIPTOR_SECTORS = 20
_AT_END = 2**64 - 1
_VERSION = 3
_FLAGS = 0x30001  # newlines can be checked; grains are compressed; there are markers
_DEFLATE = 1
_HEADER = struct.Struct("<4sIIQQQQIQQQB4sH433x")
_GRAIN_MARKER = struct.Struct("<QI")
_MARKER = struct.Struct("<QII496x")
_END, _TABLE, _DIRECTORY, _FOOTER = 0, 1, 2, 3
_MAX_PLACE = 2**32 - 1

BATCH = MIB
"""What is read and compressed by one thread at a time."""

LEVEL = 1
"""Of zlib: the quickest."""

Read = Callable[[int, int], bytes]
"""Return the bytes at an offset, of a length: fewer are zeros.  Called by several threads.  Errors: SourceError."""

Write = Callable[[bytes], None]
"""Write bytes behind those before.  One call at a time, in a thread.  Errors: TargetError."""

Skip = Callable[[int], int]
"""Return the first offset at or behind this one that may hold something else than zeros."""

_Packed = list[tuple[int, bytes]]


@dataclass
class _State:
    """How far the image is written: `place` in sectors; the table of now, and where those before are."""

    place: int
    directory: list[int]
    table: list[int]
    index: int = 0


async def write_stream(
    read: Read,
    write: Write,
    size: int,
    name: str,
    *,
    skip: Skip = lambda offset: offset,
    content_id: int,
    adapter: Adapter,
    threads: int | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write a disk of `size` bytes as a streamOptimized image called `name`; return how long it is.

    What is in memory is bounded: two batches for each of `threads`, as many as there are processors if None.
    `on_progress` is told how far the disk is read.  Cancelled, it ends within a batch.
    Errors: OptionsError (no VMDK can be so large, or have this name); TargetError (the image passes 2 TiB); what `read`
    and `write` raise.
    """
    check_size(size, name)
    at_once = 2 * (threads or os.cpu_count() or 1)
    tables = -(-size // _TABLE_BYTES)
    state = _State(_OVERHEAD, [0] * tables, [0] * _TABLE_ENTRIES)
    await to_thread_joined(write, _front(size, name, content_id, adapter))
    running: deque[tuple[int, asyncio.Task[_Packed]]] = deque()
    offset = 0
    try:
        while True:
            while len(running) < at_once and offset < size:
                offset = min(size, max(offset, await to_thread_joined(skip, offset)) // GRAIN * GRAIN)
                if offset >= size:
                    break
                end = min(size, offset + BATCH)
                work: Awaitable[_Packed] = to_thread_joined(_pack, read, offset, end)
                running.append((end, asyncio.ensure_future(work)))
                offset = end
            if not running:
                break
            end, task = running[0]
            packed = await task
            running.popleft()
            await to_thread_joined(_write_grains, state, packed, write, name)
            on_progress(end)
        await to_thread_joined(_write_end, state, size, write, name)
    finally:
        for _, task in running:
            task.cancel()
        await asyncio.gather(*(task for _, task in running), return_exceptions=True)
    return state.place * SECTOR


def _front(size: int, name: str, content_id: int, adapter: Adapter) -> bytes:
    descriptor = stream_descriptor(size, name, content_id=content_id, adapter=adapter)
    return (_header(size, _AT_END) + descriptor).ljust(_OVERHEAD * SECTOR, b"\0")


def _header(size: int, directory: int) -> bytes:
    return _HEADER.pack(
        *(b"KDMV", _VERSION, _FLAGS, size // SECTOR, _GRAIN_SECTORS, 1, _DESCRIPTOR_SECTORS, _TABLE_ENTRIES),
        *(0, directory, _OVERHEAD, 0, b"\n \r\n", _DEFLATE),
    )


def _pack(read: Read, offset: int, end: int) -> _Packed:
    """Return the grains of a part of the disk that hold something, each with its sector, as it stands in the image."""
    data = read(offset, end - offset)
    packed = []
    for start in range(0, len(data), GRAIN):
        grain = data[start : start + GRAIN]
        if not grain.strip(b"\0"):
            continue
        small = zlib.compress(grain.ljust(GRAIN, b"\0"), LEVEL)
        sector = (offset + start) // SECTOR
        packed.append((sector, _padded(_GRAIN_MARKER.pack(sector, len(small)) + small)))
    return packed


def _padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0")


def _write_grains(state: _State, packed: _Packed, write: Write, name: str) -> None:
    pieces = []
    for sector, data in packed:
        index, entry = divmod(sector // _GRAIN_SECTORS, _TABLE_ENTRIES)
        if index != state.index:
            pieces.append(_table(state))
            state.index = index
        if state.place > _MAX_PLACE:
            raise TargetError(f"{name}: passes 2 TiB, where a streamOptimized VMDK ends: leave the disk out of the VM")
        state.table[entry] = state.place
        state.place += len(data) // SECTOR
        pieces.append(data)
    if pieces:
        write(b"".join(pieces))


def _table(state: _State) -> bytes:
    """Return the table of the grains that were written, if there are any, and begin the next one."""
    if not any(state.table):
        return b""
    data = struct.pack(f"<{_TABLE_ENTRIES}I", *state.table)
    state.directory[state.index] = state.place + 1
    state.place += 1 + len(data) // SECTOR
    state.table = [0] * _TABLE_ENTRIES
    return _MARKER.pack(len(data) // SECTOR, 0, _TABLE) + data


def _write_end(state: _State, size: int, write: Write, name: str) -> None:
    table = _table(state)
    directory = _padded(struct.pack(f"<{len(state.directory)}I", *state.directory))
    at = state.place + 1
    end = _MARKER.pack(len(directory) // SECTOR, 0, _DIRECTORY) + directory
    end += _MARKER.pack(1, 0, _FOOTER) + _header(size, at) + _MARKER.pack(0, 0, _END)
    state.place += len(end) // SECTOR
    if at > _MAX_PLACE:
        raise TargetError(f"{name}: passes 2 TiB, where a streamOptimized VMDK ends: leave the disk out of the VM")
    write(table + end)

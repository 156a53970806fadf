"""Where the bytes of an image lie: looked up by qemu-img once, so that they can be read without a server between.

    chain  --qemu-img map-->  {"start": 0, "length": 65536, "depth": 1, "data": true, "offset": 327680}, ...
                              65536 bytes of the disk are in the second file of the chain, from its byte 327680 on

All that is metadata (tables, backing files, what is zero) is read by qemu, the authority on its format.  What it
answers is checked as if a stranger had said it; whatever is not plain bytes in one of our files is for qemu to read.
LIMIT: a fragmented image of some TiB has more extents than are kept in memory, and is read through a server.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.extents import MAPPED_EXTENT, ZERO, Extents
from ntxengine.errors import MachineError, ToolError
from ntxengine.images import process, qemu_img
from ntxengine.images.header import BadHeader, header_of
from ntxengine.images.held import CannotMap, HeldImages, held
from ntxengine.units import MIB

MAX_EXTENTS = MIB
"""Extents that are kept: 32 MiB of table, and twice that while it is handed over."""

MAP_TIMEOUT_S = 300.0
"""qemu-img reads some MiB of tables for each TiB of the disk; a storage slower than that is no place to look."""

_CHUNK = 256 * 1024


@dataclass(frozen=True)
class ClusterMap:
    """A disk of `size` bytes: `extents` (dtype MAPPED_EXTENT) are contiguous from 0 to its end, and lie in the files
    behind `fds`, which are open while the context lasts."""

    size: int
    extents: Extents
    fds: tuple[int, ...]


@asynccontextmanager
async def map_clusters(chain: Sequence[Path]) -> AsyncIterator[ClusterMap]:
    """Look up the clusters of `chain`, newest image first, and keep writers that ask for qemu's locks out meanwhile.

    The locks last as long as any duplicate of the descriptors.
    Errors: CannotMap.
    """
    async with held(chain) as images:
        size = await to_thread_joined(_disk_size, images)
        table = _Table(size, [os.fstat(fd).st_size for fd in images.fds])
        try:
            async with asyncio.timeout(MAP_TIMEOUT_S):
                await _run_map(chain, table)
        except TimeoutError:
            raise CannotMap(f"qemu-img was not done after {MAP_TIMEOUT_S:g} s") from None
        except (ToolError, MachineError, OSError) as exc:
            raise CannotMap(str(exc)) from exc
        extents = table.finish()
        await images.check_unchanged()
        yield ClusterMap(size, extents, images.fds)


def _disk_size(images: HeldImages) -> int:
    """Return the size of the disk, after a look at what qemu-img map does not tell: that `offset` is in these files,
    and that what is there is not encrypted."""
    sizes = []
    for fd, path in zip(images.fds, images.chain, strict=True):
        try:
            header = header_of(fd)
        except BadHeader as exc:
            raise CannotMap(f"{path}: {exc}") from exc
        if header.crypt_method:
            raise CannotMap(f"{path}: is encrypted")
        if header.is_corrupt or header.has_external_data or header.unknown_features:
            raise CannotMap(f"{path}: is corrupt, has its data in another file, or a feature that is not known")
        if header.size % qemu_img.SECTOR or header.size == 0:
            raise CannotMap(f"{path}: a size of {header.size} bytes")
        sizes.append(header.size)
    if not sizes:
        raise CannotMap("no image")
    return sizes[0]


# ----------------------------------------------------------------------------------------------------- the map

_Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Row(msgspec.Struct):
    start: _Bytes
    length: Annotated[int, msgspec.Meta(gt=0, le=2**63 - 1)]
    depth: _Bytes
    zero: bool
    data: bool
    offset: _Bytes | None = None
    compressed: bool = False


_ROWS = msgspec.json.Decoder(list[_Row])
_Extent = tuple[int, int, int, int, int]  # as MAPPED_EXTENT


class _Table:
    """Takes what qemu-img says, in pieces of any length, and makes the extents of it."""

    def __init__(self, size: int, file_sizes: Sequence[int]) -> None:
        self._size = size
        self._file_sizes = file_sizes
        self._rest, self._before = b"", b"["
        self._end = 0
        self._count = 0
        self._arrays: list[Extents] = []
        self._last: _Extent | None = None

    def feed(self, chunk: bytes) -> None:
        """Take some output.  Its objects are flat, so that every part may end behind a `}`.  Errors: CannotMap."""
        body, brace, self._rest = (self._rest + chunk).rpartition(b"}")
        if len(self._rest) > MIB:
            raise CannotMap("qemu-img said an object of more than 1 MiB")
        if not brace:
            return
        text = (body + brace).lstrip()
        if not text.startswith(self._before):
            raise CannotMap(f"qemu-img said what is not understood: {text[:40]!r}")
        self._before = b","
        try:
            rows = _ROWS.decode(b"[" + text[1:] + b"]")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise CannotMap(f"qemu-img said what is not understood: {exc}") from exc
        self._append(rows)

    def finish(self) -> Extents:
        """Return all extents.  Errors: CannotMap, if they are not the whole disk."""
        if self._rest.strip() != b"]" or self._end != self._size:
            raise CannotMap(f"qemu-img's map ends at {self._end}, the disk at {self._size}")
        if self._last is not None:
            self._arrays.append(np.array([self._last], dtype=MAPPED_EXTENT))
        return np.concatenate(self._arrays)

    def _append(self, rows: Sequence[_Row]) -> None:
        done: list[_Extent] = []
        for row in rows:
            if row.start != self._end or row.length > self._size - self._end:
                raise CannotMap(f"qemu-img's map goes on at {row.start} length {row.length} behind {self._end}")
            self._end += row.length
            for extent in self._placed(row):
                joined = _joined(self._last, extent)
                if joined is None and self._last is not None:
                    done.append(self._last)
                self._last = joined or extent
        self._count += len(done)
        if self._count >= MAX_EXTENTS:
            raise CannotMap(f"it has more than {MAX_EXTENTS} extents")
        if done:
            self._arrays.append(np.array(done, dtype=MAPPED_EXTENT))

    def _placed(self, row: _Row) -> Iterator[_Extent]:
        """Yield a row as extents.  What lies behind the end of its file reads as zero, as it does for qemu."""
        if row.zero:
            yield row.start, row.length, 0, 0, ZERO
            return
        if not row.data or row.offset is None or row.compressed:
            raise CannotMap(f"what is at offset {row.start} is compressed, or has no place in a file")
        if row.depth >= len(self._file_sizes):
            raise CannotMap(f"what is at offset {row.start} is in file {row.depth} of {len(self._file_sizes)}")
        inside = max(0, min(row.length, self._file_sizes[row.depth] - row.offset))
        if inside:
            yield row.start, inside, row.offset, row.depth, 0
        if inside < row.length:
            yield row.start + inside, row.length - inside, 0, 0, ZERO


def _joined(last: _Extent | None, extent: _Extent) -> _Extent | None:
    """Return two neighbours on the disk as one extent, None if they are not one."""
    if last is None:
        return None
    start, length, place, file, flags = last
    continues = extent[4] == ZERO or (extent[2] == place + length and extent[3] == file)
    return (start, length + extent[1], place, file, flags) if extent[4] == flags and continues else None


async def _run_map(chain: Sequence[Path], table: _Table) -> None:
    await process.run(
        "qemu-img",
        *("map", "--output=json", "--", qemu_img.node(chain)),
        action="mapping the image",
        path=chain[0],
        take=table.feed,
    )

"""Extents: what of a disk is data and what is zero, as numpy arrays and as files of them.

An array of extents has the dtype EXTENT, is ascending and does not overlap.  Many extents are never one array: they
are a stream of arrays ("windows"), on disk if they have to be kept, so that memory does not grow with their number.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ntxengine import machine
from ntxengine._core import kernels
from ntxengine._core.kernels import extents_from_json
from ntxengine.errors import OptionsError

EXTENT = kernels.EXTENT
"""offset and length in bytes; flags: ZERO, or 0 for data.  The layout of `struct ntx_extent`."""

MAPPED_EXTENT = kernels.MAPPED_EXTENT
"""An extent, and where its bytes are: `place` in the file with index `file`.  `struct ntx_mapped_extent`."""

_ROW = np.dtype((np.void, EXTENT.itemsize))
"""An extent as bytes, for copying: numpy copies the fields of a record one by one."""

ZERO = kernels.EXTENT_ZERO
"""Reads as zero: need not be read, but must be zero at the target."""

ABSENT = kernels.EXTENT_ABSENT
"""With ZERO, of MAPPED_EXTENT alone: no image says anything of it.  What is below them all may show there."""

WINDOW = 65536
"""Extents in one window: 1.5 MiB."""

Extents = NDArray[np.void]


_SHORTEST_ROW = len('{"offset":0,"length":0},')


def from_json(text: memoryview, *, kind_key: str, zero_kind: str, capacity: int) -> tuple[Extents, int] | None:
    """Return the extents of the array that a JSON `text` begins with, unchecked but read fast, and where it ends.

    Its objects are flat, with `offset` and `length`; those whose `kind_key` is `zero_kind` are zero, all others data.
    None: there is something unusual in it, or more than `capacity` of them; read it with a real parser.
    """
    possible = min(capacity, len(text) // _SHORTEST_ROW + 1)
    return extents_from_json(text, kind_key=kind_key.encode(), zero_kind=zero_kind.encode(), capacity=possible)


def make(rows: Iterable[tuple[int, int, int]]) -> Extents:
    """Return extents from (offset, length, flags) rows, unchecked."""
    return np.array(list(rows), dtype=EXTENT)


def concatenate(parts: Sequence[Extents]) -> Extents:
    """Return arrays as one."""
    return np.concatenate([part.view(_ROW) for part in parts]).view(EXTENT)


def _take(extents: Extents, index: NDArray[np.intp]) -> Extents:
    """Return a copy of the extents at `index`."""
    return extents.view(_ROW)[index].view(EXTENT)


def whole(size: int) -> Extents:
    """Return the one data extent that covers a disk of `size` bytes; none if it is empty."""
    return make([(0, size, 0)] if size else [])


def as_data(extents: Extents) -> Extents:
    """Return the same places, all to be read."""
    data = extents.copy()
    data["flags"] = 0
    return data


def total(extents: Extents) -> int:
    """Return the sum of the lengths, in bytes."""
    return int(extents["length"].sum(dtype=np.uint64)) if len(extents) else 0


def check_bounds(extents: Extents, *, size: int, name: str) -> None:
    """Refuse extents that are empty or end behind `size`.

    Errors: OptionsError that names the first bad one.
    """
    if not len(extents):
        return
    # In this order nothing can wrap round: offset + length is only formed when both are below 2**63.
    bad = (extents["offset"] > size) | (extents["length"] > size) | (extents["length"] == 0)
    bad |= np.where(bad, 0, extents["offset"] + extents["length"]) > size
    if bad.any():
        first = extents[int(bad.argmax())]
        raise OptionsError(
            f"{name}: extent at offset {first['offset']} length {first['length']} is empty or ends behind the disk's "
            f"{size} bytes"
        )


def normalise(extents: Extents, *, size: int, name: str) -> Extents:
    """Return the same bytes as ascending extents that neither overlap nor touch with equal flags.

    Where data and zero overlap, data wins: it is then read, which is right in both cases.  If nothing is to be done it
    is the same array, not a copy.
    Errors: OptionsError if one is empty or ends behind `size`.
    """
    check_bounds(extents, size=size, name=name)
    if len(extents) < 2:
        return extents
    extents = in_order(extents)
    if (extents["offset"][1:] < extents["offset"][:-1] + extents["length"][:-1]).any():
        extents = _resolve_overlaps(extents)
    return join_neighbours(extents)


def in_order(extents: Extents) -> Extents:
    """Return extents by offset, those of equal offsets as they came; itself if it is in order."""
    offset = extents["offset"]
    return extents if (offset[1:] >= offset[:-1]).all() else _take(extents, np.argsort(offset, kind="stable"))


def _resolve_overlaps(extents: Extents) -> Extents:
    """Cut sorted extents at all their borders, and give every piece the kind that covers it (data before zero)."""
    ends = extents["offset"] + extents["length"]
    borders = np.unique(np.concatenate([extents["offset"], ends]))
    covered = np.zeros((2, len(borders)), dtype=np.int64)
    kind = (extents["flags"] & ZERO).astype(np.intp)
    np.add.at(covered, (kind, np.searchsorted(borders, extents["offset"])), 1)
    np.add.at(covered, (kind, np.searchsorted(borders, ends)), -1)
    is_data, is_zero = covered.cumsum(axis=1)[:, :-1] > 0
    pieces = np.empty(len(borders) - 1, dtype=EXTENT)
    pieces["offset"] = borders[:-1]
    pieces["length"] = np.diff(borders)
    pieces["flags"] = np.where(is_data, 0, ZERO)
    covered_pieces: Extents = pieces[is_data | is_zero]
    return covered_pieces


def join_neighbours(extents: Extents) -> Extents:
    """Join sorted extents that touch and have the same flags."""
    joins = extents["offset"][1:] == extents["offset"][:-1] + extents["length"][:-1]
    joins &= extents["flags"][1:] == extents["flags"][:-1]
    if not joins.any():
        return extents
    first = np.concatenate([[0], np.flatnonzero(~joins) + 1])
    joined = _take(extents, first)
    joined["length"] = np.add.reduceat(extents["length"], first)
    return joined


def clipped(extents: Extents, size: int) -> Extents:
    """Return ascending extents without what lies behind `size`: an image has whole sectors, a disk may not."""
    inside = extents[extents["offset"] < size].copy()
    inside["length"] = np.minimum(inside["offset"] + inside["length"], size) - inside["offset"]
    return inside


def beginning_at(start: int, windows: Iterable[Extents]) -> Iterator[Extents]:
    """Yield what of ascending `windows` lies at `start` (bytes) or behind it."""
    for window in windows:
        ends = window["offset"] + window["length"]
        rest = window[int(np.searchsorted(ends, start, side="right")) :].copy()
        if len(rest) and rest["offset"][0] < start:
            rest["length"][0] -= np.uint64(start) - rest["offset"][0]
            rest["offset"][0] = start
        yield rest


class ExtentFile:
    """Extents on disk: 24 bytes each, appended in order, read back in windows.

    Without a path it is a temporary file that nobody else sees.  With one it stays when closed.
    """

    def __init__(self, path: Path | None = None) -> None:
        # Closed by close(): the file lives as long as the object.
        if path is None:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=machine.temporary_folder())  # noqa: SIM115
        else:
            self._file = path.open("w+b")
        self.count = 0
        self.bytes_data = 0
        self.bytes_zero = 0
        self.end = 0

    def append(self, extents: Extents) -> None:
        """Add extents that begin at or behind `.end`, where the last ones ended.

        Errors: ValueError if they do not.
        """
        if not len(extents):
            return
        if int(extents["offset"][0]) < self.end:
            raise ValueError(f"extents go back to offset {extents['offset'][0]} behind {self.end}")
        self._file.seek(0, os.SEEK_END)
        self._file.write(np.ascontiguousarray(extents).data)
        zero = int(np.dot(extents["length"], extents["flags"] & np.uint64(ZERO)))
        self.count += len(extents)
        self.bytes_zero += zero
        self.bytes_data += total(extents) - zero
        self.end = int(extents["offset"][-1] + extents["length"][-1])

    def flush(self) -> None:
        """Write what is still in memory, so that a disk without room is an error here and not when it is read."""
        self._file.flush()

    def windows(self, count: int = WINDOW) -> Iterator[Extents]:
        """Yield all extents, at most `count` at a time."""
        at = 0
        while True:
            self._file.seek(at)
            chunk = self._file.read(count * EXTENT.itemsize)
            if not chunk:
                return
            at += len(chunk)
            yield np.frombuffer(chunk, dtype=EXTENT)

    def read(self, first: int, count: int) -> Extents:
        """Return up to `count` extents from the one at index `first` on.  Any thread may, once it is flushed."""
        size = EXTENT.itemsize
        return np.frombuffer(os.pread(self._file.fileno(), count * size, first * size), dtype=EXTENT)

    def close(self) -> None:
        """Close the file; a temporary one is gone then."""
        self._file.close()

    def __enter__(self) -> ExtentFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""Changed regions, computed from the bytes of two frozen files.

Both files are walked where at least one of them has data; ranges that are holes in both are never read, so sparse
files of any size are fast.  Memory is bounded by one chunk of each file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ntxengine.sim.pages import Page, Window
from ntxengine.sim.storage import data_segments
from ntxengine.units import MIB

_CHUNK_SIZE = MIB

Run = tuple[int, int, bool]
"""start, end, is zero now: bytes, ascending."""


def compute(path: Path, reference: Path | None, window: Window) -> Page:
    """Return one page of what differs between `reference` and `path`; without a reference of what is allocated."""
    with path.open("rb", buffering=0) as new:
        size = os.fstat(new.fileno()).st_size
        block = window.block_size
        start = window.start // block * block
        end = size if window.end is None else min(size, _round_up(window.end, block))
        limit = size if window.look_ahead else end
        if reference is None:
            return _page(_allocated(new.fileno(), start, limit, size, window), end, size, window)
        with reference.open("rb", buffering=0) as old:
            return _page(_changed(new.fileno(), old.fileno(), start, limit, block), end, size, window)


def _round_up(value: int, block: int) -> int:
    return -(-value // block) * block


def _page(runs: Iterator[Run], end: int, size: int, window: Window) -> Page:
    regions: list[tuple[int, int, bool]] = []
    for start, stop, is_zero in _merged(runs):
        if start >= end or len(regions) == window.count:
            return Page(regions, start, size)
        regions.append((start, min(stop, end) - start, is_zero))
        if stop > end:
            return Page(regions, end, size)
    return Page(regions, None, size)


def _merged(runs: Iterator[Run]) -> Iterator[Run]:
    """Join neighbours of one kind."""
    last: Run | None = None
    for run in runs:
        if last is not None and last[1] == run[0] and last[2] == run[2]:
            last = (last[0], run[1], last[2])
            continue
        if last is not None:
            yield last
        last = run
    if last is not None:
        yield last


def _allocated(file: int, start: int, end: int, size: int, window: Window) -> Iterator[Run]:
    done = start
    for low, high in _blocks(data_segments(file, start, end), window.block_size, size):
        if window.zeroes and low > done:
            yield done, low, True
        yield low, high, False
        done = high
    if window.zeroes and done < end:
        yield done, end, True


def _blocks(segments: Iterator[tuple[int, int]], block: int, size: int) -> Iterator[tuple[int, int]]:
    """Round segments outward to blocks and join those that meet."""
    last: tuple[int, int] | None = None
    for low, high in segments:
        low, high = low // block * block, min(_round_up(high, block), size)
        if last is not None and low <= last[1]:
            last = (last[0], max(last[1], high))
            continue
        if last is not None:
            yield last
        last = (low, high)
    if last is not None:
        yield last


def _union(a: Iterator[tuple[int, int]], b: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Merge two ascending sequences of ranges into one, still possibly overlapping."""
    first, second = next(a, None), next(b, None)
    while first is not None or second is not None:
        if second is None or (first is not None and first <= second):
            assert first is not None
            yield first
            first = next(a, None)
        else:
            yield second
            second = next(b, None)


class _Reader:
    """Reads blocks of one file into one buffer: fresh memory for every chunk would cost more than the comparison."""

    def __init__(self, file: int, block: int) -> None:
        self._file = file
        self._block = block
        self._buffer = bytearray(_CHUNK_SIZE)

    def read(self, start: int, end: int) -> NDArray[np.uint64]:
        """Return [start, end) as rows of one block each, good until the next call; past the end all is zero."""
        length = _round_up(end - start, self._block)
        view, done = memoryview(self._buffer)[:length], 0
        while start + done < end:
            count = os.preadv(self._file, [view[done : end - start]], start + done)
            if count == 0:
                break
            done += count
        view[done:] = bytes(length - done)
        return np.frombuffer(view, dtype=np.uint64).reshape(-1, self._block // 8)


def _changed(new: int, old: int, start: int, end: int, block: int) -> Iterator[Run]:
    """Compare block by block; beyond the end of the old file everything counts as changed."""
    old_size = os.fstat(old).st_size
    size = os.fstat(new).st_size
    shared = min(end, _round_up(old_size, block))
    now, before = _Reader(new, block), _Reader(old, block)
    segments = _union(data_segments(new, start, shared), data_segments(old, start, min(shared, old_size)))
    for low, high in _blocks(segments, block, size):
        for offset in range(low, high, _CHUNK_SIZE):
            stop = min(high, offset + _CHUNK_SIZE)
            yield from _compare(now.read(offset, stop), before.read(offset, stop), offset, stop)
    if shared < end:
        yield from _grown(new, max(start, shared), end, block)


def _grown(new: int, start: int, end: int, block: int) -> Iterator[Run]:
    size = os.fstat(new).st_size
    reader = _Reader(new, block)
    done = start
    for low, high in _blocks(data_segments(new, start, end), block, size):
        if low > done:
            yield done, low, True
        for offset in range(low, high, _CHUNK_SIZE):
            stop = min(high, offset + _CHUNK_SIZE)
            filled = _any_bit(reader.read(offset, stop))
            yield from _runs(np.ones_like(filled), filled, offset, stop, block)
        done = high
    if done < end:
        yield done, end, True


def _compare(now: NDArray[np.uint64], before: NDArray[np.uint64], start: int, end: int) -> Iterator[Run]:
    if np.array_equal(now, before):
        return
    yield from _runs(_any_bit(now ^ before), _any_bit(now), start, end, now.shape[1] * 8)


def _any_bit(rows: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return per row if anything in it is not zero."""
    bits = np.asarray(np.bitwise_or.reduce(rows, axis=1), dtype=np.uint64)
    return bits.astype(np.bool_)


def _runs(changed: NDArray[np.bool_], filled: NDArray[np.bool_], start: int, end: int, block: int) -> Iterator[Run]:
    """Turn flags per block into runs of one kind."""
    kind = np.where(changed, np.where(filled, 1, 2), 0)
    edges = np.flatnonzero(np.diff(kind)) + 1
    starts = np.concatenate(([0], edges))
    stops = np.concatenate((edges, [len(kind)]))
    for first, last in zip(starts.tolist(), stops.tolist(), strict=True):
        if kind[first]:
            yield start + first * block, min(start + last * block, end), bool(kind[first] == 2)

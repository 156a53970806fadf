"""Blocks of 64 KiB that extents touch, and extents of blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ntxengine.dataplane.extents import EXTENT, Extents
from ntxengine.units import BLOCK_SIZE, MIB

GROUP_BLOCKS = 4 * MIB // 16
"""Whose digests are read at once."""

Runs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Runs of blocks: the first of each, and the one behind its last; ascending, apart from each other, at least one."""


def untouched(touched: Iterable[Extents], *, size: int) -> Iterator[Extents]:
    """Yield, as data extents, the blocks of a disk of `size` bytes that no extent of `touched` touches."""
    behind = 0
    for begins, ends in block_runs(touched):
        yield block_extents(np.append(behind, ends[:-1]), begins, size)
        behind = int(ends[-1])
    yield block_extents(np.array([behind]), np.array([-(-size // BLOCK_SIZE)]), size)


def block_extents(begins: NDArray[np.int64], ends: NDArray[np.int64], size: int) -> Extents:
    """Return runs of blocks of a disk of `size` bytes, each up to the block before its end, as data extents."""
    begins, ends = begins[begins < ends], ends[begins < ends]
    extents = np.zeros(len(begins), dtype=EXTENT)
    extents["offset"] = begins * BLOCK_SIZE
    extents["length"] = np.minimum(ends * BLOCK_SIZE, size) - begins * BLOCK_SIZE
    return extents


def block_runs(windows: Iterable[Extents]) -> Iterator[Runs]:
    """Yield the runs of blocks that ascending extents touch, those of a window at a time, each block once."""
    behind = 0
    for window in windows:
        begins = np.maximum((window["offset"] // BLOCK_SIZE).astype(np.int64), behind)
        ends = ((window["offset"] + window["length"] - 1) // BLOCK_SIZE + 1).astype(np.int64)
        begins, ends = begins[begins < ends], ends[begins < ends]
        if not len(ends):
            continue
        behind = int(ends[-1])
        is_apart = begins[1:] > ends[:-1]
        yield begins[np.append(True, is_apart)], ends[np.append(is_apart, True)]


def groups_of_runs(windows: Iterable[Runs]) -> Iterator[Runs]:
    """Cut runs into groups that lie so near to each other that one read is good for all of a group."""
    for begins, ends in windows:
        at = 0
        while at < len(begins):
            after = max(at + 1, int(np.searchsorted(ends, begins[at] + GROUP_BLOCKS, side="right")))
            yield begins[at:after], ends[at:after]
            at = after

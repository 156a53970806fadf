"""Which blocks an audit compares, and what they must hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ntxengine.dataplane.coverage import Blocks
from ntxengine.dataplane.extents import ZERO, Extents
from ntxengine.units import BLOCK_SIZE


@dataclass(frozen=True)
class Sample:
    """Blocks that an audit reads, ascending: `unchanged` as in the previous point, `zero` as the cluster says."""

    unchanged: Blocks
    zero: Blocks

    def __len__(self) -> int:
        return len(self.unchanged) + len(self.zero)


def sample(blocks: Blocks, regions: Iterable[Extents], *, is_incremental: bool) -> Sample:
    """Return which of ascending `blocks` the cluster says something of that can be compared.

    `regions` are what it says: ascending windows, in whole blocks.  What lies in none of them is unchanged, or zero
    where there is no previous point (`is_incremental`).  What is in a data region is read anyway.
    """
    in_data = np.zeros(len(blocks), dtype=np.bool_)
    in_zero = in_data.copy()
    for window in regions:
        is_zero = (window["flags"] & ZERO) != 0
        in_data |= _are_touched(blocks, window[~is_zero])
        in_zero |= _are_touched(blocks, window[is_zero])
    if not is_incremental:
        return Sample(unchanged=blocks[:0], zero=blocks[~in_data])
    return Sample(unchanged=blocks[~in_data & ~in_zero], zero=blocks[in_zero])


def _are_touched(blocks: Blocks, extents: Extents) -> NDArray[np.bool_]:
    """Say of each block whether an extent has a byte of it."""
    offsets = extents["offset"].astype(np.int64)
    first = offsets // BLOCK_SIZE
    last = (offsets + extents["length"].astype(np.int64) - 1) // BLOCK_SIZE
    return _begun(first, blocks) > np.searchsorted(last, blocks, side="left")


def _begun(first: Blocks, blocks: Blocks) -> NDArray[np.intp]:
    """Return how many extents begin at or before each block."""
    return np.asarray(np.searchsorted(first, blocks, side="right"))

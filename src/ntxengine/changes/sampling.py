"""Which blocks an audit compares, and what they must hold: not those again that were compared lately.

    order     0 1 2 3 ... blocks-1    --->    a permutation of the blocks of the disk
              |<- position ->|                 passed over by earlier audits; the next goes on behind it

Neighbours in the order lie a golden section of the disk apart, so that any run of them is spread evenly over it: an
audit of one block in fifty meets every piece of the disk that is much longer than fifty blocks.  All that has to be
remembered is a seed and a position, however large the disk is.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ntxengine.dataplane.extents import ZERO, Extents
from ntxengine.units import BLOCK_SIZE

Blocks = NDArray[np.int64]
"""Numbers of blocks."""

NONE: Blocks = np.empty(0, dtype=np.int64)

MAX_AHEAD = 16384
"""Blocks looked at in one go, 1 GiB: sorted, they are read in one sweep over the disk."""

_GOLDEN = (math.sqrt(5) - 1) / 2
_SEEDS = 2**32
_MAX_POSITION = 2**60


@dataclass(frozen=True)
class Cursor:
    """How far audits are in the order of the blocks of a disk.

    `position` goes on past the last block: that is where the second time begins.
    """

    seed: int
    position: int
    blocks: int

    @classmethod
    def begin(cls, blocks: int) -> Cursor:
        """Return one that has passed over nothing."""
        return cls(secrets.randbelow(_SEEDS), 0, blocks)

    def fits(self, blocks: int) -> bool:
        """Say whether it can be one of a disk with so many blocks: it was read from a file."""
        return self.blocks == blocks and 0 <= self.position < _MAX_POSITION and 0 <= self.seed < _SEEDS

    @property
    def covered(self) -> int:
        """How many of the blocks were passed over at least once."""
        return min(self.position, self.blocks)

    def passed(self, count: int) -> Cursor:
        """Return one that has passed over so many more."""
        return replace(self, position=self.position + count)

    def ahead(self, count: int) -> Blocks:
        """Return the next `count` blocks in the order, at most all of them and MAX_AHEAD, ascending."""
        count = min(count, self.blocks, MAX_AHEAD)
        if count <= 0:
            return NONE
        stride = _stride(self.blocks)
        first = (self.seed + self.position * stride) % self.blocks
        # No number is too large: a stride is below 2**46, the blocks of the largest disk.
        return np.sort((first + np.arange(count, dtype=np.int64) * stride) % self.blocks)


def _stride(blocks: int) -> int:
    """Return a number near the golden section of `blocks` that has no factor in common with it."""
    stride = max(1, round(blocks * _GOLDEN))
    while math.gcd(stride, blocks) != 1:
        stride -= 1
    return stride


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

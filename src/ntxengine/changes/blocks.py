"""Regions widened to whole blocks, because a manifest has one digest for each: who stores a part of a block would store
what its digest is not of, should the cluster have told of one change in it and not of another.

    blocks   |       |       |       |       |       |
    regions     data         |     zero         |
    become   |     data      | data  | zero  | data  |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ntxengine.dataplane import extents
from ntxengine.dataplane.blocks import block_extents
from ntxengine.dataplane.extents import EXTENT, ZERO, Extents
from ntxengine.units import BLOCK_SIZE


def in_whole_blocks(windows: Iterable[Extents], size: int) -> Iterator[Extents]:
    """Yield extents of a disk of `size` bytes, ascending, disjoint and joined, in whole blocks.

    Data that touches a block has all of it; of what is zero whole blocks stay so, and the rest is data: it is read.
    """
    held = np.empty(0, dtype=EXTENT)
    for window in windows:
        widened = _widened(extents.concatenate([held, window]), size)
        # What comes later begins behind this window, and so touches no block but its last.
        held = widened[-1:]
        if len(widened) > 1:
            yield widened[:-1]
    if len(held):
        yield held


def _widened(regions: Extents, size: int) -> Extents:
    is_zero = (regions["flags"] & ZERO) != 0
    begins = regions["offset"].astype(np.int64)
    ends = begins + regions["length"].astype(np.int64)
    first, behind = begins // BLOCK_SIZE, -(-ends // BLOCK_SIZE)
    whole_first = -(-begins // BLOCK_SIZE)
    whole_behind = np.where(ends == size, behind, ends // BLOCK_SIZE)
    has_head, has_tail = is_zero & (first < whole_first), is_zero & (whole_behind < behind)

    data_first = np.concatenate([first[~is_zero], first[has_head], whole_behind[has_tail]])
    data_behind = np.concatenate([behind[~is_zero], first[has_head] + 1, behind[has_tail]])
    order = np.argsort(data_first, kind="stable")
    data_first, data_behind = data_first[order], np.maximum.accumulate(data_behind[order])
    is_apart = data_first[1:] > data_behind[:-1]
    any_data = np.ones(min(len(data_first), 1), dtype=np.bool_)
    data = block_extents(
        data_first[np.concatenate([any_data, is_apart])], data_behind[np.concatenate([is_apart, any_data])], size
    )
    # No data touches these: one region that says zero has all of each.
    zero = block_extents(whole_first[is_zero], whole_behind[is_zero], size)
    zero["flags"] = ZERO
    return extents.in_order(extents.concatenate([data, zero]))

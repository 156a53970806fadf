"""Regions in whole blocks: what a manifest has one digest for is stored as a whole or not at all."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from ntxengine.changes.blocks import in_whole_blocks
from ntxengine.dataplane import extents
from ntxengine.dataplane.extents import ZERO
from ntxengine.units import BLOCK_SIZE

SECTOR = 512
PER_BLOCK = BLOCK_SIZE // SECTOR


@st.composite
def disks(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, int]]]:
    """A small disk, perhaps with a tail, and ascending regions of it, aligned to sectors."""
    sectors = draw(st.integers(1, 8 * PER_BLOCK + 5))
    cuts = sorted(draw(st.sets(st.integers(0, sectors) | st.integers(0, 8).map(PER_BLOCK.__mul__), max_size=12)))
    rows = [
        (low * SECTOR, (high - low) * SECTOR, draw(st.sampled_from([0, ZERO])))
        for low, high in itertools.pairwise(cuts)
        if draw(st.booleans()) and high <= sectors
    ]
    return sectors * SECTOR, rows


@given(disk=disks(), per_window=st.integers(1, 4))
@settings(max_examples=300)
def test_each_block_is_what_a_walk_over_its_sectors_says(
    disk: tuple[int, list[tuple[int, int, int]]], per_window: int
) -> None:
    size, rows = disk
    said = ["-"] * (size // SECTOR)
    for offset, length, flags in rows:
        said[offset // SECTOR : (offset + length) // SECTOR] = ["0" if flags else "x"] * (length // SECTOR)
    blocks = [set(said[at : at + PER_BLOCK]) for at in range(0, len(said), PER_BLOCK)]
    expected = ["-" if kinds == {"-"} else "0" if kinds == {"0"} else "x" for kinds in blocks]
    joined = extents.join_neighbours(extents.make(rows))
    windows = [joined[at : at + per_window] for at in range(0, len(joined), per_window)]

    found = [row for window in in_whole_blocks(windows, size) for row in window.tolist()]

    ends = [offset + length for offset, length, _ in found]
    assert all(offset % BLOCK_SIZE == 0 for offset, _, _ in found)
    assert all(end % BLOCK_SIZE == 0 or end == size for end in ends)
    kinds = ["-"] * len(blocks)
    for (offset, _, flags), end in zip(found, ends, strict=True):
        first, behind = offset // BLOCK_SIZE, -(-end // BLOCK_SIZE)
        assert kinds[first:behind] == ["-"] * (behind - first)
        kinds[first:behind] = ["0" if flags else "x"] * (behind - first)
    assert kinds == expected
    assert all(
        end < offset or before != after
        for end, (_, _, before), (offset, _, after) in zip(ends, found, found[1:], strict=False)
    )

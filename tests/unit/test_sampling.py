"""Audits pass over every block of a disk once before any a second time, and tell apart what can be compared."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntxengine.changes.blocks import in_whole_blocks
from ntxengine.changes.sampling import sample
from ntxengine.dataplane import extents
from ntxengine.dataplane.coverage import MAX_AHEAD, Cursor, Shuffled, least_excluded
from ntxengine.dataplane.extents import ZERO
from ntxengine.units import BLOCK_SIZE

SECTOR = 512


def one_round(cursor: Cursor, step: int) -> Cursor:
    """Go over a disk once, a step at a time, and check that each block is met once; return where that leads."""
    blocks = cursor.blocks
    seen: list[int] = []
    while cursor.position < blocks:
        count = min(step, blocks - cursor.position)
        ahead = cursor.ahead(count)
        assert (np.diff(ahead) > 0).all()
        seen += ahead.tolist()
        cursor = cursor.passed(count)
    assert sorted(seen) == list(range(blocks))
    return cursor


@given(blocks=st.integers(0, 5000), seed=st.integers(0, 2**32 - 1), step=st.integers(1, 700))
@settings(max_examples=60)
def test_a_round_has_every_block_once(blocks: int, seed: int, step: int) -> None:
    cursor = one_round(Cursor(seed, 0, blocks), step)

    assert cursor.covered == blocks
    assert cursor.ahead(0).tolist() == []


@pytest.mark.parametrize("blocks", [997, 4096, 10_000, 16_777_216, 2**46, 2**46 - 1])
@pytest.mark.parametrize("position", [0, 123_456_789])
def test_any_run_of_the_order_is_spread_evenly(blocks: int, position: int) -> None:
    count = min(blocks, 500)

    ahead = Cursor(7, position, blocks).ahead(count)

    gaps = np.diff(np.append(ahead, ahead[0] + blocks))
    assert len(set(ahead.tolist())) == count
    assert 0 <= ahead[0] <= ahead[-1] < blocks
    assert gaps.max() <= 3 * blocks / count


def test_no_more_than_a_sweep_is_looked_at_at_once() -> None:
    assert len(Cursor(0, 0, 10**9).ahead(10**9)) == MAX_AHEAD


@pytest.mark.parametrize("cursor", [Cursor(0, -1, 8), Cursor(-1, 0, 8), Cursor(2**32, 0, 8), Cursor(0, 0, 9)])
def test_what_was_read_from_a_file_is_checked(cursor: Cursor) -> None:
    assert not cursor.fits(8)
    assert Cursor(3, 20, 8).fits(8)


@st.composite
def disks(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, int]]]:
    """A small disk, perhaps with a tail, and ascending regions of it, aligned to sectors."""
    sectors = draw(st.integers(1, 8 * 128 + 5))
    cuts = sorted(draw(st.sets(st.integers(0, sectors), max_size=12)))
    rows = [
        (low * SECTOR, (high - low) * SECTOR, draw(st.sampled_from([0, ZERO])))
        for low, high in itertools.pairwise(cuts)
        if draw(st.booleans())
    ]
    return sectors * SECTOR, rows


@given(disk=disks(), is_incremental=st.booleans(), per_window=st.integers(1, 4))
@settings(max_examples=200)
def test_a_sample_is_what_a_walk_over_every_sector_says(
    disk: tuple[int, list[tuple[int, int, int]]], is_incremental: bool, per_window: int
) -> None:
    size, rows = disk
    said = ["-"] * (size // SECTOR)
    for offset, length, flags in rows:
        said[offset // SECTOR : (offset + length) // SECTOR] = ["0" if flags else "x"] * (length // SECTOR)
    per_block = BLOCK_SIZE // SECTOR
    of_block = [set(said[at : at + per_block]) for at in range(0, len(said), per_block)]
    joined = extents.join_neighbours(extents.make(rows))
    windows = [joined[at : at + per_window] for at in range(0, len(joined), per_window)]

    found = sample(np.arange(len(of_block)), in_whole_blocks(windows, size), is_incremental=is_incremental)

    if is_incremental:
        assert found.unchanged.tolist() == [number for number, kinds in enumerate(of_block) if kinds == {"-"}]
        assert found.zero.tolist() == [number for number, kinds in enumerate(of_block) if kinds == {"0"}]
    else:
        assert found.unchanged.tolist() == []
        assert found.zero.tolist() == [number for number, kinds in enumerate(of_block) if kinds in ({"-"}, {"0"})]


@given(blocks=st.integers(1, 3000), seed=st.integers(0, 2**32 - 1), step=st.integers(100, 700))
@settings(max_examples=30)
def test_a_round_in_random_order_has_every_block_once(blocks: int, seed: int, step: int) -> None:
    cursor = one_round(Shuffled(seed, 0, blocks), step)

    assert (cursor.ahead(blocks) == np.arange(blocks)[:MAX_AHEAD]).all()


def test_a_part_of_a_random_order_is_a_random_sample() -> None:
    # Of 1000 blocks 10 are wrong, in a row: a tenth of the disk meets so many of them as chance has it.
    met = [int((Shuffled.begin(1000, seed=seed).ahead(100) < 10).sum()) for seed in range(1000)]

    shares = np.bincount(met, minlength=4)[:4] / len(met)
    expected = [0.347, 0.389, 0.194, 0.057]  # hypergeometric
    assert np.abs(shares - expected).max() < 0.06


def test_other_seeds_and_the_largest_disk_have_orders_too() -> None:
    largest = 2**46
    one, other = (Shuffled.begin(largest, seed=seed).ahead(1000) for seed in (1, 2))

    assert len(np.intersect1d(one, other)) == 0
    assert 0 <= one.min() < largest / 100
    assert largest * 0.99 < one.max() < largest
    assert (Shuffled.begin(largest, seed=1).ahead(1000) == one).all()


@pytest.mark.parametrize(
    ("blocks", "covered", "least"),
    [
        (100, 0, None),
        (0, 0, None),
        (100, 101, None),
        (100, 100, 1),
        (1, 1, 1),
        (20, 19, 1),  # the one that is left is wrong with a probability of 5 %
        (20, 18, 2),
        (2, 1, 2),
        (1000, 10, 258),  # 1 - 0.05 ** (1 / 10) of them, and a little less without replacement
        (10**8, 299, 996_914),  # the rule of three: 3 / 299
    ],
)
def test_what_a_sample_without_a_wrong_block_excludes(blocks: int, covered: int, least: int | None) -> None:
    found = least_excluded(blocks, covered)

    assert found == least or (least is not None and found == pytest.approx(least, rel=1e-3))

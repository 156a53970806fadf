"""Bad ranges are all counted, joined where they touch, and kept only as far as a report shows them."""

from __future__ import annotations

import random

import pytest

from ntxengine.dataplane.extents import ZERO, join_neighbours, make, total
from ntxengine.restore.losses import MOST_RANGES, BadRange, Losses, without
from ntxengine.units import BLOCK_SIZE


def test_ranges_beyond_those_that_are_kept_are_counted() -> None:
    with Losses() as losses:
        for number in range(5 * MOST_RANGES):
            losses.add(2 * number * BLOCK_SIZE, BLOCK_SIZE, "differs")
        losses.end()

        assert (losses.count, losses.bytes) == (5 * MOST_RANGES, 5 * MOST_RANGES * BLOCK_SIZE)
        assert len(losses.ranges) == MOST_RANGES
        assert sum(total(window) for window in losses.windows()) == losses.bytes


def test_neighbours_of_one_reason_are_one_range() -> None:
    with Losses() as losses:
        for block, reason in ((0, "differs"), (1, "differs"), (2, "unreadable"), (4, "unreadable"), (5, "unreadable")):
            losses.add(block * BLOCK_SIZE, BLOCK_SIZE, reason)  # type: ignore[arg-type]
        losses.end()

        assert losses.ranges == [
            BadRange(0, 2 * BLOCK_SIZE, "differs"),
            BadRange(2 * BLOCK_SIZE, BLOCK_SIZE, "unreadable"),
            BadRange(4 * BLOCK_SIZE, 2 * BLOCK_SIZE, "unreadable"),
        ]


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("zeroed", [True, False])
def test_what_is_unreadable_is_cut_out_of_data_alone(seed: int, zeroed: bool) -> None:
    chance = random.Random(seed)
    kinds = [chance.choice(["data", "zero", "none"]) for _ in range(200)]
    bad = [chance.random() < 0.2 for _ in kinds]
    flags = {"data": 0, "zero": ZERO}
    rows = [(at, 1, flags[kind]) for at, kind in enumerate(kinds) if kind != "none"]
    cuts = sorted(chance.sample(range(len(rows)), 3))
    windows = [
        join_neighbours(make(rows[begin:end]))
        for begin, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)
        if begin < end
    ]

    found = list(
        without(windows, [join_neighbours(make((at, 1, 0) for at, is_bad in enumerate(bad) if is_bad))], zeroed=zeroed)
    )

    blocks = {at: int(row[2]) for window in found for row in window.tolist() for at in range(row[0], row[0] + row[1])}
    expected = {}
    for at, kind in enumerate(kinds):
        if kind != "none" and not (kind == "data" and bad[at] and not zeroed):
            expected[at] = ZERO if kind == "zero" or bad[at] else 0
    assert blocks == expected

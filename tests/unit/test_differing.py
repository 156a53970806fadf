"""Where two disks differ, by their manifests: all of it, nothing else, in windows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntxengine.dataplane import differing
from ntxengine.dataplane.differing import differing_extents
from ntxengine.dataplane.extents import ZERO
from ntxengine.dataplane.manifest import Manifest
from ntxengine.units import BLOCK_SIZE, TIB
from tests.unit.test_manifest import sealed

ONE, OTHER = bytes([1]) * 16, bytes([2]) * 16
BLOCKS = st.dictionaries(st.integers(0, 9), st.sampled_from([ONE, OTHER]), max_size=10)


def found(before: Manifest, after: Manifest) -> list[tuple[int, int, int]]:
    return [extent for window in differing_extents(before, after) for extent in window.tolist()]


def test_neighbours_are_one_extent_and_zeros_are_told(tmp_path: Path) -> None:
    size = 10 * BLOCK_SIZE + 512
    before = {1: ONE, 4: ONE, 5: ONE, 6: OTHER}
    after = {1: ONE, 2: ONE, 3: ONE, 5: OTHER, 6: OTHER, 10: ONE}

    with sealed(tmp_path / "before", before, size) as old, sealed(tmp_path / "after", after, size) as new:
        extents = found(old, new)

    assert extents == [
        (2 * BLOCK_SIZE, 2 * BLOCK_SIZE, 0),
        (4 * BLOCK_SIZE, BLOCK_SIZE, ZERO),
        (5 * BLOCK_SIZE, BLOCK_SIZE, 0),
        (10 * BLOCK_SIZE, 512, 0),
    ]


def test_a_disk_that_grew_had_zeros_there(tmp_path: Path) -> None:
    with (
        sealed(tmp_path / "before", {0: ONE}, 2 * BLOCK_SIZE) as old,
        sealed(tmp_path / "after", {0: ONE, 3: ONE}, 5 * BLOCK_SIZE) as new,
    ):
        assert found(old, new) == [(3 * BLOCK_SIZE, BLOCK_SIZE, 0)]
        assert found(new, old) == []


def test_disks_of_many_windows_are_read_only_where_they_hold_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = 4 * TIB // BLOCK_SIZE - 1
    read: list[int] = []
    digests = differing._digests
    monkeypatch.setattr(differing, "_digests", lambda m, first, count: read.append(first) or digests(m, first, count))

    with sealed(tmp_path / "b", {}, 4 * TIB) as old, sealed(tmp_path / "a", {0: ONE, last: ONE}, 4 * TIB) as new:
        windows = [window.tolist() for window in differing_extents(old, new)]

    assert windows == [[(0, BLOCK_SIZE, 0)], [(last * BLOCK_SIZE, BLOCK_SIZE, 0)]]
    assert len(read) == 4


@settings(max_examples=60)
@given(before=BLOCKS, after=BLOCKS, window=st.integers(1, 11))
def test_the_windows_hold_each_differing_block_once(
    tmp_path_factory: pytest.TempPathFactory, before: dict[int, bytes], after: dict[int, bytes], window: int
) -> None:
    folder = tmp_path_factory.mktemp("manifests")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(differing, "WINDOW", window)
        with sealed(folder / "b", before, 10 * BLOCK_SIZE) as old, sealed(folder / "a", after, 10 * BLOCK_SIZE) as new:
            extents = found(old, new)

    blocks = [
        (at // BLOCK_SIZE, flags) for start, length, flags in extents for at in range(start, start + length, BLOCK_SIZE)
    ]
    expected = [(n, 0 if n in after else ZERO) for n in range(10) if before.get(n) != after.get(n)]
    assert blocks == expected

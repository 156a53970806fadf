"""Regions in any order and shape become the same extents as in a plain bitmap."""

from __future__ import annotations

import errno
import os
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntxengine.changes.spool import RegionSpool, spool_to_file
from ntxengine.dataplane.extents import EXTENT, ZERO, ExtentFile, Extents, make
from ntxengine.errors import PrismAnswerError, TargetError

SIZE = 1024**3


def spooled(pages: list[list[tuple[int, int, int]]], tmp_path: Path, **options: int) -> list[tuple[int, int, int]]:
    """Return what a spool makes of pages of (offset, length, flags)."""
    spool = RegionSpool(tmp_path, size=options.pop("size", SIZE), **options)
    try:
        for page in pages:
            spool.add(make(page))
        windows = list(spool.windows())
    finally:
        spool.close()
    return [] if not windows else np.concatenate(windows).tolist()


def test_regions_of_a_single_sector_keep_their_borders(tmp_path: Path) -> None:
    found = spooled([[(512, 512, 0), (4096, 512, 0)], [(70000, 3, 0)]], tmp_path)

    assert found == [(512, 512, 0), (4096, 512, 0), (70000, 3, 0)]


def test_regions_that_overlap_inside_a_page_are_merged(tmp_path: Path) -> None:
    found = spooled([[(0, 1000, 0), (500, 1000, 0), (1500, 100, 0)]], tmp_path)

    assert found == [(0, 1600, 0)]


def test_a_region_that_overlaps_the_end_of_the_page_before_is_merged(tmp_path: Path) -> None:
    found = spooled([[(0, 4096, 0), (8192, 4096, 0)], [(10000, 10000, 0)]], tmp_path)

    assert found == [(0, 4096, 0), (8192, 11808, 0)]


def test_a_page_that_goes_backwards_is_sorted_in(tmp_path: Path) -> None:
    found = spooled([[(65536, 512, 0)], [(1024, 512, ZERO)], [(0, 512, 0), (131072, 512, 0)]], tmp_path)

    assert found == [(0, 512, 0), (1024, 512, ZERO), (65536, 512, 0), (131072, 512, 0)]


def test_data_wins_over_zero_where_both_are_claimed(tmp_path: Path) -> None:
    found = spooled([[(0, 10000, ZERO)], [(4096, 100, 0)], [(5000, 6000, 0)]], tmp_path)

    assert found == [(0, 4096, ZERO), (4096, 100, 0), (4196, 804, ZERO), (5000, 6000, 0)]


def test_empty_regions_are_dropped(tmp_path: Path) -> None:
    assert spooled([[(100, 0, 0)], [], [(SIZE, 0, 0)]], tmp_path) == []


@pytest.mark.parametrize(
    ("offset", "length"), [(SIZE, 1), (SIZE - 511, 512), (0, SIZE + 1), (2**64 - 512, 512), (512, 2**64 - 512)]
)
def test_a_region_past_the_end_of_the_disk_is_refused_with_its_numbers(
    offset: int, length: int, tmp_path: Path
) -> None:
    with pytest.raises(PrismAnswerError) as caught:
        spooled([[(0, 512, 0), (offset, length, 0)]], tmp_path)

    for number in (offset, length, SIZE, offset + length - SIZE):
        assert str(number) in str(caught.value)


def test_the_last_byte_of_the_disk_is_inside(tmp_path: Path) -> None:
    assert spooled([[(SIZE - 1, 1, 0)]], tmp_path) == [(SIZE - 1, 1, 0)]


regions = st.tuples(st.integers(0, 299), st.integers(0, 60), st.sampled_from([0, ZERO]))


@settings(max_examples=300)
@given(pages=st.lists(st.lists(regions, max_size=12), max_size=6), run_regions=st.integers(1, 9))
def test_any_pages_give_the_extents_of_a_bitmap(
    tmp_path_factory: pytest.TempPathFactory, pages: list[list[tuple[int, int, int]]], run_regions: int
) -> None:
    size = 360
    kinds = np.full(size, -1)
    for flags in (ZERO, 0):
        for offset, length, kind in (region for page in pages for region in page):
            if kind == flags:
                kinds[offset : offset + length] = flags

    found = spooled(pages, tmp_path_factory.getbasetemp(), size=size, run_regions=run_regions)

    painted = np.full(size, -1)
    end = 0
    for offset, length, flags in found:
        assert offset >= end
        painted[offset : offset + length] = flags
        end = offset + length
    assert (painted == kinds).all()
    assert all(a[0] + a[1] < b[0] or a[2] != b[2] for a, b in pairwise(found)), "not joined"


async def test_no_room_for_what_is_to_be_read_says_what_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(self: ExtentFile, extents: Extents) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ExtentFile, "append", no_room)

    with pytest.raises(
        TargetError, match=rf"^{tmp_path}: writing .* failed: No space left on device; .*free some space"
    ):
        await spool_to_file([make([(0, 512, 0)])], tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_no_room_for_a_page_says_so_too(tmp_path: Path) -> None:
    spool = RegionSpool(tmp_path, size=SIZE)
    spool._file.close()
    spool._file = open("/dev/full", "w+b")  # noqa: SIM115  close() does
    page = np.zeros(10_000, dtype=EXTENT)
    page["offset"], page["length"] = np.arange(10_000) * 1024, 512

    with pytest.raises(TargetError, match=rf"^{tmp_path}: writing .*No space left on device"):
        spool.add(page)

    spool.close()


def test_a_million_regions_in_random_order_are_sorted_in_bounded_memory(tmp_path: Path) -> None:
    count = 1_000_000
    offsets = np.random.default_rng(1).permutation(count).astype("<u8") * 1024
    spool = RegionSpool(tmp_path, size=count * 1024, run_regions=50_000)
    for start in range(0, count, 10_000):
        page: Extents = np.zeros(10_000, dtype=EXTENT)
        page["offset"] = offsets[start : start + 10_000]
        page["length"] = 512
        spool.add(page)

    tracemalloc.start()
    found = 0
    next_offset = 0
    for window in spool.windows():
        assert int(window["offset"][0]) == next_offset
        found += len(window)
        next_offset = int(window["offset"][-1]) + 1024
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    spool.close()

    assert found == count
    assert peak < 24 * count

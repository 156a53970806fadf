"""What became of the disks of a VM between two points, by manifests made without our core."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ntxengine.compare import PointDifference, compare_points, region_windows
from ntxengine.compare.profile import Profile
from ntxengine.dataplane import differing
from ntxengine.dataplane.extents import ZERO, make
from ntxengine.errors import NotFoundError, OptionsError
from ntxengine.repository import Point, Repository
from ntxengine.repository.store import PointStore
from ntxengine.units import BLOCK_SIZE
from tests.repository.builders import (
    DISK,
    OTHER_DISK,
    OTHER_VM,
    VM,
    ModelDisk,
    Write,
    begin,
    capture,
    fill_disk,
    record_of,
)

SIZE = 10 * BLOCK_SIZE + 512


@pytest.fixture
def store(tmp_path: Path) -> PointStore:
    return PointStore.create(tmp_path / "a repository")


def add(store: PointStore, *disks: tuple[str, int, list[Write]]) -> Point:
    """Make a full point of disks with these bytes."""
    with begin(store, VM, None) as unfinished:
        entries = [
            fill_disk(unfinished, disk_id, ModelDisk(size), writes, f"scsi.{number}")
            for number, (disk_id, size, writes) in enumerate(disks)
        ]
        return unfinished.commit(record_of(unfinished, entries))


async def listed(store: PointStore, before: Point, after: Point) -> list[tuple[str, int, int, int]]:
    return [
        (part.disk.disk_id, *extent)
        async for part in region_windows(Repository(store), before, after)
        for extent in part.extents.tolist()
    ]


async def compared(store: PointStore, before: Point, after: Point, cells: int = 0) -> PointDifference:
    return await compare_points(Repository(store), before, after, cells=cells)


async def test_regions_and_bytes_are_counted_and_listed_and_what_is_zero_now_is_told_apart(store: PointStore) -> None:
    model = ModelDisk(SIZE)
    before = capture(store, model, [Write(0, 2 * BLOCK_SIZE, 1), Write(SIZE - 10, 10, 1)])
    after = capture(
        store, model, [Write(BLOCK_SIZE, BLOCK_SIZE, 0), Write(2 * BLOCK_SIZE, 7, 2), Write(SIZE - 9, 1, 3)]
    )

    (disk,) = (await compared(store, before, after, cells=11)).disks

    assert (disk.change, disk.regions, disk.bytes_differ, disk.bytes_zero) == (
        "changed",
        3,
        2 * BLOCK_SIZE + 512,
        BLOCK_SIZE,
    )
    assert await listed(store, before, after) == [
        (DISK, BLOCK_SIZE, BLOCK_SIZE, ZERO),
        (DISK, 2 * BLOCK_SIZE, BLOCK_SIZE, 0),
        (DISK, 10 * BLOCK_SIZE, 512, 0),
    ]
    assert [share > 0 for share in disk.cells] == [False, True, True, True] + [False] * 6 + [True]


async def test_disks_that_were_added_removed_resized_or_stayed_are_told(store: PointStore) -> None:
    one = [Write(0, BLOCK_SIZE, 1)]
    before = add(store, (DISK, 4 * BLOCK_SIZE, one), (OTHER_DISK, BLOCK_SIZE, one))
    new_disk = OTHER_DISK[:-1] + "9"
    after = add(store, (new_disk, 3 * BLOCK_SIZE, one), (DISK, 6 * BLOCK_SIZE, one))

    found = await compared(store, before, after)
    same = await compared(store, after, after)
    back = await compared(store, after, before)

    assert [(disk.disk.disk_id, disk.change, disk.is_resized, disk.bytes_differ) for disk in found.disks] == [
        (new_disk, "added", False, BLOCK_SIZE),
        (DISK, "changed", True, 0),
        (OTHER_DISK, "removed", False, 0),
    ]
    assert {disk.change for disk in same.disks} == {"same"}
    assert [disk.change for disk in back.disks] == ["changed", "added", "removed"]


async def test_a_disk_that_only_the_earlier_point_has_can_be_named(store: PointStore) -> None:
    before = add(store, (DISK, BLOCK_SIZE, []), (OTHER_DISK, BLOCK_SIZE, []))
    after = add(store, (DISK, BLOCK_SIZE, []))

    (disk,) = (await compare_points(Repository(store), before, after, disks=("scsi.1",))).disks

    assert (disk.change, disk.disk.disk_id) == ("removed", OTHER_DISK)
    with pytest.raises(NotFoundError, match="no disk"):
        await compare_points(Repository(store), before, after, disks=("scsi.7",))


async def test_two_vms_are_not_compared(store: PointStore) -> None:
    point = capture(store, ModelDisk(4096))

    with pytest.raises(OptionsError, match="two points of one VM"):
        await compared(store, point, dataclasses.replace(point, vm_id=OTHER_VM))
    with pytest.raises(OptionsError, match="cells"):
        await compared(store, point, point, cells=5000)


async def test_a_disk_whose_manifest_is_damaged_keeps_no_other_from_being_compared(store: PointStore) -> None:
    one = [Write(0, 512, 1)]
    before = add(store, (DISK, BLOCK_SIZE, []), (OTHER_DISK, BLOCK_SIZE, []))
    after = add(store, (DISK, BLOCK_SIZE, one), (OTHER_DISK, BLOCK_SIZE, one))
    path = before.manifest_path(before.disks[0])
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    found = await compared(store, before, after)

    assert "manifest is damaged" in found.disks[0].problem
    assert (found.disks[1].problem, found.disks[1].bytes_differ) == ("", BLOCK_SIZE)


async def test_no_image_is_opened(store: PointStore) -> None:
    model = ModelDisk(SIZE)
    before = capture(store, model, [Write(0, 512, 1)])
    after = capture(store, model, [Write(0, 512, 2)])
    for point in (before, after):
        point.image_path(point.disks[0]).unlink()

    assert (await compared(store, before, after)).bytes_differ == BLOCK_SIZE


async def test_a_region_that_goes_on_in_the_next_window_is_one(
    store: PointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(differing, "WINDOW", 2)
    model = ModelDisk(SIZE)
    before = capture(store, model)
    after = capture(store, model, [Write(BLOCK_SIZE, 4 * BLOCK_SIZE, 1), Write(6 * BLOCK_SIZE, BLOCK_SIZE, 1)])

    (disk,) = (await compared(store, before, after)).disks

    assert (disk.regions, disk.bytes_differ) == (2, 5 * BLOCK_SIZE)
    assert await listed(store, before, after) == [
        (DISK, BLOCK_SIZE, 4 * BLOCK_SIZE, 0),
        (DISK, 6 * BLOCK_SIZE, BLOCK_SIZE, 0),
    ]


def windows_of(differs: np.ndarray, chance: random.Random) -> Iterator[list[tuple[int, int, int]]]:
    """Yield runs of bytes that differ, some in two windows."""
    window: list[tuple[int, int, int]] = []
    for at in np.flatnonzero(differs).tolist():
        if window and sum(window[-1][:2]) == at:
            window[-1] = (window[-1][0], window[-1][1] + 1, 0)
        else:
            window.append((at, 1, 0))
        if chance.random() < 0.05:
            yield window
            window = []
    if window:
        yield window


@pytest.mark.parametrize("seed", range(20))
def test_a_cell_has_the_share_of_its_bytes_that_differs(seed: int) -> None:
    chance = random.Random(seed)
    size, cells = chance.randrange(1, 400), chance.randrange(1, 90)
    differs = np.array([chance.random() < 0.7 for _ in range(size)])
    profile = Profile(size, cells)

    for window in windows_of(differs, chance):
        profile.add(make(window))

    edges = np.linspace(0, size, cells + 1).astype(int)
    parts = [differs[begin:end] for begin, end in itertools.pairwise(edges)]
    assert profile.shares() == pytest.approx([part.mean() if len(part) else 0 for part in parts])
    assert profile.bytes_differ == differs.sum()
    assert profile.regions == np.count_nonzero(np.diff(differs.astype(int), prepend=0) == 1)

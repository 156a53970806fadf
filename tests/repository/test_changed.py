"""What changed in a disk since an older point: where its bytes differ, and nowhere else."""

from __future__ import annotations

import dataclasses

import pytest

from ntxengine.dataplane.extents import ZERO
from ntxengine.errors import NotFoundError, OptionsError, RepositoryError
from ntxengine.repository import Point, changed_extents
from ntxengine.repository.store import PointStore
from ntxengine.units import BLOCK_SIZE
from tests.repository.builders import DISK, OTHER_VM, ModelDisk, Write, capture

SIZE = 10 * BLOCK_SIZE + 512


async def changed(point: Point, disk: str = "scsi.0", since: Point | None = None) -> list[tuple[int, int, int]]:
    return [extent async for window in changed_extents(point, disk, since=since) for extent in window.tolist()]


@pytest.fixture
def points(repository: PointStore) -> list[Point]:
    """Three points: in full, two blocks written, and one of them and another one zeroed."""
    model = ModelDisk(SIZE)
    return [
        capture(repository, model, [Write(0, 2 * BLOCK_SIZE, 1), Write(SIZE - 10, 10, 1)]),
        capture(repository, model, [Write(3 * BLOCK_SIZE + 100, BLOCK_SIZE, 2)]),
        capture(repository, model, [Write(BLOCK_SIZE, BLOCK_SIZE, 0), Write(3 * BLOCK_SIZE, BLOCK_SIZE, 0)]),
    ]


async def test_a_point_differs_from_its_parent_where_it_was_written(points: list[Point]) -> None:
    assert await changed(points[1]) == [(3 * BLOCK_SIZE, 2 * BLOCK_SIZE, 0)]
    assert await changed(points[2], DISK) == [
        (BLOCK_SIZE, BLOCK_SIZE, ZERO),
        (3 * BLOCK_SIZE, BLOCK_SIZE, ZERO),
    ]


async def test_a_full_point_differs_from_nothing_where_it_is_not_zero(points: list[Point]) -> None:
    assert await changed(points[0]) == [(0, 2 * BLOCK_SIZE, 0), (10 * BLOCK_SIZE, 512, 0)]


async def test_any_two_points_of_a_vm_are_compared(points: list[Point]) -> None:
    assert await changed(points[2], since=points[0]) == [
        (BLOCK_SIZE, BLOCK_SIZE, ZERO),
        (4 * BLOCK_SIZE, BLOCK_SIZE, 0),
    ]
    assert await changed(points[0], since=points[0]) == []


async def test_what_cannot_be_compared_is_refused(points: list[Point]) -> None:
    with pytest.raises(NotFoundError, match="no disk"):
        await changed(points[1], "ide.7")
    with pytest.raises(OptionsError, match="of VM"):
        await changed(points[1], since=dataclasses.replace(points[0], vm_id=OTHER_VM))
    points[0].manifest_path(points[0].disks[0]).unlink()
    with pytest.raises(RepositoryError, match="manifest cannot be opened"):
        await changed(points[1])

"""Verifying finds what is wrong with a stored point, names it, and looks at the other disks all the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ntxengine.errors import NotFoundError, NtxError, OptionsError, RepositoryError
from ntxengine.events import DiskDone, Event, Progressed, Stage, StageBegan
from ntxengine.repository import Point, Repository
from ntxengine.repository.store import PointStore
from ntxengine.units import BLOCK_SIZE, MIB
from ntxengine.verify import verify_point, verify_points
from tests.repository.builders import DISK, OTHER_DISK, VM, ModelDisk, Write, begin, capture, fill_disk, record_of

SIZE = 2 * MIB + 512


@pytest.fixture
def chain(repository: PointStore) -> tuple[Point, Point]:
    """A full point and an increment, one disk."""
    model = ModelDisk(SIZE)
    full = capture(repository, model, [Write(0, MIB, 7), Write(SIZE - 512, 512, 9)])
    return full, capture(repository, model, [Write(5 * BLOCK_SIZE, 512, 8), Write(BLOCK_SIZE, BLOCK_SIZE, 0)])


def flip_bit_of_data(image: Path, value: int) -> None:
    """Flip one bit in the middle of a run of bytes of `value`, as it lies in the image."""
    data = bytearray(image.read_bytes())
    at = data.index(bytes([value]) * 512) + 200
    data[at] ^= 1
    image.chmod(0o600)
    image.write_bytes(data)


async def test_points_that_are_right_verify(repository: PointStore, chain: tuple[Point, Point]) -> None:
    for point in chain:
        verdict = await verify_point(Repository(repository), point)

        assert verdict.is_right
        assert verdict.disks[0].report is not None


async def test_a_single_flipped_bit_is_named_with_disk_and_offset(
    repository: PointStore, chain: tuple[Point, Point]
) -> None:
    full, increment = chain
    flip_bit_of_data(increment.image_path(increment.disk(DISK)), 8)

    verdict = await verify_point(Repository(repository), increment)

    assert not verdict.is_right
    assert verdict.disks[0].disk.label == "scsi.0"
    assert verdict.disks[0].offsets == (5 * BLOCK_SIZE,)
    assert f"offset {5 * BLOCK_SIZE}" in verdict.disks[0].problem
    assert (await verify_point(Repository(repository), full)).is_right


async def test_a_bit_flipped_below_is_found_in_every_point_that_still_shows_it(
    repository: PointStore, chain: tuple[Point, Point]
) -> None:
    full, increment = chain
    flip_bit_of_data(full.image_path(full.disk(DISK)), 9)

    for point in chain:
        verdict = await verify_point(Repository(repository), point)

        assert verdict.disks[0].offsets == (SIZE // BLOCK_SIZE * BLOCK_SIZE,)
    assert increment.parent_id == full.id


async def test_one_wrong_disk_does_not_hide_the_other(repository: PointStore) -> None:
    with begin(repository, VM, None) as unfinished:
        disks = [
            fill_disk(unfinished, disk_id, ModelDisk(SIZE), [Write(0, 512, value)], label)
            for disk_id, value, label in [(DISK, 3, "scsi.0"), (OTHER_DISK, 4, "scsi.1")]
        ]
        point = unfinished.commit(record_of(unfinished, disks))
    os.unlink(point.image_path(disks[0]))

    verdict = await verify_point(Repository(repository), point)

    assert [disk.is_right for disk in verdict.disks] == [False, True]
    assert "missing" in verdict.disks[0].problem
    assert (await verify_point(Repository(repository), point, disks=["scsi.1"])).is_right


async def test_damaged_manifest_is_a_problem_of_its_disk(repository: PointStore, chain: tuple[Point, Point]) -> None:
    path = chain[0].manifest_path(chain[0].disk(DISK))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)

    verdict = await verify_point(Repository(repository), chain[0])

    assert "manifest is damaged" in verdict.disks[0].problem


async def test_zeros_of_the_images_are_not_read(repository: PointStore) -> None:
    size = 64 * MIB
    model = ModelDisk(size)
    capture(repository, model, [Write(0, MIB, 7), Write(40 * MIB, MIB, 9)])
    increment = capture(repository, model, [Write(0, MIB, 0)])

    verdict = await verify_point(Repository(repository), increment)

    assert verdict.is_right
    assert verdict.disks[0].report is not None
    assert verdict.disks[0].report.bytes_done == size
    assert verdict.disks[0].report.bytes_read <= 2 * MIB


async def test_a_damaged_table_is_a_problem_of_its_disk(repository: PointStore, chain: tuple[Point, Point]) -> None:
    image = chain[0].image_path(chain[0].disk(DISK))
    data = bytearray(image.read_bytes())
    l1_table = int.from_bytes(data[40:48], "big")
    data[l1_table + 6] |= 2  # an address that is no whole cluster
    image.chmod(0o600)
    image.write_bytes(data)

    for point in chain:
        verdict = await verify_point(Repository(repository), point)

        assert not verdict.is_right
        assert "a damaged entry of the L1 table" in verdict.disks[0].problem


async def test_unknown_disk_is_not_found(repository: PointStore, chain: tuple[Point, Point]) -> None:
    with pytest.raises(NotFoundError):
        await verify_point(Repository(repository), chain[0], disks=["scsi.9"])


async def test_every_step_of_a_verification_is_told_and_of_what(
    repository: PointStore, chain: tuple[Point, Point]
) -> None:
    events: list[Event] = []
    flip_bit_of_data(chain[0].image_path(chain[0].disk(DISK)), 9)

    await verify_points(Repository(repository), [(point, ()) for point in chain], on_event=events.append)

    began = [event for event in events if isinstance(event, StageBegan)]
    assert [(event.stage, event.point_id, event.vm_name) for event in began] == [
        (Stage.VERIFY, point.id, point.vm_name) for point in chain
    ]
    for point in chain:
        (done,) = (event for event in events if isinstance(event, DiskDone) and event.point_id == point.id)
        assert (done.disk_id, done.disk_label) == (point.disks[0].disk_id, point.disks[0].label)
        assert done.problem
        told = [event for event in events if isinstance(event, Progressed) and event.point_id == point.id]
        assert told[-1].bytes_done == told[-1].bytes_total


@pytest.mark.parametrize("parallel", [0, -1])
async def test_no_disk_at_a_time_is_refused(repository: PointStore, chain: tuple[Point, Point], parallel: int) -> None:
    with pytest.raises(OptionsError, match="at least one disk"):
        await verify_point(Repository(repository), chain[0], parallel=parallel)


@pytest.mark.parametrize("kind", [StageBegan, Progressed, DiskDone])
@pytest.mark.parametrize("error", [RuntimeError("a defect"), RepositoryError("a callback's"), NtxError("the same")])
async def test_what_a_callback_raises_is_no_verdict(
    error: Exception, kind: type[Event], repository: PointStore, chain: tuple[Point, Point]
) -> None:
    def raise_it(event: Event) -> None:
        if isinstance(event, kind):
            raise error

    with pytest.raises(type(error)) as caught:
        await verify_points(Repository(repository), [(chain[1], ())], on_event=raise_it)

    assert caught.value is error

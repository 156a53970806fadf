"""Many points of one chain: what they share is read once, and what is wrong in it is told once; nothing is missed."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

from ntxengine.repository import Point, Repository
from ntxengine.repository.store import PointStore
from ntxengine.units import BLOCK_SIZE, MIB
from ntxengine.verify import DiskVerdict, verify_point, verify_points
from tests.repository.builders import DISK, OTHER_DISK, VM, ModelDisk, Write, begin, capture, fill_disk, record_of

SIZE = 2 * MIB + 512
LAST = SIZE // BLOCK_SIZE


def block(number: int, value: int) -> Write:
    return Write(number * BLOCK_SIZE, BLOCK_SIZE, value)


@pytest.fixture
def chain(repository: PointStore) -> list[Point]:
    """A base of 16 blocks and a tail; two blocks over it; one over that and one zeroed."""
    model = ModelDisk(SIZE)
    return [
        capture(repository, model, [Write(0, MIB, 1), Write(SIZE - 512, 512, 1)]),
        capture(repository, model, [block(1, 2), block(20, 2)]),
        capture(repository, model, [block(2, 3), block(3, 0)]),
    ]


def image_of(point: Point) -> Path:
    return point.image_path(point.disk(DISK))


def io(image: Path, *commands: str) -> None:
    """Change what an image holds as rot would: its manifest stays."""
    words = [word for command in commands for word in ("-c", command)]
    subprocess.run(["qemu-io", "-d", "unmap", "-f", "qcow2", *words, image], check=True, capture_output=True)


async def verdicts_of(repository: PointStore, points: Iterable[Point]) -> list[DiskVerdict]:
    verdicts = await verify_points(Repository(repository), [(point, [DISK]) for point in points])
    return [verdict.disks[0] for verdict in verdicts]


def bytes_read(verdicts: Sequence[DiskVerdict]) -> list[int]:
    return [0 if verdict.report is None else verdict.report.bytes_read for verdict in verdicts]


async def test_each_cluster_of_a_chain_is_read_once(repository: PointStore, chain: list[Point]) -> None:
    verdicts = await verdicts_of(repository, chain)

    assert [verdict.problem for verdict in verdicts] == ["", "", ""]
    assert bytes_read(verdicts) == [MIB + 512, 2 * BLOCK_SIZE, BLOCK_SIZE]


async def test_one_point_alone_is_read_whole(repository: PointStore, chain: list[Point]) -> None:
    verdict = await verify_point(Repository(repository), chain[2])

    assert bytes_read(verdict.disks) == [MIB + 512]


async def test_points_are_a_set_in_any_order_and_with_gaps(repository: PointStore, chain: list[Point]) -> None:
    verdicts = await verdicts_of(repository, [chain[2], chain[0]])

    assert [verdict.problem for verdict in verdicts] == ["", ""]
    assert bytes_read(verdicts) == [3 * BLOCK_SIZE, MIB + 512]


async def test_a_point_that_holds_nothing_itself_is_right(repository: PointStore, chain: list[Point]) -> None:
    model = ModelDisk(2 * BLOCK_SIZE)
    base = capture(repository, model, [Write(0, 2 * BLOCK_SIZE, 1)], on_top=False)

    verdicts = await verdicts_of(repository, [base, capture(repository, model)])

    assert [verdict.problem for verdict in verdicts] == ["", ""]
    assert bytes_read(verdicts) == [2 * BLOCK_SIZE, 0]


async def test_rot_below_is_told_once(repository: PointStore, chain: list[Point]) -> None:
    io(image_of(chain[0]), "write -P 9 64k 192k")  # blocks 1, 2, 3: the points above do not show them all

    base, middle, top = await verdicts_of(repository, chain)

    assert (base.wrong_blocks, base.offsets) == (3, (BLOCK_SIZE, 2 * BLOCK_SIZE, 3 * BLOCK_SIZE))
    assert middle.problem == f"wrong below, in point {chain[0].id}: 2 of 33 blocks"
    assert (middle.wrong_blocks, middle.offsets, middle.below_point_ids) == (0, (), (chain[0].id,))
    assert top.is_right


async def test_rot_of_several_points_is_told_where_it_is(repository: PointStore, chain: list[Point]) -> None:
    io(image_of(chain[0]), "write -P 9 512k 512", f"write -P 9 {SIZE - 512} 512")
    io(image_of(chain[1]), "write -P 9 64k 512")
    io(image_of(chain[2]), "write -P 9 128k 512")

    base, middle, top = await verdicts_of(repository, chain)

    assert base.offsets == (8 * BLOCK_SIZE, LAST * BLOCK_SIZE)
    assert (middle.offsets, middle.below_point_ids) == ((BLOCK_SIZE,), (chain[0].id,))
    assert (top.offsets, top.below_point_ids) == ((2 * BLOCK_SIZE,), (chain[1].id, chain[0].id))


async def test_data_that_became_zero_below_is_wrong_below(repository: PointStore, chain: list[Point]) -> None:
    io(image_of(chain[0]), "write -z 512k 64k")

    base, middle, top = await verdicts_of(repository, chain)

    assert base.offsets == (8 * BLOCK_SIZE,)
    for verdict in (middle, top):
        assert (verdict.offsets, verdict.below_point_ids) == ((), (chain[0].id,))


async def test_a_zero_cluster_over_right_data_is_wrong_where_it_is(repository: PointStore, chain: list[Point]) -> None:
    io(image_of(chain[1]), "write -z 512k 64k")

    base, middle, top = await verdicts_of(repository, chain)

    assert base.is_right
    assert (middle.offsets, middle.below_point_ids) == ((8 * BLOCK_SIZE,), ())
    assert (top.offsets, top.below_point_ids) == ((), (chain[1].id,))


async def test_a_cluster_that_is_lost_shows_what_is_below_and_is_wrong(repository: PointStore) -> None:
    model = ModelDisk(SIZE)
    base = capture(repository, model, [Write(0, MIB, 1)])
    model.apply([block(4, 7), block(5, 0)])
    poor = capture(repository, model)  # its manifest knows the change, its image does not

    verdicts = await verdicts_of(repository, [base, poor])

    assert verdicts[0].is_right
    assert (verdicts[1].offsets, verdicts[1].below_point_ids) == ((4 * BLOCK_SIZE, 5 * BLOCK_SIZE), ())


async def test_what_only_qemu_can_read_is_read_whole_and_what_is_on_top_of_it_is_not(
    repository: PointStore, chain: list[Point]
) -> None:
    image = image_of(chain[0])
    subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", image, image.with_name("packed")], check=True)
    image.with_name("packed").rename(image)

    verdicts = await verdicts_of(repository, chain)

    assert [verdict.problem for verdict in verdicts] == ["", "", ""]
    assert bytes_read(verdicts)[0] >= MIB
    assert bytes_read(verdicts)[1:] == [2 * BLOCK_SIZE, BLOCK_SIZE]


async def test_what_only_qemu_can_read_on_top_of_what_was_read_is_read_through_its_chain(
    repository: PointStore, chain: list[Point]
) -> None:
    image, below = image_of(chain[1]), chain[1].disk(DISK).backing
    packing = ["qemu-img", "convert", "-c", "-O", "qcow2", "-B", below, "-F", "qcow2", image, "packed"]
    subprocess.run(packing, check=True, cwd=image.parent)
    image.with_name("packed").rename(image)

    verdicts = await verdicts_of(repository, chain)

    assert [verdict.problem for verdict in verdicts] == ["", "", ""]
    assert bytes_read(verdicts)[1] >= MIB
    assert bytes_read(verdicts)[2] == BLOCK_SIZE


async def test_a_disk_that_grew_is_right(repository: PointStore, chain: list[Point]) -> None:
    with begin(repository, VM, chain[-1]) as unfinished:
        model = ModelDisk(SIZE + MIB, bytes([1]) * MIB)
        model.apply([block(1, 2), block(2, 3), block(3, 0), block(20, 2), Write(SIZE - 512, 512, 1), block(40, 5)])
        disk = fill_disk(unfinished, DISK, model, [block(40, 5)], "scsi.0")
        grown = unfinished.commit(record_of(unfinished, [disk]))

    verdicts = await verdicts_of(repository, [*chain, grown])

    assert [verdict.problem for verdict in verdicts] == [""] * 4


async def test_an_image_that_is_missing_below_is_told_once(repository: PointStore, chain: list[Point]) -> None:
    image_of(chain[0]).unlink()

    base, middle, top = await verdicts_of(repository, chain)

    assert str(image_of(chain[0])) in base.problem
    for verdict in (middle, top):
        assert verdict.problem == f"cannot be read below, in point {chain[0].id}"
        assert verdict.below_point_ids == (chain[0].id,)


async def test_a_point_that_is_gone_is_told_once(repository: PointStore, chain: list[Point]) -> None:
    chain[0].path.rename(chain[0].path.with_name("elsewhere"))

    middle, top = await verdicts_of(repository, chain[1:])

    assert middle.problem.startswith(f"cannot be read below, in point {chain[0].id}: {chain[0].path}: is missing")
    assert top.problem == f"cannot be read below, in point {chain[0].id}"
    assert middle.below_point_ids == top.below_point_ids == (chain[0].id,)


async def test_a_record_that_rotted_below_is_told_once(repository: PointStore, chain: list[Point]) -> None:
    file = chain[0].path / "point.json"
    file.write_bytes(file.read_bytes().replace(b"scsi.0", b"scsi.1"))

    base, middle, top = await verify_points(Repository(repository), [(point, ()) for point in chain])

    assert str(file) in base.problems[0]
    assert [verdict.disks[0].below_point_ids for verdict in (middle, top)] == [(chain[0].id,)] * 2


async def test_without_the_manifest_below_a_point_is_compared_with_its_own(
    repository: PointStore, chain: list[Point]
) -> None:
    chain[0].manifest_path(chain[0].disk(DISK)).write_bytes(b"rot")

    verdicts = await verdicts_of(repository, chain)

    assert "is not a manifest" in verdicts[0].problem
    assert [verdict.problem for verdict in verdicts[1:]] == ["", ""]
    assert bytes_read(verdicts)[1] > MIB


async def test_disks_are_told_apart(repository: PointStore) -> None:
    models = ModelDisk(SIZE), ModelDisk(SIZE)
    points = []
    for value in (1, 2):
        with begin(repository, VM, repository.newest(VM)) as unfinished:
            disks = [
                fill_disk(unfinished, DISK, models[0], [block(value, value)], "scsi.0"),
                fill_disk(unfinished, OTHER_DISK, models[1], [block(5, value)], "scsi.1", is_full=True),
            ]
            points.append(unfinished.commit(record_of(unfinished, disks)))
    io(points[0].image_path(points[0].disk(OTHER_DISK)), "write -P 9 320k 512")

    lower, upper = await verify_points(Repository(repository), [(point, ()) for point in points])

    assert [disk.offsets for disk in lower.disks] == [(), (5 * BLOCK_SIZE,)]
    assert [disk.problem for disk in upper.disks] == ["", ""]
    assert bytes_read(upper.disks) == [BLOCK_SIZE, BLOCK_SIZE]


def random_rot(dice: random.Random) -> str:
    unit = dice.choice([512, 4096, BLOCK_SIZE])
    offset = dice.randrange(SIZE // unit) * unit
    length = min(dice.randint(1, 4) * unit, SIZE - offset)
    return f"{dice.choice(['write -P 9', 'write -P 9', 'write -z', 'write -z -u', 'discard'])} {offset} {length}"


@pytest.mark.parametrize("seed", range(6))
async def test_together_and_alone_the_same_blocks_are_wrong(
    repository: PointStore, chain: list[Point], seed: int
) -> None:
    dice = random.Random(seed)
    if seed % 2:  # clusters that are parts of a block
        for point in chain[1:]:
            image, fine = image_of(point), point.path / "fine"
            backing = f"../{point.parent_id}/{image.name}"
            options = ["-O", "qcow2", "-o", "cluster_size=4k", "-B", backing, "-F", "qcow2"]
            subprocess.run(["qemu-img", "convert", *options, image, fine], check=True, cwd=point.path)
            fine.rename(image)
    for point in dice.sample(chain, 2):
        io(image_of(point), *(random_rot(dice) for _ in range(3)))

    together = await verdicts_of(repository, chain)
    alone = [(await verify_point(Repository(repository), point)).disks[0] for point in chain]

    for one, other in zip(together, alone, strict=True):
        assert blocks_of(one) == blocks_of(other)
    assert any(blocks_of(verdict) for verdict in together)


def blocks_of(verdict: DiskVerdict) -> list[int]:
    assert verdict.report is not None
    return sorted(np.concatenate([*verdict.wrong.values(), np.array([], dtype=np.int64)]).tolist())

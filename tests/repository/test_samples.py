"""Verifying by samples: they come to cover everything, find what is wrong, and know when the files are others."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from ntxengine.dataplane.extents import EXTENT, ZERO
from ntxengine.errors import OptionsError
from ntxengine.prune import PruneOptions, prune
from ntxengine.repository import Point, Repository
from ntxengine.repository.store import PointStore
from ntxengine.retention import forget_points
from ntxengine.units import BLOCK_SIZE, MIB
from ntxengine.verify import DiskVerdict, Sampled, Sampling, verify_point, verify_points
from ntxengine.verify.sampling import DataBlocks
from tests.repository.builders import DISK, VM, ModelDisk, Write, capture

SIZE = 4 * MIB + 512
DATA = 2 * MIB
"""Of these, and of the last 512 bytes, there is data: 33 blocks."""
BLOCKS = 33

ALL = Sampling(share=1.0)


@pytest.fixture
def point(repository: PointStore) -> Point:
    """A point on top of another, each with some of the data."""
    model = ModelDisk(SIZE)
    capture(repository, model, [Write(0, MIB, 7), Write(SIZE - 512, 512, 9)])
    return capture(repository, model, [Write(MIB // 2, DATA - MIB // 2, 8)])


async def sample(repository: PointStore, point: Point, sampling: Sampling) -> DiskVerdict:
    verdict = await verify_point(Repository(repository), point, sampling=sampling)
    (disk,) = verdict.disks
    return disk


def sampled(verdict: DiskVerdict) -> Sampled:
    assert verdict.sampled is not None
    return verdict.sampled


def flip(image: Path, at: int) -> None:
    """Flip a bit, and leave no trace: as a disk does it, not a program."""
    before = image.stat()
    image.chmod(0o600)
    with image.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << random.randrange(8)]))
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    image.chmod(stat.S_IMODE(before.st_mode))


def places_of_data(image: Path, values: bytes) -> list[int]:
    """Return where the clusters lie in an image that are full of one of these values."""
    data = image.read_bytes()
    starts = range(0, len(data) - 511, BLOCK_SIZE)
    return [
        start
        for start in starts
        if data[start] in values and data[start : start + 512] == data[start : start + 1] * 512
    ]


async def test_samples_come_to_cover_everything_and_read_nothing_twice(repository: PointStore, point: Point) -> None:
    seen = []
    for _ in range(4):
        verdict = await sample(repository, point, Sampling(share=0.25))
        assert verdict.is_right
        assert verdict.report is not None
        assert verdict.report.bytes_read <= 9 * BLOCK_SIZE
        seen.append(sampled(verdict))

    assert [each.blocks for each in seen] == [BLOCKS] * 4
    assert [each.blocks_sampled for each in seen] == [9] * 4
    assert [each.blocks_covered for each in seen] == [9, 18, 27, BLOCKS]
    assert [each.rounds for each in seen] == [0, 0, 0, 1]
    assert len({each.cursor.seed for each in seen}) == 1
    shares = [each.excluded_share or 0 for each in seen]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 1 / BLOCKS


async def test_100_of_100_flipped_bits_are_found(repository: PointStore, point: Point) -> None:
    dice = random.Random(16)
    chain = await Repository(repository).images(point, point.disk(DISK))
    # Of the lower image only what shows: the first half of the first MiB, and the end.
    shown = {chain[0]: places_of_data(chain[0], b"\x08"), chain[1]: places_of_data(chain[1], b"\x07")[:8]}
    found = 0
    for _ in range(100):
        image = dice.choice(list(shown))
        at = dice.choice(shown[image]) + dice.randrange(BLOCK_SIZE)
        was = image.read_bytes()[at]
        flip(image, at)

        verdict = await sample(repository, point, ALL)

        found += not verdict.is_right and verdict.wrong_blocks == 1
        image.chmod(0o600)
        with image.open("r+b") as file:
            file.seek(at)
            file.write(bytes([was]))
    assert found == 100
    assert (await sample(repository, point, ALL)).is_right


async def test_a_wrong_block_is_found_within_one_round_and_stays_found(repository: PointStore, point: Point) -> None:
    image = point.image_path(point.disk(DISK))
    flip(image, places_of_data(image, b"\x08")[5])

    verdicts = [await sample(repository, point, Sampling(share=0.1)) for _ in range(10)]

    found = [not verdict.is_right for verdict in verdicts]
    assert found.index(True) < 9
    assert all(found[found.index(True) :])
    offsets = {verdict.offsets for verdict in verdicts if not verdict.is_right}
    assert offsets == {(MIB // 2 + 5 * BLOCK_SIZE,)}
    assert sampled(verdicts[-1]).excluded_share is None
    assert "1 of the sampled blocks of 64 KiB" in verdicts[-1].problem


async def test_samples_begin_anew_when_a_file_of_the_chain_changes(repository: PointStore, point: Point) -> None:
    disk = point.disk(DISK)
    chain = await Repository(repository).images(point, disk)
    for path in (chain[0], chain[1], point.manifest_path(disk)):
        await sample(repository, point, Sampling(share=0.5))
        before = sampled(await sample(repository, point, Sampling(share=0.1)))
        assert before.blocks_covered > before.blocks_sampled

        os.utime(path, ns=(1, 1))
        after = sampled(await sample(repository, point, Sampling(share=0.1)))

        assert after.blocks_covered == after.blocks_sampled
        assert after.cursor.seed != before.cursor.seed


async def test_samples_begin_anew_when_an_image_is_put_back_with_the_times_of_its_copy(
    repository: PointStore, point: Point, tmp_path: Path
) -> None:
    image = point.image_path(point.disk(DISK))
    copy = tmp_path / "copy"
    shutil.copy2(image, copy)
    covered = sampled(await sample(repository, point, ALL)).blocks_covered
    flip(image, places_of_data(image, b"\x08")[0])

    with image.open("r+b") as file:  # as rsync --inplace --times does it
        file.write(copy.read_bytes())
    shutil.copystat(copy, image)
    after = sampled(await sample(repository, point, Sampling(share=0.1)))

    assert covered == BLOCKS
    assert (after.rounds, after.blocks_covered) == (0, after.blocks_sampled)


async def test_samples_of_a_point_begin_anew_when_others_were_merged_into_it(
    repository: PointStore, point: Point
) -> None:
    top = capture(repository, ModelDisk(SIZE), [Write(0, 512, 5)])
    for each in (point, top):
        assert sampled(await sample(repository, each, ALL)).blocks_covered
    below = repository.chain(point)[0]
    await forget_points(Repository(repository), [below.id])

    report = await prune(Repository(repository), [VM], options=PruneOptions(max_waste=0))

    assert [each.merge.point.id for each in report.vms[0].merged] == [point.id]
    for each in repository.points(VM):
        after = sampled(await sample(repository, each, Sampling(share=0.1)))
        assert (after.rounds, after.blocks_covered) == (0, after.blocks_sampled)
    kept = json.loads((repository.path / VM / "sampled.json").read_text())["disks"]
    assert {each["point_id"] for each in kept} == {point.id, top.id}


async def test_a_seed_gives_an_order_and_another_one_begins_anew(repository: PointStore, point: Point) -> None:
    some = [sampled(await sample(repository, point, Sampling(share=0.2, seed=seed))) for seed in (5, 5, 6, 6)]

    assert [each.cursor.seed for each in some] == [5, 5, 6, 6]
    assert [each.blocks_covered for each in some] == [7, 14, 7, 14]


async def test_a_point_is_sampled_by_itself(repository: PointStore, point: Point) -> None:
    lower = await Repository(repository).point(str(point.parent_id))
    await sample(repository, point, Sampling(share=0.5))

    verdicts = await verify_points(Repository(repository), [(lower, ()), (point, ())], sampling=Sampling(share=0.1))

    assert [sampled(each.disks[0]).blocks for each in verdicts] == [17, BLOCKS]
    assert [sampled(each.disks[0]).blocks_covered for each in verdicts] == [2, 17 + 4]


async def test_blocks_without_data_that_had_some_are_found_without_a_sample(
    repository: PointStore, point: Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataBlocks.__init__

    def lost(self: DataBlocks, clusters: np.ndarray, size: int) -> None:
        clusters = clusters.copy()
        clusters["flags"] |= np.where(clusters["offset"] == 0, ZERO, 0).astype(clusters["flags"].dtype)
        data(self, clusters, size)

    monkeypatch.setattr(DataBlocks, "__init__", lost)

    verdict = await sample(repository, point, Sampling(share=0.01))

    assert not verdict.is_right
    assert "have no data, and had some when captured: at offset 0" in verdict.problem


async def test_where_only_qemu_knows_the_clusters_all_blocks_are_sampled(
    repository: PointStore, point: Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ntxengine.images.open.WAYS", ())

    verdict = await sample(repository, point, ALL)

    assert verdict.is_right
    assert sampled(verdict).blocks == -(-SIZE // BLOCK_SIZE)


async def test_time_is_divided_and_what_is_left_goes_to_the_next(repository: PointStore, point: Point) -> None:
    lower = await Repository(repository).point(str(point.parent_id))
    times = iter(range(1_000_000))

    verdicts = await verify_points(
        Repository(repository),
        [(lower, ()), (point, ())],
        sampling=Sampling(seconds=60, clock=lambda: float(next(times))),
    )

    # 64 blocks are the first sweep of each: more than there are, and then there is nothing left.
    assert [sampled(each.disks[0]).rounds for each in verdicts] == [1, 1]
    verdicts = await verify_points(
        Repository(repository), [(point, ())], sampling=Sampling(seconds=1e-9, clock=lambda: float(next(times)))
    )
    assert sampled(verdicts[0].disks[0]).blocks_sampled == 0


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"format": "ntxengine-samples"}', b'{"format":"x","version":1,"disks":[]}']
)
async def test_a_damaged_record_is_a_warning_and_samples_begin_anew(
    repository: PointStore, point: Point, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await sample(repository, point, Sampling(share=0.5))
    (repository.path / VM / "sampled.json").write_bytes(content)

    with caplog.at_level(logging.WARNING):
        found = sampled(await sample(repository, point, Sampling(share=0.1)))

    assert found.blocks_covered == found.blocks_sampled == 4
    assert "samples begin anew" in caplog.text
    caplog.clear()
    assert sampled(await sample(repository, point, Sampling(share=0.1))).blocks_covered == 8
    assert not caplog.records


@pytest.mark.parametrize(
    "change", [{"blocks": 34}, {"position": -1}, {"seed": 2**32}, {"wrong": [2**63]}, {"wrong": [-1]}]
)
async def test_a_record_that_cannot_be_of_this_disk_is_not_believed(
    repository: PointStore, point: Point, change: dict[str, object]
) -> None:
    await sample(repository, point, Sampling(share=0.5))
    path = repository.path / VM / "sampled.json"
    document = json.loads(path.read_bytes())
    document["disks"][0].update(change)
    del document["check"]
    path.write_text(json.dumps(document))

    found = sampled(await sample(repository, point, Sampling(share=0.1)))

    assert found.blocks_covered == found.blocks_sampled == 4


async def test_a_digit_that_flipped_covers_nothing(
    repository: PointStore, point: Point, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be well-formed, and say that blocks were read which nobody has read."""
    await sample(repository, point, Sampling(share=0.5))
    path = repository.path / VM / "sampled.json"
    path.write_bytes(path.read_bytes().replace(b'"position": 17', b'"position": 37'))

    with caplog.at_level(logging.WARNING):
        found = sampled(await sample(repository, point, Sampling(share=0.1)))

    assert found.blocks_covered == found.blocks_sampled == 4
    assert "its checksum does not fit" in caplog.text


async def test_where_nothing_can_be_remembered_it_is_verified_all_the_same(
    repository: PointStore, point: Point, caplog: pytest.LogCaptureFixture
) -> None:
    (repository.path / VM / "sampled.json").mkdir()

    with caplog.at_level(logging.WARNING):
        verdict = await sample(repository, point, ALL)

    assert verdict.is_right
    assert "this one is not remembered" in caplog.text


async def test_what_is_known_of_points_that_are_gone_is_forgotten(repository: PointStore, point: Point) -> None:
    lower = await Repository(repository).point(str(point.parent_id))
    await sample(repository, lower, ALL)
    await sample(repository, point, ALL)
    point.path.rename(repository.path / "elsewhere")

    await sample(repository, lower, ALL)

    assert point.id not in (repository.path / VM / "sampled.json").read_text()
    assert lower.id in (repository.path / VM / "sampled.json").read_text()


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"share": 0.1, "seconds": 1.0},
        {"share": 0.0},
        {"share": 1.1},
        {"seconds": 0.0},
        {"share": 0.1, "seed": -1},
        {"share": 0.1, "seed": 2**32},
    ],
)
def test_a_sample_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionsError):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_blocks_of_clusters_smaller_and_larger_than_a_block() -> None:
    clusters = np.zeros(4, dtype=EXTENT)
    clusters["offset"] = [0, 32768, 5 * BLOCK_SIZE, 7 * BLOCK_SIZE]
    clusters["length"] = [32768, 4096, 2 * BLOCK_SIZE, BLOCK_SIZE]
    clusters["flags"] = [0, 0, 0, ZERO]

    data = DataBlocks(clusters, 8 * BLOCK_SIZE - 512)

    assert data.count == 3
    assert data.blocks(np.arange(3)).tolist() == [0, 5, 6]

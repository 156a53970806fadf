"""Merges on a file system whose files can share blocks: what is taken over as it is takes no room once more."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.images.choice import ImageOptions
from ntxengine.images.create import NewImage, create_image
from ntxengine.images.open import open_image
from ntxengine.prune import PruneOptions, prune
from ntxengine.repository import Repository
from ntxengine.repository.reading import hold
from ntxengine.repository.store import PointStore
from tests.prune.building import CLUSTER, History, by_qemu, check_everything, run
from tests.repository.builders import VM, Clock
from tests.support.power import PoweredDisk
from tests.support.servers import require

SIZE = 400 * CLUSTER + 512


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[PoweredDisk]:
    require("filefrag")
    disk = PoweredDisk(tmp_path, "xfs")
    try:
        yield disk
    finally:
        disk.close()


def history_on(folder: Path, image: ImageOptions) -> History:
    clock = Clock()
    store = PointStore.create(folder / "repo", clock=clock)
    return History(store, clock, random.Random(5), images=(image,), size=SIZE, resizes=0)


def bytes_shared(path: Path) -> int:
    """Return how much of a file is blocks that another has, too, as filefrag of e2fsprogs says."""
    run("sync", "-f", path)
    said = run("filefrag", "-v", "-b1", path)
    return sum(int(re.findall(r"\d+", line)[5]) for line in said.splitlines() if "shared" in line)


def bytes_data(path: Path) -> int:
    """Return how much data an image holds itself, by what qemu says."""
    said = subprocess.run(["qemu-img", "map", "-U", path], check=True, capture_output=True, text=True).stdout
    return sum(int(line.split()[1], 16) for line in said.splitlines() if line.endswith(str(path)))


def merge(history: History, *numbers: int) -> None:
    history.forget([history.points[number].id for number in numbers])
    report = asyncio.run(prune(Repository(history.store), [VM], options=PruneOptions(max_waste=0)))
    assert report.vms[0].problems == []


def merged_images(history: History) -> list[Path]:
    every = [point.image_path(disk) for point in history.store.points(VM) for disk in point.disks]
    return [path for path in every if ".g1." in path.name]


@pytest.mark.parametrize("writer", ["own", "qemu"])
def test_what_is_taken_over_as_it_is_shares_the_blocks_of_the_old_images(
    xfs: PoweredDisk, tmp_path: Path, writer: str
) -> None:
    history = history_on(xfs.path, ImageOptions() if writer == "own" else ImageOptions(writer="qemu"))
    for _ in range(5):
        history.capture()

    with hold([history.points[4]]):  # somebody reads, so that the old images stay
        merge(history, 0, 1, 3)
        shared = [(bytes_data(path), bytes_shared(path)) for path in merged_images(history)]

    assert len(shared) == 4
    # The last block, which fills no cluster, is written.
    assert all(data - CLUSTER <= common <= data for data, common in shared)
    assert sum(common for _, common in shared) > 20 * CLUSTER
    check_everything(history, tmp_path, is_over=False)
    merge(history)
    check_everything(history, tmp_path, points=2)
    assert [bytes_shared(path) for path in merged_images(history)] == [0, 0, 0, 0]


def test_what_is_compressed_is_written(xfs: PoweredDisk, tmp_path: Path) -> None:
    history = history_on(xfs.path, ImageOptions(zstd_level=1))
    for _ in range(3):
        history.capture()

    with hold([history.points[2]]):
        merge(history, 0, 1)
        shared = list(map(bytes_shared, merged_images(history)))

    assert shared == [0, 0]
    check_everything(history, tmp_path, is_over=False)


def test_what_is_shared_survives_a_power_cut(xfs: PoweredDisk, tmp_path: Path) -> None:
    history = history_on(xfs.path, ImageOptions())
    for _ in range(3):
        history.capture()
    merge(history, 0, 1)

    xfs.cut()

    check_everything(history, tmp_path, points=1)


async def test_images_of_another_file_system_are_written(xfs: PoweredDisk, tmp_path: Path) -> None:
    raw, old, new = tmp_path / "raw", tmp_path / "old.qcow2", xfs.path / "new.qcow2"
    raw.write_bytes(random.Random(1).randbytes(9 * CLUSTER + 512))
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, old)

    async with (
        open_image([old]) as source,
        create_image(NewImage(new, source.size), "qcow2", CopyOptions()) as image,
    ):
        image.device.share_clusters(source)
        report = await dataplane.copy(
            source, image.device, [dataplane.whole(source.size)], options=CopyOptions(target_is_zero=True)
        )
        await image.finish()

    assert report.bytes_stored == 10 * CLUSTER
    assert bytes_shared(new) == 0
    assert by_qemu(new, tmp_path) == raw.read_bytes()

"""Whoever reads a point while it is merged, or removed, reads what was captured; the next prune removes the rest."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from ntxengine import files
from ntxengine.errors import MachineError
from ntxengine.events import Event, StageBegan
from ntxengine.images.choice import ImageOptions
from ntxengine.prune import PruneOptions, VmPruned, prune
from ntxengine.repository import Repository, retention_file
from ntxengine.repository.reading import hold
from ntxengine.restore import restore
from ntxengine.verify import verify_points
from tests.prune import dying
from tests.prune.building import History, by_qemu, check_everything, run
from tests.repository.builders import VM
from tests.support.faulty import FaultyDisk

ROUNDS = int(os.environ.get("NTX_PRUNE_ROUNDS", "10"))
ALWAYS = PruneOptions(max_waste=0)


def pruned(history: History) -> VmPruned:
    return asyncio.run(prune(Repository(history.store), [VM], options=ALWAYS)).vms[0]


def test_what_somebody_reads_from_stays_until_the_next_prune(history: History, tmp_path: Path) -> None:
    points = [history.capture() for _ in range(4)]
    old = [history.store.images(points[3], disk) for disk in points[3].disks]
    history.forget([points[0].id, points[1].id])

    with closing(hold([points[3]])):
        report = pruned(history)

        assert {point.id for point in report.in_use} == {points[0].id, points[1].id}
        assert report.removed == ()
        assert all(path.exists() for chain in old for path in chain)
        check_everything(history, tmp_path)
    report = pruned(history)

    assert {point.id for point in report.removed} == {points[0].id, points[1].id}
    check_everything(history, tmp_path, points=2, with_forgotten=True)


def test_a_point_that_cannot_be_held_is_not_read_as_if_it_were(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [history.capture() for _ in range(3)]
    opened, most = files.open_regular, 2

    def open_few(path: Path, flags: int = os.O_RDONLY, mode: int = 0) -> int:
        nonlocal most
        if path.suffix == ".manifest" and (most := most - 1) < 0:
            raise OSError(errno.EMFILE, "Too many open files", str(path))
        return opened(path, flags, mode)

    monkeypatch.setattr(files, "open_regular", open_few)

    with pytest.raises(MachineError, match=r"ulimit -n"):
        hold([points[2]])


async def test_a_qemu_that_has_an_old_image_open_goes_on_reading_it(history: History, tmp_path: Path) -> None:
    points = [await asyncio.to_thread(history.capture) for _ in range(4)]
    history.forget([points[0].id, points[1].id])
    repository = Repository(history.store)
    disk = points[2].disks[1]

    async with repository.serve(points[2], disk) as server:
        report = (await prune(repository, [VM], options=ALWAYS)).vms[0]

        assert report.problems == []
        assert report.removed == ()
        held = await asyncio.to_thread(by_qemu, server.uri, tmp_path)
        assert held[: disk.size] == history.held[points[2].id, disk.disk_id]
    report = (await prune(repository, [VM], options=ALWAYS)).vms[0]

    assert len(report.removed) == 2
    await asyncio.to_thread(check_everything, history, tmp_path, points=2, with_forgotten=True)


async def test_points_are_captured_verified_and_pruned_at_the_same_time(history: History, tmp_path: Path) -> None:
    chance = random.Random(5)
    repository = Repository(history.store)
    for _ in range(4):
        await asyncio.to_thread(history.capture)
    verified = 0
    done = asyncio.Event()

    async def keep_verifying() -> None:
        nonlocal verified
        while not done.is_set():
            points = await repository.points(VM)
            for verdict in await verify_points(repository, [(point, ()) for point in points], on_event=quiet):
                if not verdict.is_right:  # one that was pruned before it was read is gone as a whole
                    assert not verdict.point.path.exists(), verdict
                verified += verdict.is_right

    async with asyncio.TaskGroup() as group:
        group.create_task(keep_verifying())
        for _ in range(ROUNDS):
            await asyncio.to_thread(history.capture)
            there = [point.id for point in await repository.points(VM)]
            history.forget([each for each in there[:-1] if chance.random() < 0.3])
            report = (await prune(repository, [VM], options=ALWAYS, on_event=quiet)).vms[0]
            assert report.problems == []
        done.set()

    assert verified > 0
    assert (await prune(repository, [VM], options=ALWAYS)).vms[0].in_use == ()
    await asyncio.to_thread(check_everything, history, tmp_path)


def quiet(event: Event) -> None:
    del event


@pytest.mark.parametrize("damaged", ["point.json", "retention.json"])
def test_nothing_is_pruned_where_it_is_not_known_what_is_needed(history: History, damaged: str) -> None:
    points = [history.capture() for _ in range(3)]
    history.forget([points[0].id])
    file = points[0].path / damaged if damaged == "point.json" else points[0].path.parent / damaged
    file.write_bytes(file.read_bytes()[:-10])

    report = pruned(history)

    assert str(file) in report.problem
    assert "\n" not in report.problem
    assert all(point.path.exists() for point in points)


def test_a_point_whose_data_below_are_damaged_does_not_take_them_over(history: History) -> None:
    history.images = (ImageOptions(),)
    points = [history.capture() for _ in range(3)]
    history.forget([points[0].id])
    shown = json.loads(run("qemu-img", "map", "--output=json", points[1].image_path(points[1].disks[1])))
    place = next(each["offset"] for each in shown if each["depth"] == 1 and each["data"])
    with points[0].image_path(points[0].disks[1]).open("r+b") as file:
        file.seek(place)
        file.write(b"not what was captured")

    report = pruned(history)

    assert len(report.problems) == 1
    assert points[1].id in report.problems[0]
    assert report.removed == ()
    assert points[0].path.exists()
    assert history.store.points(VM) == points[1:]


def test_what_is_not_worth_it_yet_is_put_off(history: History, tmp_path: Path) -> None:
    points = [history.capture() for _ in range(4)]
    history.forget([points[0].id])

    report = asyncio.run(prune(Repository(history.store), [VM], options=PruneOptions(max_waste=1))).vms[0]

    assert [each.put_off for each in report.merged] == [True]
    assert report.removed == ()
    assert retention_file.read(points[0].path.parent).is_forgotten(points[0].id)
    check_everything(history, tmp_path, points=3)


def test_a_whole_chain_that_is_forgotten_goes_without_a_byte_written(history: History, tmp_path: Path) -> None:
    old = [history.capture() for _ in range(3)]
    history.capture(full=True)
    history.forget([point.id for point in old])

    report = pruned(history)

    assert report.merged == ()
    assert {point.id for point in report.removed} == {point.id for point in old}
    assert not (old[0].path.parent / "retention.json").exists()
    check_everything(history, tmp_path, points=1, with_forgotten=True)


def test_a_dry_run_changes_nothing(history: History) -> None:
    points = [history.capture() for _ in range(4)]
    history.forget([points[0].id, points[1].id])
    before = sorted(path.stat().st_mtime_ns for path in points[0].path.parent.rglob("*"))

    report = asyncio.run(prune(Repository(history.store), [VM], options=ALWAYS, dry_run=True)).vms[0]

    assert [each.merge.point.id for each in report.merged] == [points[2].id]
    assert report.merged[0].cost.bytes_freed > 0
    assert {point.id for point in report.removed} == {points[0].id, points[1].id}
    assert sorted(path.stat().st_mtime_ns for path in points[0].path.parent.rglob("*")) == before


async def test_a_restore_goes_on_though_its_point_is_merged_meanwhile(history: History, tmp_path: Path) -> None:
    points = [await asyncio.to_thread(history.capture) for _ in range(4)]
    history.forget([points[0].id, points[1].id])
    repository = Repository(history.store)
    reports: list[VmPruned] = []
    began = asyncio.Event()

    def pruning(event: Event) -> None:
        if isinstance(event, StageBegan):
            began.set()

    async def prune_meanwhile() -> None:
        await began.wait()
        reports.extend((await prune(repository, [VM], options=ALWAYS, on_event=quiet)).vms)

    async with asyncio.TaskGroup() as group:
        group.create_task(prune_meanwhile())
        report = await restore(repository, points[3], tmp_path / "restored", on_event=pruning)

    assert reports[0].problems == []
    for each in report.disks:
        assert each.path is not None
        assert each.path.read_bytes() == history.held[points[3].id, each.disk.disk_id]


def test_points_are_removed_where_a_file_keeps_a_name_until_it_is_closed(tmp_path: Path, history: History) -> None:
    points = [history.capture() for _ in range(4)]
    history.forget([points[0].id, points[1].id])
    with FaultyDisk(tmp_path, keeps_open=True) as disk:
        shutil.copytree(history.store.path, disk.folder / "repo")
        folder = disk.path / "repo" / VM
        manifest = points[0].manifest_path(points[0].disks[0]).name

        with open(folder / points[0].id / manifest, "rb"):
            first = dying.prune_at(disk.path / "repo").vms[0]
        left = [path.name for path in folder.glob(".removed-*")]
        second = dying.prune_at(disk.path / "repo").vms[0]

        assert [*first.problems, *second.problems] == []
        assert {point.id for point in first.removed} == {points[0].id, points[1].id}
        assert left == [f".removed-{points[0].id}"]
        assert list(folder.glob(".removed-*")) == []

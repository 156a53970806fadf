"""A second repository gets the points that it lacks, each disk of them, whatever either has forgotten meanwhile."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest

from ntxengine.check import check_repository
from ntxengine.dataplane import checkpoints, journal
from ntxengine.errors import OptionsError
from ntxengine.events import Event, PointCommitted, Progressed, Stage, StageBegan
from ntxengine.images.choice import ImageOptions
from ntxengine.prune import PruneOptions, prune
from ntxengine.repository import Distrust, Hold, PointRetention, Repository, Severity, retention_file
from ntxengine.repository.distrust import add as add_marks
from ntxengine.repository.distrust import read as read_marks
from ntxengine.repository.rewrite import rewrite
from ntxengine.repository.store import PointStore
from ntxengine.sweep import sweep
from ntxengine.sync import SyncOptions, SyncReport, sync, workflow
from ntxengine.units import MIB
from tests.prune.building import History, check_everything, restored
from tests.repository.builders import VM, Clock

ROUNDS = int(os.environ.get("NTX_PRUNE_ROUNDS", "3"))


@pytest.fixture
def history(tmp_path: Path) -> History:
    clock = Clock()
    return History(PointStore.create(tmp_path / "repo", clock=clock), clock, random.Random(9))


@pytest.fixture
def there(tmp_path: Path, history: History) -> History:
    """The other repository, of the same VM."""
    store = PointStore.create(tmp_path / "the other one", clock=history.clock)
    return dataclasses.replace(history, store=store, held=history.held)


def synced(history: History, there: History, *, dry_run: bool = False) -> SyncReport:
    return asyncio.run(sync(Repository(history.store), Repository(there.store), [VM], dry_run=dry_run))


def pruned(history: History, forgotten: Sequence[str]) -> None:
    history.forget(forgotten)
    report = asyncio.run(prune(Repository(history.store), [VM], options=PruneOptions(max_waste=0)))
    assert report.vms[0].problems == []


def ids(history: History) -> list[str]:
    return [point.id for point in history.store.points(VM)]


def test_points_are_copied_and_only_those_that_are_missing(history: History, there: History, tmp_path: Path) -> None:
    for _ in range(3):
        history.capture()

    first = synced(history, there)
    history.capture()
    second = synced(history, there)
    third = synced(history, there)

    assert [len(report.vms[0].points) for report in (first, second, third)] == [3, 1, 0]
    assert [report.vms[0].problems for report in (first, second, third)] == [[], [], []]
    assert third.vms[0].present == 4
    assert ids(there) == ids(history)
    assert [point.kind for point in there.store.points(VM)] == ["full", *["incremental"] * 3]
    check_everything(there, tmp_path, points=4)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_each_repository_keeps_what_it_wants(history: History, there: History, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(3):
        for _ in range(3):
            history.capture()
        report = synced(history, there)
        assert report.vms[0].problems == []
        assert set(ids(history)) <= set(ids(there))
        pruned(history, [each for each in ids(history)[:-1] if chance.random() < 0.4])
        pruned(there, [each for each in ids(there)[:-1] if chance.random() < 0.4])

    assert synced(history, there).vms[0].problems == []

    assert set(ids(history)) <= set(ids(there))
    check_everything(there, tmp_path)
    check_everything(history, tmp_path, by_us=True)


def test_tags_holds_and_distrust_go_with_a_point(history: History, there: History) -> None:
    first, second = history.capture(), history.capture()
    folder, other = first.path.parent, there.store.path / VM
    hold = Hold(datetime(2027, 1, 1, tzinfo=UTC), "audit")
    retention_file.change(folder, lambda found: found.tag(first.id, ["release"]).hold(second.id, hold))
    synced(history, there)
    mark = Distrust(first.id, first.disks[0].disk_id, "scsi.0", second.id, datetime(2026, 11, 24, tzinfo=UTC), (0,))
    add_marks(folder, [mark])

    synced(history, there)

    assert retention_file.read(other).of(first.id).tags == ("release",)
    assert retention_file.read(other).of(second.id).hold == hold
    assert read_marks(other) == (mark,)


def test_a_sync_that_is_interrupted_goes_on(history: History, there: History, tmp_path: Path) -> None:
    history.images = (ImageOptions(),)
    for _ in range(3):
        history.capture()

    class Stopped(Exception):
        pass

    for seen in range(12):
        left = seen

        def stop(event: Event) -> None:
            nonlocal left
            if isinstance(event, StageBegan):
                left -= 1
                if left < 0:
                    raise Stopped

        try:
            asyncio.run(sync(Repository(history.store), Repository(there.store), [VM], on_event=stop))
        except Stopped:
            continue
        break

    assert synced(history, there).vms[0].problems == []
    check_everything(there, tmp_path, points=3)
    assert list((there.store.path / VM).glob(".unfinished-*")) == []


@pytest.mark.parametrize("lost", ["", ".qcow2", ".qcow2.map", ".journal"])
def test_a_disk_goes_on_where_it_got_to_or_begins_anew(
    history: History, there: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    monkeypatch.setattr(checkpoints, "DUE_S", 0.0)
    monkeypatch.setattr(checkpoints, "_SELDOMER", 0)
    history.images = (ImageOptions(),)
    point = history.capture()
    disk = point.disks[0]
    slow = SyncOptions(parallel=1, bandwidth=MIB)

    class Stopped(Exception):
        pass

    def stop(event: Event) -> None:
        if isinstance(event, Progressed) and (there.store.path / VM / f".unfinished-{point.id}" / kept).exists():
            raise Stopped

    kept = f"disk-{disk.disk_id}.journal"
    with pytest.raises(Stopped):
        asyncio.run(sync(Repository(history.store), Repository(there.store), [VM], options=slow, on_event=stop))
    found = journal.read(there.store.path / VM / f".unfinished-{point.id}" / kept)
    kept_by_sweep = [each.id for each in asyncio.run(sweep(None, Repository(there.store))).resumable]
    if lost:
        (there.store.path / VM / f".unfinished-{point.id}" / f"disk-{disk.disk_id}{lost}").write_bytes(b"lost")
    read: dict[str, int] = {}

    def count(event: Event) -> None:
        if isinstance(event, Progressed) and event.stage is Stage.COPY:
            read[event.disk_id] = event.bytes_read

    report = asyncio.run(sync(Repository(history.store), Repository(there.store), [VM], on_event=count))

    assert found is not None
    assert found.stored_to > 0
    assert kept_by_sweep == [point.id]
    assert report.vms[0].problems == []
    assert lost or read[disk.disk_id] <= disk.size - found.stored_to
    check_everything(there, tmp_path, points=1)


def test_what_a_power_cut_left_of_a_try_is_in_nobodys_way(history: History, there: History, tmp_path: Path) -> None:
    point = history.capture()
    unfinished = there.store.path / VM / f".unfinished-{point.id}"
    unfinished.mkdir(parents=True)
    for name in (
        "probe",
        "probe-renamed",
        "point.json",
        "SHA256SUMS",
        "vm.json",
        f"disk-{point.disks[0].disk_id}.qcow2",
    ):
        (unfinished / name).touch()

    assert synced(history, there).vms[0].problems == []

    check_everything(there, tmp_path, points=1)


def test_a_damaged_point_does_not_keep_the_others_from_being_copied(
    history: History, there: History, tmp_path: Path
) -> None:
    points = [history.capture(full=True) for _ in range(3)]
    image = points[1].image_path(points[1].disks[1])
    image.write_bytes(image.read_bytes()[:4096])

    report = synced(history, there)

    (problem,) = report.vms[0].problems
    assert points[1].id in problem
    assert "\n" not in problem
    assert ids(there) == [points[0].id, points[2].id]
    check_everything(there, tmp_path, points=2)


def test_of_a_point_that_could_not_be_copied_nothing_is_said_there(history: History, there: History) -> None:
    points = [history.capture(full=True) for _ in range(2)]
    retention_file.change(
        points[0].path.parent, lambda found: found.hold(points[0].id, Hold()).tag(points[1].id, ["x"])
    )
    image = points[0].image_path(points[0].disks[1])
    image.write_bytes(image.read_bytes()[:4096])

    report = synced(history, there)

    assert [points[0].id in each for each in report.vms[0].problems] == [True]
    assert retention_file.read(there.store.path / VM).points == {points[1].id: PointRetention(("x",))}
    assert asyncio.run(check_repository(there.store.path)).of(Severity.DAMAGE) == []


def test_a_point_that_holds_something_else_there_is_refused(history: History, there: History) -> None:
    first = history.capture()
    synced(history, there)
    other = there.store.points(VM)[0]
    disks = (dataclasses.replace(other.disks[0], digest=first.disks[1].digest), *other.disks[1:])
    rewrite(dataclasses.replace(other, disks=disks))

    report = synced(history, there)

    assert "holds other disks" in report.vms[0].problem


def test_a_repository_is_not_copied_to_itself(history: History, tmp_path: Path) -> None:
    history.capture()
    link = tmp_path / "link"
    link.symlink_to(history.store.path)

    with pytest.raises(OptionsError, match="is the repository itself"):
        asyncio.run(sync(Repository(history.store), Repository(PointStore.open(link)), [VM]))


def test_a_dry_run_copies_nothing(history: History, there: History) -> None:
    history.capture()

    report = synced(history, there, dry_run=True)

    assert len(report.vms[0].points) == 1
    assert list(there.store.path.glob(f"{VM}*")) == []


def test_a_chain_there_gets_no_longer_than_it_may(
    history: History, there: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "MAX_CHAIN", 2)
    for number in range(4):
        history.capture(full=number == 2)

    report = synced(history, there)

    assert report.vms[0].problems == []
    points = there.store.points(VM)
    assert [len(there.store.images(point, point.disks[0])) for point in points] == [1, 2, 1, 2]
    check_everything(there, tmp_path, points=4)


def test_nothing_is_put_on_top_of_a_point_that_is_damaged_there(
    history: History, there: History, tmp_path: Path
) -> None:
    history.capture()
    synced(history, there)
    damaged = there.store.points(VM)[0]
    damaged.image_path(damaged.disks[1]).unlink()
    history.capture()

    report = synced(history, there)

    assert report.vms[0].problems == []
    point = there.store.points(VM)[1]
    assert point.kind == "full"
    assert restored(there.store, point, point.disks[1], tmp_path) == history.held[point.id, point.disks[1].disk_id]


def test_a_hold_is_there_however_soon_a_sync_is_interrupted(history: History, there: History) -> None:
    first = history.capture()
    history.capture()
    hold = Hold(datetime(2027, 1, 1, tzinfo=UTC), "audit")
    retention_file.change(first.path.parent, lambda found: found.tag(first.id, ["release"]).hold(first.id, hold))

    class Stopped(Exception):
        pass

    def stop(event: Event) -> None:
        if isinstance(event, PointCommitted):
            raise Stopped

    with pytest.raises(Stopped):
        asyncio.run(sync(Repository(history.store), Repository(there.store), [VM], on_event=stop))
    assert ids(there) == [first.id]

    assert retention_file.read(there.store.path / VM).of(first.id) == PointRetention(("release",), hold)


async def test_a_point_that_is_pruned_meanwhile_is_no_failure(history: History, there: History) -> None:
    points = [await asyncio.to_thread(history.capture) for _ in range(3)]

    def prune_now(event: Event) -> None:
        if isinstance(event, PointCommitted) and event.point_id == points[0].id:
            thread = Thread(target=pruned, args=(history, [points[1].id]))
            thread.start()
            thread.join()

    report = await sync(Repository(history.store), Repository(there.store), [VM], on_event=prune_now)

    assert report.vms[0].problems == []
    assert await asyncio.to_thread(ids, there) == [points[0].id, points[2].id]


@pytest.mark.parametrize("name", ["retention.json", "distrusted.json"])
@pytest.mark.parametrize("dry_run", [True, False])
def test_nothing_is_copied_where_nobody_knows_what_is_said(
    history: History, there: History, name: str, dry_run: bool
) -> None:
    point = history.capture()
    (point.path.parent / name).write_bytes(b"{")

    report = synced(history, there, dry_run=dry_run)

    assert "none is copied" in report.vms[0].problem
    assert "put it back from a copy" in report.vms[0].problem
    assert ids(there) == []

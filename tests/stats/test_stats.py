"""What a repository takes, how fast it grows, and what finding that out costs."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ntxengine.errors import NotFoundError
from ntxengine.repository import DiskReport, Point, PointDisk, PointRecord, Repository, layout, retention_file, scan
from ntxengine.repository import catalog as catalog_of_points
from ntxengine.repository.point import encode
from ntxengine.repository.report import CaptureReport
from ntxengine.repository.store import PointStore
from ntxengine.stats import days_left, growth_per_day, repository_stats
from tests.repository.builders import DISK, OTHER_VM, VM

START = datetime(2026, 11, 1, 4, 15, tzinfo=UTC)
DAY = timedelta(days=1)


def add(store: PointStore, when: datetime, kib: int, *, vm_id: str = VM, sent: int | None = None) -> str:
    """Make the folder of a point of one disk, whose image takes so much; nobody looks into it."""
    point_id = f"{when:%Y%m%dT%H%M%SZ}-abcdef"
    folder = store.path / vm_id / point_id
    folder.mkdir(parents=True)
    disk = PointDisk(DISK, "scsi.0", 1024**3, layout.image_name(DISK), layout.manifest_name(DISK), "0" * 32)
    report = CaptureReport({DISK: DiskReport(bytes_sent=sent, bytes_stored=None if sent is None else sent // 2)})
    record = PointRecord(
        id=point_id,
        vm_id=vm_id,
        vm_name="db01",
        created_at=when,
        parent_id=None,
        kind="full",
        consistency_requested="auto",
        consistency_obtained="crash",
        tracking="full",
        tracking_reason="",
        recovery_point_id="x",
        recovery_point_disks={},
        disks=(disk,),
        report=report,
    )
    (folder / disk.file).write_bytes(os.urandom(1024) * kib)
    (folder / disk.manifest).write_bytes(b"x" * 4096)
    (folder / "point.json").write_bytes(encode(record))
    return point_id


def taken(path: Path) -> int:
    return sum(each.lstat().st_blocks * 512 for each in path.rglob("*") if not each.is_dir())


@pytest.fixture
def store(tmp_path: Path) -> PointStore:
    return PointStore.create(tmp_path / "a repository")


async def test_each_byte_is_counted_once_and_told_by_whose_it_is(store: PointStore) -> None:
    kept, forgotten, unreadable = (add(store, START + day * DAY, 64, sent=40_000) for day in range(3))
    (store.path / VM / unreadable / "point.json").write_text("{")
    (store.path / VM / ".unfinished-x").mkdir()
    (store.path / VM / ".unfinished-x" / "disk").write_bytes(b"x" * 8192)
    (store.path / VM / kept / layout.image_name(DISK, 2)).write_bytes(b"x" * 8192)
    retention_file.change(store.path / VM, lambda found: found.forget([forgotten], START))

    found = await repository_stats(Repository(store))

    (vm,) = found.vms
    assert vm.bytes_all == found.bytes_all == taken(store.path / VM)
    assert [point.bytes_own for point in vm.points] == [taken(store.path / VM / each) for each in (kept, forgotten)]
    assert vm.bytes_unreadable == taken(store.path / VM / unreadable)
    assert vm.bytes_unfinished == 8192
    assert vm.totals.bytes_forgotten == vm.points[1].bytes_own
    assert vm.totals.compression == 0.5
    assert vm.totals.reduction == 2 * 1024**3 / vm.totals.bytes_own
    assert (vm.points[0].bytes_captured, vm.points[0].bytes_stored) == (40_000, 20_000)


async def test_holes_take_nothing_and_what_no_report_says_is_unknown(store: PointStore) -> None:
    point_id = add(store, START, 0)
    os.truncate(store.path / VM / point_id / layout.image_name(DISK), 1024**4)

    (vm,) = (await repository_stats(Repository(store))).vms

    assert vm.points[0].bytes_own < 1024**2
    assert (vm.points[0].bytes_captured, vm.totals.compression, vm.per_day) == (None, None, None)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], None),
        ([(START, 900)], None),
        ([(START, 900), (START + timedelta(hours=23), 5)], None),
        ([(START, 900), (START + DAY, 5)], 5),
        ([(START, 900), (START + DAY, 6), (START + 2 * DAY, 4)], 5),
        ([(START, 900), (START + 60 * DAY, 900), (START + 62 * DAY, 10)], 5),
        ([(START, 900), (START + 60 * DAY, 10)], None),
        ([(START + DAY, 900), (START, 10)], None),
        ([(START, 900), (START + 4 * DAY, 0)], 0),
    ],
)
def test_growth_is_what_points_of_the_last_30_days_added_by_the_days_between_them(
    points: list[tuple[datetime, int]], expected: float | None
) -> None:
    assert growth_per_day(points) == expected


def test_days_left_are_unknown_where_growth_is_or_nothing_grows() -> None:
    assert days_left(100, 5) == 20
    assert days_left(100, None) is None
    assert days_left(100, 0) is None


async def test_growth_is_of_all_vms_of_which_it_is_known_and_one_vm_has_no_days_left(store: PointStore) -> None:
    for day in range(3):
        add(store, START + day * DAY, 64)
    add(store, START, 64, vm_id=OTHER_VM)

    every = await repository_stats(Repository(store))
    one = await repository_stats(Repository(store), VM)

    assert every.per_day == one.per_day == one.vms[0].per_day
    assert every.days_left == every.bytes_free / (every.per_day or 1)
    assert one.days_left is None
    assert [vm.per_day is None for vm in every.vms] == [False, True]


async def test_a_vm_that_is_not_here_is_not_found(store: PointStore) -> None:
    with pytest.raises(NotFoundError):
        await repository_stats(Repository(store), VM)


async def test_what_cannot_be_told_of_forgotten_points_is_said(store: PointStore) -> None:
    add(store, START, 1)
    (store.path / VM / "retention.json").write_text("{")

    (vm,) = (await repository_stats(Repository(store))).vms

    assert "retention.json" in vm.retention_problem
    assert len(vm.points) == 1


async def test_of_300_points_each_folder_is_read_once_and_no_point_json(
    store: PointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        add(store, START + number * timedelta(hours=1), 1)
    assert len(store.points()) == 300  # all of them are in the catalog now
    scanned: list[str] = []
    read: list[Path] = []
    scandir, read_point = os.scandir, scan.read_point

    def watched_scandir(path: str | Path) -> object:
        scanned.append(str(path))
        return scandir(path)

    def watched_read(folder: Path, **options: bool) -> tuple[Point, catalog_of_points.Row]:
        read.append(folder)
        return read_point(folder, **options)

    monkeypatch.setattr(os, "scandir", watched_scandir)
    monkeypatch.setattr(scan, "read_point", watched_read)

    found = await repository_stats(Repository(store))

    of_points = [path for path in scanned if layout.is_point_id(Path(path).name)]
    assert len(found.vms[0].points) == 300
    assert len(of_points) == len(set(of_points)) == 300
    assert len(scanned) < 310
    assert read == []

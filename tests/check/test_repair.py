"""What is mended, that it is said before, and that nothing else is touched."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ntxengine.check import RepairReport, check_repository, repair_repository
from ntxengine.errors import RepositoryError
from ntxengine.files.locks import FLOCK
from ntxengine.repository import Point, interrupted, layout
from ntxengine.repository.catalog import Key, Row
from ntxengine.repository.lock import VmLock
from ntxengine.repository.reading import hold
from ntxengine.repository.scan import Scan, scan
from ntxengine.repository.store import PointStore
from ntxengine.repository.structure import mend
from tests.check.damage import IMAGE, LEFTOVERS, NOW, other_generation, said, sql, state_of
from tests.repository.builders import VM, read_image
from tests.repository.test_interrupted import RESUME
from tests.support.servers import require_root

SIZE = 6 * 65536


async def repair(root: Path, **options: bool) -> RepairReport:
    return await repair_repository(root, clock=lambda: NOW, **options)


def outcomes(report: RepairReport) -> set[str]:
    return {each.outcome for each in report.repairs}


@pytest.mark.parametrize("what", [name for name in LEFTOVERS if name != "pruned point"])
async def test_what_was_left_is_mended_and_every_point_reads_as_before(
    root: Path, points: list[Point], what: str
) -> None:
    held = [read_image(point.image_path(point.disks[0]), SIZE) for point in points]
    LEFTOVERS[what][0](root, points)

    planned = await repair(root, dry_run=True)
    before = state_of(root)
    again = await repair(root, dry_run=True)
    untouched = state_of(root) == before
    done = await repair(root)

    assert outcomes(planned) == outcomes(again) == {"planned"}
    assert untouched
    assert outcomes(done) == {"done"}, done.repairs
    assert {each.finding.key() for each in done.repairs} == {each.finding.key() for each in planned.repairs}
    assert said(await check_repository(root, clock=lambda: NOW)) == []
    now = PointStore.open(root).points()
    assert [read_image(point.image_path(point.disks[0]), SIZE) for point in now] == held


async def test_what_is_told_of_pruned_points_is_dropped(root: Path, points: list[Point]) -> None:
    LEFTOVERS["pruned point"][0](root, points)

    done = await repair(root)

    assert outcomes(done) == {"done"}
    assert not (root / VM / "retention.json").exists()


async def test_a_name_that_plain_qemu_cannot_follow_is_put_right(root: Path, points: list[Point]) -> None:
    held = read_image(points[2].path / IMAGE, SIZE)
    other_generation(root, points, keep_old=False)

    done = await repair(root)

    assert (outcomes(done), done.remaining) == ({"done"}, [])
    assert read_image(points[2].path / IMAGE, SIZE) == held
    assert layout.image_name(points[0].disks[0].disk_id, 1) in _backing_chain(points[2].path / IMAGE)


def _backing_chain(image: Path) -> str:
    return subprocess.run(
        ["qemu-img", "info", "--backing-chain", str(image)], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize(
    "rot",
    [
        lambda root: (root / "catalog.sqlite").write_bytes(b"no database"),
        lambda root: sql(root, "UPDATE points SET document = CAST(replace(document, 'db01', 'db02') AS BLOB)"),
        lambda root: sql(root, "DROP TABLE points"),
    ],
)
async def test_a_rotten_catalog_is_made_anew(root: Path, points: list[Point], rot: Callable[[Path], object]) -> None:
    rot(root)

    done = await repair(root)

    assert [(each.finding.kind, each.outcome) for each in done.repairs] == [("catalog", "done")]
    assert said(await check_repository(root, clock=lambda: NOW)) == []
    assert PointStore.open(root).points() == points


async def test_what_is_to_be_mended_is_told_before_anything_is(root: Path, points: list[Point]) -> None:
    removed = root / VM / f".removed-{points[0].id}"
    removed.mkdir(0o700)
    seen: list[bool] = []

    await repair_repository(root, clock=lambda: NOW, on_plan=lambda report: seen.append(removed.exists()))

    assert (seen, removed.exists()) == ([True], False)


async def test_nothing_that_a_capture_can_go_on_with_is_removed(root: Path, points: list[Point]) -> None:
    kept, given_up = (root / VM / f".unfinished-2026112{day}T235900Z-abcdef" for day in (3, 4))
    for folder, expires_at in ((kept, NOW + timedelta(hours=1)), (given_up, NOW)):
        folder.mkdir(0o700)
        resume = replace(RESUME, vm_id=VM, point_id=layout.unfinished_id(folder), expires_at=expires_at)
        interrupted.write(folder, resume)
        (folder / f"{IMAGE}.map").touch(0o600)

    done = await repair(root)

    assert [each.finding.path for each in done.repairs] == [given_up]
    assert not given_up.exists()
    assert sorted(path.name for path in kept.iterdir()) == [f"{IMAGE}.map", "resume"]


async def test_an_image_that_may_be_needed_stays_and_that_is_said(root: Path, points: list[Point]) -> None:
    unused = points[0].path / layout.image_name(points[0].disks[0].disk_id, 7)
    unused.touch(0o600)
    capture = root / VM / ".unfinished-20261124T235900Z-abcdef"
    capture.mkdir(0o700)
    point_id, expires_at = layout.unfinished_id(capture), NOW + timedelta(hours=1)
    interrupted.write(
        capture, replace(RESUME, vm_id=VM, point_id=point_id, parent_id=points[0].id, expires_at=expires_at)
    )
    on_top = await repair(root)
    shutil.rmtree(capture)
    (points[2].path / "point.json").write_text("{")
    damaged = await repair(root)

    assert [each.problem for each in on_top.repairs] == [
        f"the interrupted capture {point_id} is on top of its point",
    ]
    assert [each.outcome for each in damaged.repairs] == ["failed"]
    assert "cannot be read" in damaged.repairs[0].problem
    assert [each.kind for each in damaged.remaining] == ["point"]
    assert unused.exists()


async def test_an_image_that_another_records_stays_though_one_beside_it_can_go(root: Path, points: list[Point]) -> None:
    other_generation(root, points)
    (points[0].path / layout.image_name(points[0].disks[0].disk_id, 7)).touch(0o600)
    recording = points[1].image_path(points[1].disks[0])

    with recording.open("r+b") as file:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))
        locked = await repair(root)
        assert (points[0].path / IMAGE).exists()
    free = await repair(root)

    assert outcomes(locked) == {"failed"}
    assert {each.problem for each in locked.repairs if each.finding.kind == "unused-image"} == {
        f"{recording} records {IMAGE}"
    }
    assert (outcomes(free), (points[0].path / IMAGE).exists()) == ({"done"}, False)


async def test_points_are_read_once_however_many_images_go(
    root: Path, points: list[Point], monkeypatch: pytest.MonkeyPatch
) -> None:
    for point in points:
        (point.path / layout.image_name(point.disks[0].disk_id, 7)).touch(0o600)
    looked: list[Path] = []

    def watched(root: Path, rows: Mapping[Key, Row], vm_id: str | None) -> Scan:
        looked.append(root)
        return scan(root, rows, vm_id)

    monkeypatch.setattr(mend, "scan", watched)

    done = await repair(root)

    assert [each.outcome for each in done.repairs] == ["done"] * 3
    assert len(looked) == 1


async def test_who_reads_a_point_keeps_its_images(root: Path, points: list[Point]) -> None:
    unused = points[0].path / layout.image_name(points[0].disks[0].disk_id, 7)
    unused.touch(0o600)

    with hold([points[0]]):
        report = await repair(root)
    after = await repair(root)

    assert [each.problem for each in report.repairs] == ["somebody reads from its point: try again when that has ended"]
    assert outcomes(after) == {"done"}
    assert not unused.exists()


async def test_a_vm_that_is_locked_meanwhile_is_left_alone(root: Path, points: list[Point]) -> None:
    removed = root / VM / f".removed-{points[0].id}"
    removed.mkdir(0o700)
    lock = VmLock(root / VM, "VM x")

    report = await repair_repository(root, clock=lambda: NOW, on_plan=lambda _: lock.acquire())
    lock.release()

    assert outcomes(report) == {"locked"}
    assert removed.exists()


async def test_what_only_a_person_can_mend_remains_and_is_not_touched(root: Path, points: list[Point]) -> None:
    (points[1].path / "vm.json").write_text("{}")
    (root / "ntx-repository.json").write_text("{")
    before = state_of(root)

    report = await repair(root)

    assert {each.kind for each in report.remaining} == {"file", "marker"}
    assert all(each.remedy for each in report.remaining)
    assert (report.repairs, state_of(root)) == ([], before)
    (root / VM / f".removed-{points[0].id}").mkdir(0o700)
    with pytest.raises(RepositoryError, match="adopt"):
        await repair(root)


async def test_a_read_only_repository_says_what_could_not_be_mended(
    root: Path, points: list[Point], tmp_path: Path
) -> None:
    require_root("a read-only mount")
    (root / VM / f".removed-{points[0].id}").mkdir(0o700)
    mount = tmp_path / "mount"
    mount.mkdir()
    subprocess.run(["mount", "--bind", root, mount], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", mount], check=True)
        report = await repair(mount)
    finally:
        subprocess.run(["umount", mount], check=True)

    assert [each.outcome for each in report.repairs] == ["failed"]
    assert "Read-only" in report.repairs[0].problem

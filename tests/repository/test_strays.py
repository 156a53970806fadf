"""Empty folders of VMs and markers of interrupted creations do not stay."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ntxengine.errors import LockedError
from ntxengine.events import Event, Removed, Stage, StageBegan
from ntxengine.repository import Repository, layout, site, strays
from ntxengine.repository.lock import VmLock
from ntxengine.repository.store import PointStore
from ntxengine.sweep import sweep
from tests.repository.builders import OTHER_VM, VM, ModelDisk, capture


def test_a_lock_leaves_no_folder_behind_in_which_nothing_was_made(repository: PointStore) -> None:
    with repository.lock(VM):
        assert (repository.path / VM / layout.LOCK_FILE).exists()

    assert not (repository.path / VM).exists()


def test_the_lock_of_a_folder_that_was_used_stays(repository: PointStore) -> None:
    capture(repository, ModelDisk(512))
    lock = repository.path / VM / layout.LOCK_FILE
    before = lock.stat().st_ino

    with repository.lock(VM):
        pass

    assert lock.stat().st_ino == before


def test_a_lock_whose_folder_was_removed_meanwhile_is_not_held(
    repository: PointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = repository.path / VM
    folder.mkdir()
    first, second = VmLock(folder, "first"), VmLock(folder, "second")
    first.acquire()
    flock = fcntl.flock

    def released_just_before(fd: int, operation: int) -> None:
        monkeypatch.setattr("fcntl.flock", flock)
        first.release()
        flock(fd, operation)

    monkeypatch.setattr("fcntl.flock", released_just_before)
    second.acquire()

    assert (folder / layout.LOCK_FILE).exists()
    with pytest.raises(LockedError):
        VmLock(folder, "third").acquire()
    second.release()


def test_two_are_never_in_at_once(repository: PointStore) -> None:
    inside: list[int] = []
    most = 0

    def work(number: int) -> None:
        nonlocal most
        lock = VmLock(repository.path / VM, "VM")
        for _ in range(25):
            try:
                with lock:
                    inside.append(number)
                    most = max(most, len(inside))
                    inside.remove(number)
            except LockedError:
                continue

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 1


async def test_empty_folders_are_swept(repository: PointStore) -> None:
    (repository.path / VM).mkdir()
    (repository.path / VM / layout.LOCK_FILE).touch()

    plan = await sweep(None, Repository(repository), dry_run=True)
    assert (repository.path / VM).exists()
    events: list[Event] = []
    report = await sweep(None, Repository(repository), on_event=events.append)

    folder = str(repository.path / VM)
    assert events == [
        StageBegan(stage=Stage.SWEEP),
        Removed(vm_id=VM, kind="empty-folder", id=folder, name=VM, dry_run=False),
    ]
    assert [each.kind for each in report.removed] == ["empty-folder"]
    assert plan.removed == report.removed
    assert not (repository.path / VM).exists()


async def test_a_folder_that_another_sweep_removes_meanwhile_is_no_problem(
    repository: PointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = repository.path / VM
    monkeypatch.setattr(strays, "vm_folders", lambda root: [gone])

    report = await sweep(None, Repository(repository))

    assert (report.removed, report.problems) == ([], [])


async def test_an_empty_folder_that_cannot_be_locked_is_a_problem_beside_what_was_swept(
    repository: PointStore,
) -> None:
    (repository.path / VM / layout.LOCK_FILE).mkdir(parents=True)
    (repository.path / OTHER_VM).mkdir()

    report = await sweep(None, Repository(repository))

    assert [each.vm_id for each in report.removed] == [OTHER_VM]
    assert [problem for problem in report.problems if VM in problem] == report.problems != []


MARKER = f"{strays.MARKER_PREFIX}0123456789abcdef"
CHANGED_SITE = f".{site.SITE_FILE}.01234567.new"
CHANGED_MARKER = f".{layout.MARKER_FILE}.01234567.new"


def old_file(folder: Path, name: str, *, age_s: float) -> Path:
    path = folder / name
    path.write_bytes(b"{}")
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


def test_the_marker_of_an_interrupted_creation_is_removed_by_the_next_one(tmp_path: Path) -> None:
    old = old_file(tmp_path, MARKER, age_s=2 * strays.OLD_S)

    PointStore.create(tmp_path)

    assert not old.exists()


@pytest.mark.parametrize("name", [MARKER, CHANGED_SITE, CHANGED_MARKER])
@pytest.mark.parametrize(("age_s", "stays"), [(2 * strays.OLD_S, False), (1.0, True)])
async def test_a_marker_is_swept_once_nobody_can_be_making_it(
    age_s: float, stays: bool, name: str, repository: PointStore
) -> None:
    marker = old_file(repository.path, name, age_s=age_s)

    await sweep(None, Repository(repository))

    assert marker.exists() is stays


def test_captures_of_several_vms_may_record_the_site_at_once(repository: PointStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(site.record, [repository.path] * 100))

    assert site.find_mismatch(repository.path) == ""
    assert not list(repository.path.glob("*.new"))


def test_a_half_written_record_is_removed_by_the_next_capture(repository: PointStore) -> None:
    capture(repository, ModelDisk(512))
    half = repository.path / VM / ".cluster-20260101T000000Z-abcdef.json.01234567.new"
    half.write_bytes(b"{")

    capture(repository, ModelDisk(512))

    assert not half.exists()


async def test_sweep_removes_what_interrupted_removals_left(repository: PointStore) -> None:
    point = capture(repository, ModelDisk(512))
    folder = repository.path / VM
    rest = folder / f"{layout.REMOVED_PREFIX}20261123T041500Z-8f3a2c"
    rest.mkdir()
    (rest / "disk.qcow2").touch()
    image = point.image_path(point.disks[0])
    gone, kept = image.with_name(f"{layout.image_name(point.disks[0].disk_id, 4)}.map"), image.with_name("x.map")
    for path in (gone, kept, image.with_name(f"{image.name}.map")):
        path.touch()

    with VmLock(folder, "VM"):
        locked = await sweep(None, Repository(repository))
    planned = await sweep(None, Repository(repository), dry_run=True)
    was_there = rest.exists() and gone.exists()
    swept = await sweep(None, Repository(repository))

    assert locked.removed == []
    assert planned.removed == swept.removed
    assert [(each.kind, each.vm_id) for each in swept.removed] == [("removed-point", VM), ("unfinished-file", VM)]
    assert (was_there, rest.exists(), gone.exists(), kept.exists()) == (True, False, False, True)
    assert image.with_name(f"{image.name}.map").exists()

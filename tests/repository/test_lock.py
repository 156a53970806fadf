"""One capture per VM at a time; captures of different VMs side by side."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ntxengine.errors import LockedError, RepositoryError
from ntxengine.repository import layout, leftovers, lock
from ntxengine.repository.store import PointStore
from tests.repository.builders import OTHER_VM, VM, ModelDisk, begin, capture, record_of
from tests.support.filesystem import lacking

HOLD = """
import sys
from ntxengine.repository.store import PointStore
with PointStore.open(sys.argv[1]).lock(sys.argv[2]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(repository: PointStore):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, repository.path, VM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield process
        process.kill()


def test_a_locked_vm_says_who_has_it(repository: PointStore, holder: subprocess.Popen[bytes]) -> None:
    with pytest.raises(LockedError, match=f"locked by process {holder.pid}:") as caught:
        repository.acquire(VM)
    assert caught.value.exit_code == 11


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_only_bytes_can_be_locked_a_vm_is_locked_all_the_same(repository: PointStore, code: int) -> None:
    command = [sys.executable, "-c", HOLD, repository.path, VM]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | lacking(repository.path, {"flock": code})
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"locked\n"

        second = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, check=False)
        first.kill()

    third = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, check=False)
    assert f"locked by process {first.pid}:" in second.stderr
    assert third.stdout == "locked\n"


def test_who_looks_at_a_lock_sees_it_and_changes_nothing(
    repository: PointStore, holder: subprocess.Popen[bytes]
) -> None:
    found = repository.is_locked(VM), repository.is_locked(OTHER_VM)

    assert found == (True, False)
    assert not (repository.path / OTHER_VM).exists()
    with pytest.raises(LockedError, match=f"locked by process {holder.pid}:"):
        repository.acquire(VM)


def test_who_looks_at_a_lock_keeps_nobody_out(repository: PointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = threading.Event()
    real = lock.take

    def take(fd: int, operation: int) -> None:
        real(fd, operation)
        if threading.current_thread() is looking:
            looked_at.set()
            assert asked.wait(60)

    repository.acquire(VM).release()
    (repository.path / VM).mkdir()
    (repository.path / VM / layout.LOCK_FILE).touch()
    asked = threading.Event()
    looking = threading.Thread(target=repository.is_locked, args=(VM,))
    monkeypatch.setattr(lock, "take", take)
    monkeypatch.setattr(time, "sleep", lambda _seconds: (asked.set(), looking.join()))
    looking.start()
    assert looked_at.wait(60)

    repository.acquire(VM).release()

    assert asked.is_set()


def test_another_vm_is_not_locked(repository: PointStore, holder: subprocess.Popen[bytes]) -> None:
    capture(repository, ModelDisk(512), vm_id=OTHER_VM)

    assert [point.vm_id for point in repository.points()] == [OTHER_VM]


def test_the_death_of_its_holder_frees_a_lock(repository: PointStore, holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    holder.wait()

    capture(repository, ModelDisk(512))

    assert len(repository.points()) == 1


def test_a_vm_is_not_locked_a_second_time_in_the_same_process(repository: PointStore) -> None:
    with repository.lock(VM):
        for again in (repository, PointStore.open(repository.path)):
            with pytest.raises(LockedError, match=f"process {os.getpid()}"):
                again.acquire(VM)

    with repository.lock(VM):
        pass


def test_a_lock_outlives_the_point_that_was_made_under_it(repository: PointStore) -> None:
    with repository.lock(VM) as lock:
        with repository.begin(lock, None) as unfinished:
            unfinished.commit(record_of(unfinished, []))
        with pytest.raises(LockedError):
            repository.acquire(VM)


def test_a_point_is_begun_only_under_the_lock_of_its_vm(repository: PointStore, tmp_path: Path) -> None:
    parent = capture(repository, ModelDisk(512))
    with repository.lock(VM) as old:
        pass

    with pytest.raises(RepositoryError, match="its lock was given back"):
        repository.begin(old, parent)
    with repository.lock(OTHER_VM) as other, pytest.raises(RepositoryError, match="not the newest of VM"):
        repository.begin(other, parent)
    elsewhere = PointStore.create(tmp_path / "elsewhere")
    with elsewhere.lock(VM) as foreign, pytest.raises(RepositoryError, match="of another repository"):
        repository.begin(foreign, parent)
    assert list(repository.path.glob("*/.unfinished-*")) == []


def test_a_point_is_not_committed_once_its_lock_was_given_back(repository: PointStore) -> None:
    with repository.lock(VM) as lock:
        unfinished = repository.begin(lock, None)

    with pytest.raises(RepositoryError, match="its lock was given back"):
        unfinished.commit(record_of(unfinished, []))
    assert repository.points() == []


def test_a_lock_is_given_back_when_beginning_fails(repository: PointStore) -> None:
    parent = capture(repository, ModelDisk(512))
    capture(repository, ModelDisk(512))
    with pytest.raises(Exception, match="not the newest"), begin(repository, VM, parent):
        pass

    with begin(repository, VM, None):
        pass


def test_points_can_be_read_while_the_vm_is_captured(repository: PointStore, holder: subprocess.Popen[bytes]) -> None:
    assert repository.points() == []
    assert repository.newest(VM) is None


def test_unfinished_points_of_a_locked_vm_are_left_alone(repository: PointStore) -> None:
    with begin(repository, VM, None) as unfinished:
        assert leftovers.sweep(repository.path).unfinished == []
        assert unfinished.path.is_dir()


def test_what_a_killed_capture_left_is_swept(repository: PointStore) -> None:
    for vm_id, name in ((VM, ".unfinished-20260101T000000Z-aaaaaa"), (OTHER_VM, ".unfinished-20260102T000000Z-bbbbbb")):
        folder = repository.path / vm_id / name
        folder.mkdir(parents=True)
        (folder / "disk").write_bytes(b"x")
        (folder / "link").symlink_to("/etc")

    removed = leftovers.sweep(repository.path).unfinished

    assert removed == [(VM, "20260101T000000Z-aaaaaa"), (OTHER_VM, "20260102T000000Z-bbbbbb")]
    assert list(repository.path.glob("*/.unfinished-*")) == []
    assert Path("/etc/passwd").exists()


def test_many_captures_at_once_are_all_in_the_catalog(repository: PointStore) -> None:
    vms = [f"0a1b2c3d-0000-4000-8000-0000000000{number:02x}" for number in range(8)]

    with ThreadPoolExecutor(4) as pool:
        points = list(pool.map(lambda vm: capture(PointStore.open(repository.path), ModelDisk(512), vm_id=vm), vms))

    assert {point.id for point in PointStore.open(repository.path).points()} == {point.id for point in points}
    assert {vm.vm_id for vm in repository.vms()} == set(vms)


def test_two_processes_may_make_the_same_repository(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: PointStore.open(tmp_path / "repo", create=True).id, range(16)))

    assert len(set(made)) == 1

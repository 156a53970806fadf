"""One capture per VM at a time; captures of different VMs side by side."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ntxengine.errors import LockedError
from ntxengine.repository import Repository
from tests.repository.builders import OTHER_VM, VM, ModelDisk, capture
from tests.support.filesystem import lacking

HOLD = """
import sys
from ntxengine.repository import Repository
with Repository.open(sys.argv[1]).lock(sys.argv[2]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(repository: Repository):
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


def test_a_locked_vm_says_who_has_it(repository: Repository, holder: subprocess.Popen[bytes]) -> None:
    with pytest.raises(LockedError, match=f"locked by process {holder.pid}:") as caught:
        repository.begin(VM, None)
    assert caught.value.exit_code == 11
    with pytest.raises(LockedError), repository.lock(VM):
        pass


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_only_bytes_can_be_locked_a_vm_is_locked_all_the_same(repository: Repository, code: int) -> None:
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


def test_another_vm_is_not_locked(repository: Repository, holder: subprocess.Popen[bytes]) -> None:
    capture(repository, ModelDisk(512), vm_id=OTHER_VM)

    assert [point.vm_id for point in repository.points()] == [OTHER_VM]


def test_the_death_of_its_holder_frees_a_lock(repository: Repository, holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    holder.wait()

    capture(repository, ModelDisk(512))

    assert len(repository.points()) == 1


def test_a_lock_that_is_held_is_used_and_not_given_back_by_the_point(repository: Repository) -> None:
    with repository.lock(VM):
        capture(repository, ModelDisk(512))
        with pytest.raises(LockedError, match=f"process {os.getpid()}"):
            Repository.open(repository.path).begin(VM, None)

    with Repository.open(repository.path).begin(VM, None):
        pass


def test_a_lock_is_given_back_when_beginning_fails(repository: Repository) -> None:
    parent = capture(repository, ModelDisk(512))
    capture(repository, ModelDisk(512))
    with pytest.raises(Exception, match="not the newest"):
        repository.begin(VM, parent)

    with repository.begin(VM, None):
        pass


def test_points_can_be_read_while_the_vm_is_captured(repository: Repository, holder: subprocess.Popen[bytes]) -> None:
    assert repository.points() == []
    assert repository.newest(VM) is None


def test_unfinished_points_of_a_locked_vm_are_left_alone(repository: Repository) -> None:
    with repository.begin(VM, None) as unfinished:
        assert Repository.open(repository.path).sweep_unfinished() == []
        assert unfinished.path.is_dir()


def test_what_a_killed_capture_left_is_swept(repository: Repository) -> None:
    for vm_id, name in ((VM, ".unfinished-20260101T000000Z-aaaaaa"), (OTHER_VM, ".unfinished-20260102T000000Z-bbbbbb")):
        folder = repository.path / vm_id / name
        folder.mkdir(parents=True)
        (folder / "disk").write_bytes(b"x")
        (folder / "link").symlink_to("/etc")

    removed = repository.sweep_unfinished()

    assert removed == [f"{VM}/20260101T000000Z-aaaaaa", f"{OTHER_VM}/20260102T000000Z-bbbbbb"]
    assert list(repository.path.glob("*/.unfinished-*")) == []
    assert Path("/etc/passwd").exists()


def test_many_captures_at_once_are_all_in_the_catalog(repository: Repository) -> None:
    vms = [f"0a1b2c3d-0000-4000-8000-0000000000{number:02x}" for number in range(8)]

    with ThreadPoolExecutor(4) as pool:
        points = list(pool.map(lambda vm: capture(Repository.open(repository.path), ModelDisk(512), vm_id=vm), vms))

    assert {point.id for point in Repository.open(repository.path).points()} == {point.id for point in points}
    assert {vm.vm_id for vm in repository.vms()} == set(vms)


def test_two_processes_may_make_the_same_repository(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Repository.open(tmp_path / "repo", create=True).id, range(16)))

    assert len(set(made)) == 1

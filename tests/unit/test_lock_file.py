"""A lock file is held by one, and left by nobody but one who was killed."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from ntxengine.errors import LockedError, NtxError, TargetError
from ntxengine.files import lock_file
from ntxengine.files.lock_file import LockFile
from ntxengine.files.locks import is_locked


def test_one_at_a_time_has_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    first, second = LockFile(path, "it"), LockFile(path, "it")
    first.acquire()

    with pytest.raises(LockedError, match=r"^it: another process works with it"):
        second.acquire()
    first.release()
    first.release()
    assert not path.exists()
    second.acquire()
    assert path.exists()
    second.release()


def test_one_that_was_left_is_taken(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.touch()
    lock = LockFile(path, "it")

    lock.acquire()
    lock.release()

    assert not path.exists()


def test_one_that_is_removed_meanwhile_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".lock"
    taken = []

    def take(fd: int, _operation: int) -> None:
        if not taken:
            path.unlink()  # by who has just released it
        taken.append(os.fstat(fd).st_ino)

    monkeypatch.setattr(lock_file, "take", take)
    lock = LockFile(path, "it")

    lock.acquire()

    assert len(taken) == 2
    assert path.exists()
    lock.release()


def test_where_there_are_no_locks_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def take(_fd: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock_file, "take", take)

    with pytest.raises(TargetError, match="has no locks: use another"):
        LockFile(tmp_path / ".lock", "it").acquire()


def test_one_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(NtxError, match=r"none/.lock: making the lock failed: No such file"):
        LockFile(tmp_path / "none" / ".lock", "it").acquire()


def test_a_file_that_another_program_writes_to_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(512))
    assert not is_locked(path)
    assert not is_locked(tmp_path / "none")

    with open(path, "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_SH, 1, 100)  # as qemu does
        child = os.fork()
        if child == 0:
            os._exit(int(is_locked(path)))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1

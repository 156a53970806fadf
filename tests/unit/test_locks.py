"""A lock that is given back is free, whoever was just about to begin a program."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from ntxengine.files import unfinished
from ntxengine.files.lock_file import LockFile
from ntxengine.repository.lock import VmLock
from ntxengine.restore.folder import only_us


@contextmanager
def forked() -> Iterator[None]:
    """Have a child meanwhile that has all files open, as before it begins a program."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(theirs)
        os.read(ours, 1)
        os._exit(0)
    os.close(ours)
    try:
        yield
    finally:
        os.close(theirs)
        os.waitpid(child, 0)


@contextmanager
def lock_file(folder: Path) -> Iterator[None]:
    lock = LockFile(folder / "lock", "the file")
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def unfinished_file(folder: Path) -> AbstractContextManager[object]:
    return unfinished.begun(folder / "disk")


def vm_lock(folder: Path) -> VmLock:
    return VmLock(folder, "the VM")


LOCKS: list[Callable[[Path], AbstractContextManager[object]]] = [vm_lock, lock_file, only_us, unfinished_file]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_child_that_was_just_forked_keeps_no_lock(
    tmp_path: Path, lock: Callable[[Path], AbstractContextManager[object]]
) -> None:
    (tmp_path / "keeps the folder").touch()
    with ExitStack() as children:
        with lock(tmp_path):
            children.enter_context(forked())

        with lock(tmp_path):
            pass
        assert unfinished.sweep(tmp_path, dry_run=True).in_use == []

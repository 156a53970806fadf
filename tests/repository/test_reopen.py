"""An unfinished point is gone on with by whoever has the lock of its VM, if nothing was committed since."""

from __future__ import annotations

import dataclasses
import errno
import os
from datetime import timedelta
from typing import NoReturn

import pytest

from ntxengine.dataplane import journal
from ntxengine.dataplane.journal import Journal
from ntxengine.errors import RepositoryError
from ntxengine.repository.interrupted import Interrupted, StoredResume
from ntxengine.repository.lock import VmLock
from ntxengine.repository.store import PointStore
from tests.repository.builders import DISK, OTHER_VM, VM, Clock, ModelDisk, capture
from tests.repository.test_interrupted import FROZEN, RESUME


def resume_of(point_id: str, *, vm_id: str = VM, parent_id: str | None = None) -> StoredResume:
    disk = dataclasses.replace(RESUME.disks[0], disk_id=DISK)
    return dataclasses.replace(RESUME, point_id=point_id, vm_id=vm_id, parent_id=parent_id, disks=(disk,))


def leave(store: PointStore, lock: VmLock) -> Interrupted:
    """Leave an unfinished point as a killed capture does."""
    unfinished = store.begin(lock, store.newest(lock.vm_id))
    parent_id = unfinished.parent.id if unfinished.parent else None
    unfinished.keep_resume(resume_of(unfinished.id, vm_id=lock.vm_id, parent_id=parent_id))
    for kind in ("qcow2", "manifest", "changes", "journal"):
        (unfinished.path / f"disk-{DISK}.{kind}").write_bytes(b"x")
    (unfinished.path / "extents-0011").write_bytes(b"x")
    unfinished.leave()
    return store.interrupted(lock.vm_id)[-1]


def test_it_has_what_it_had_and_nothing_that_nobody_goes_on_with(repository: PointStore) -> None:
    with repository.lock(VM) as lock:
        found = leave(repository, lock)
        other = found.path.with_name(".unfinished-20200101T000000Z-000000")
        other.mkdir()

        unfinished = repository.reopen(lock, found, None)

        assert (unfinished.id, unfinished.path, unfinished.has_progress()) == (found.point_id, found.path, True)
        kinds = ("changes", "journal", "manifest", "qcow2")
        assert sorted(path.name for path in found.path.iterdir()) == [f"disk-{DISK}.{kind}" for kind in kinds] + [
            "resume"
        ]
        assert not other.exists()


def test_a_disk_that_begins_again_has_nothing(repository: PointStore) -> None:
    with repository.lock(VM) as lock:
        unfinished = repository.reopen(lock, leave(repository, lock), None)

        unfinished.forget_disk(DISK)

        assert [path.name for path in unfinished.path.iterdir()] == ["resume"]
        assert not unfinished.has_progress()


def test_a_folder_that_cannot_be_read_has_nothing(repository: PointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for when a capture has failed: what it raised would take the place of why."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EIO, "the disk is gone")

    with repository.lock(VM) as lock:
        unfinished = repository.reopen(lock, leave(repository, lock), None)
        with monkeypatch.context() as patch:
            for name in ("stat", "lstat", "scandir"):
                patch.setattr(os, name, fail)

            assert not unfinished.has_progress()

        assert unfinished.has_progress()


def test_who_begins_anew_removes_it(repository: PointStore) -> None:
    with repository.lock(VM) as lock:
        found = leave(repository, lock)

        repository.begin(lock, None).abort()

        assert not found.path.exists()
        assert repository.interrupted(VM) == []


def test_one_that_is_older_than_a_point_is_refused(repository: PointStore, clock: Clock) -> None:
    with repository.lock(VM) as lock:
        found = leave(repository, lock)
    kept = found.path.rename(repository.path.parent / "aside")
    clock.advance(1)
    capture(repository, ModelDisk(512))
    kept.rename(found.path)

    with repository.lock(VM) as lock, pytest.raises(RepositoryError, match="is newer"):
        repository.reopen(lock, found, None)

    assert found.path.exists()


def test_one_on_top_of_another_point_is_refused(repository: PointStore) -> None:
    first = capture(repository, ModelDisk(512))
    with repository.lock(VM) as lock:
        found = leave(repository, lock)
        assert found.resume is not None

        with pytest.raises(RepositoryError, match="it is of other points"):
            repository.reopen(lock, found, None)
        assert repository.reopen(lock, found, first).parent == first


def test_one_of_another_vm_is_refused(repository: PointStore) -> None:
    with repository.lock(VM) as lock:
        found = leave(repository, lock)

    with repository.lock(OTHER_VM) as lock, pytest.raises(RepositoryError, match="cannot be gone on with"):
        repository.reopen(lock, found, None)

    assert found.path.exists()


def test_one_whose_record_is_damaged_is_refused(repository: PointStore) -> None:
    with repository.lock(VM) as lock:
        found = leave(repository, lock)
        (found.path / "resume").write_bytes(b"half")
        (damaged,) = repository.interrupted(VM)

        with pytest.raises(RepositoryError, match="is damaged"):
            repository.reopen(lock, damaged, None)


def test_what_is_recorded_changes_on_the_way(repository: PointStore) -> None:
    later = FROZEN + timedelta(days=99)
    with repository.lock(VM) as lock:
        unfinished = repository.begin(lock, None)
        unfinished.keep_until(later)  # of one that cannot be gone on with: nothing is written
        assert list(unfinished.path.iterdir()) == []
        unfinished.keep_resume(resume_of(unfinished.id))

        unfinished.keep_until(later)
        unfinished.keep_in_vain(2)
        unfinished.leave()

        (found,) = repository.interrupted(VM)
    assert found.resume == dataclasses.replace(resume_of(unfinished.id), expires_at=later, in_vain=2)


def test_bytes_are_those_of_its_journals(repository: PointStore) -> None:
    with repository.lock(VM) as lock:
        unfinished = repository.begin(lock, None)
        assert unfinished.bytes_stored() == 0
        unfinished.keep_resume(resume_of(unfinished.id))
        journal.write(unfinished.resume_paths(DISK).journal, Journal({}, 4096, 512))

        assert unfinished.bytes_stored() == 512
        unfinished.abort()

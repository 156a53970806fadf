"""The file of what is said of points among damage, hostile contents, other writers, full disks and kills."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ntxengine.errors import LockedError, RepositoryError, TargetError
from ntxengine.files import durable
from ntxengine.files.lock_file import LockFile
from ntxengine.repository import Hold, Retention, retention_file, strays
from ntxengine.repository.store import PointStore
from tests.repository.builders import OTHER_VM, VM
from tests.repository.conftest import fill_up
from tests.repository.killed_capture import Fuse
from tests.repository.retained import NOW, change, forget, listed, make_points

FLIPS = int(os.environ.get("NTX_FLIPS", "24"))
SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))


# -------------------------------------------------------------------------------------------------- what goes wrong


def entry(document: Any, **changed: Any) -> Any:
    return {**document, "points": [{**document["points"][0], **changed}]}


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: {"format": "ntxengine-retention"},
        lambda document: {**document, "version": 2},
        lambda document: {**document, "format": "ntxengine-distrust"},
        lambda document: {**document, "points": []},
        lambda document: {key: value for key, value in document.items() if key != "check"},
        lambda document: [],
    ],
)
def test_a_damaged_file_hides_nothing_and_lets_nothing_be_forgotten(
    repository: PointStore, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    first, second = make_points(repository, 2)
    forget(repository, first)
    path = repository.path / VM / "retention.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    damaged = path.read_bytes()

    health = repository.health()
    found = listed(repository)
    with pytest.raises(RepositoryError, match=r"retention\.json"):
        forget(repository, second)

    assert found == [first.id, second.id]
    assert [str(path) in text and "are listed, too" in text for text in caplog.messages] == [True]
    assert health.points == (first, second)
    assert list(health.unknown_retention) == [repository.path / VM]
    assert path.read_bytes() == damaged


@pytest.mark.parametrize(
    "points",
    [
        [{"point_id": "../../etc"}],
        [{"point_id": "20261123T041500Z-8f3a2c/.."}],
        [{"point_id": "20261123T041500Z-8f3a2c", "tags": ["a b"]}],
        [{"point_id": "20261123T041500Z-8f3a2c", "tags": ["\x1b[31m"]}],
        [{"point_id": "20261123T041500Z-8f3a2c", "forgotten_at": "2026-11-30T12:00:00"}],
        [{"point_id": "20261123T041500Z-8f3a2c", "hold": {"until": "9999-12-31T23:59:59-12:00"}}],
        [{"point_id": "20261123T041500Z-8f3a2c", "hold": {"reason": "x" * 257}}],
        [{"point_id": "20261123T041500Z-8f3a2c", "hold": {"reason": "\x1b]0;x\x07"}}],
        [{"point_id": "20261123T041500Z-8f3a2c"}, {"point_id": "20261123T041500Z-8f3a2c", "tags": ["a"]}],
    ],
)
def test_hostile_contents_with_a_right_checksum_are_damage(repository: PointStore, points: Any) -> None:
    make_points(repository, 1)
    document = {"format": "ntxengine-retention", "version": 1, "points": points}
    path = repository.path / VM / "retention.json"
    path.write_bytes(retention_file.stored.encode_checked(document))

    with pytest.raises(RepositoryError) as caught:
        retention_file.read(repository.path / VM)

    assert str(caught.value).startswith(f"{path}: is damaged: it tells of ")
    assert str(caught.value).isprintable()


def test_a_huge_or_deep_file_is_damage(repository: PointStore) -> None:
    make_points(repository, 1)
    path = repository.path / VM / "retention.json"
    for contents in (b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"", b"null"):
        path.write_bytes(contents)
        with pytest.raises(RepositoryError, match="is damaged"):
            retention_file.read(path.parent)
    os.truncate(path, 64 * 1024**2 + 1)

    with pytest.raises(RepositoryError, match="are believed; put it back from a copy"):
        retention_file.read(path.parent)


def test_something_else_in_the_place_of_the_file_is_said_with_what_to_do(
    repository: PointStore, tmp_path: Path
) -> None:
    make_points(repository, 1)
    path = repository.path / VM / "retention.json"
    path.symlink_to(tmp_path / "nothing")

    with pytest.raises(RepositoryError, match=r"retention\.json: cannot be read: .*; put it back from a copy"):
        retention_file.read(path.parent)


def test_no_flipped_byte_changes_what_is_said(repository: PointStore) -> None:
    first, second = make_points(repository, 2)
    change(repository, lambda said: said.tag(second.id, ["release"]).hold(second.id, Hold(None, "audit")))
    forget(repository, first)
    path = repository.path / VM / "retention.json"
    right, said = path.read_bytes(), retention_file.read(path.parent)
    chance = random.Random(SEED)

    for count in (1, 10):
        for _ in range(FLIPS * 10):
            wrong = bytearray(right)
            for _ in range(count):
                wrong[chance.randrange(len(wrong))] ^= chance.randrange(1, 256)
            path.write_bytes(wrong)
            with suppress(RepositoryError):  # else it was one of white space
                assert retention_file.read(path.parent) == said


def test_two_changes_at_once_both_count(repository: PointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    points = make_points(repository, 2)
    read, both_have_read = retention_file.read, threading.Barrier(2)

    def read_together(vm_folder: Path) -> Retention:
        found = read(vm_folder)
        with suppress(threading.BrokenBarrierError):  # as it must be: the other waits for its turn
            both_have_read.wait(timeout=0.1)
        return found

    monkeypatch.setattr(retention_file, "read", read_together)
    threads = [threading.Thread(target=forget, args=(repository, point)) for point in points]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()

    assert retention_file.read(repository.path / VM).forgotten == {point.id for point in points}


def test_who_waits_too_long_is_told(repository: PointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    (point,) = make_points(repository, 1)
    monkeypatch.setattr(retention_file, "WAIT_S", 0.0)
    lock = LockFile(repository.path / VM / ".retention.lock", "x")
    lock.acquire()

    with pytest.raises(LockedError, match=r"retention\.json: another process works with it"):
        forget(repository, point)

    lock.release()
    forget(repository, point)


def test_a_read_only_repository_is_read_and_says_why_nothing_is_changed(
    repository: PointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_points(repository, 2)
    forget(repository, first)

    def read_only(path: Any, flags: int = 0, mode: int = 0) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("ntxengine.files.lock_file.files.open_regular", read_only)
    with pytest.raises(TargetError, match=r"\.retention\.lock: .*: Read-only file system; mount it writable"):
        forget(repository, second)
    monkeypatch.undo()

    assert listed(repository) == [second.id]


def test_a_full_disk_changes_nothing(small_fs: Callable[[str], Path]) -> None:
    folder = small_fs("4m")
    repository = PointStore.create(folder / "repo")
    first, second = make_points(repository, 2)
    forget(repository, first)
    before = (repository.path / VM / "retention.json").read_bytes()
    fill_up(folder)

    with pytest.raises(TargetError, match="No space left on device"):
        forget(repository, second)

    assert (repository.path / VM / "retention.json").read_bytes() == before
    assert not list((repository.path / VM).glob(".retention*"))


def test_a_capture_removes_nothing_that_a_change_is_writing(repository: PointStore) -> None:
    (point,) = make_points(repository, 1)
    written: list[Path] = []
    replace = durable.files.replace

    def replace_late(fresh: Path, path: Path) -> None:
        written.append(fresh)
        strays.remove_unfinished(repository.path / VM)
        replace(fresh, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable.files, "replace", replace_late)
        forget(repository, point)

    assert [path.name.startswith(".retention.json.") for path in written] == [True]
    assert repository.newest(VM) is None


# ------------------------------------------------------------------------------------------------------- what is killed

STEPS = ("open", "write", "fsync", "rename", "replace", "unlink", "close", "lstat", "fstat")


def _forget_and_die(path: Path, point_ids: list[str], steps: int) -> None:
    fuse = Fuse(steps)
    for name in STEPS:
        setattr(os, name, fuse.around(getattr(os, name)))
    for name in ("write_file", "sync_folder"):
        setattr(durable, name, fuse.around(getattr(durable, name)))
    retention_file.change(path, lambda said: said.tag(point_ids[1], ["x"]).forget(point_ids[:1], NOW))


def test_a_change_that_is_killed_at_any_step_is_made_or_is_not(repository: PointStore) -> None:
    first, second = make_points(repository, 2)
    make_points(repository, 1, vm_id=OTHER_VM)
    path = repository.path / VM / "retention.json"
    change(repository, lambda said: said.hold(second.id, Hold()))
    before = path.read_bytes()
    process, outcomes = multiprocessing.get_context("fork"), []

    for steps in range(200):
        child = process.Process(target=_forget_and_die, args=(path.parent, [first.id, second.id], steps))
        child.start()
        child.join()

        assert child.exitcode in (0, -signal.SIGKILL)
        said = retention_file.read(path.parent)
        outcomes.append((said.is_forgotten(first.id), said.of(second.id).tags == ("x",), said.is_held(second.id, NOW)))
        change(repository, lambda said: said.tag(second.id, ["y"], ["x"]))
        assert not list(path.parent.glob(".retention*"))
        path.write_bytes(before)
        if child.exitcode == 0:
            break

    assert child.exitcode == 0
    assert len(outcomes) > 20
    assert set(outcomes) == {(False, False, True), (True, True, True)}
    assert outcomes == sorted(outcomes)

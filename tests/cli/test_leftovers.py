"""What a killed process leaves is found and removed: by the next run to the same target, or by `ntx sweep DIR`."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ntxengine.files import unfinished as unfinished_file
from tests.cli.ntx import COMMAND, environment, ntx
from tests.cli.test_json import problems

SLOW = ("pattern:1G", "new.raw", "--bandwidth", "64K", "--request-size", "64K", "--progress", "none")
LEFT = ".new.raw.0123abcd.ntx-unfinished"


@contextmanager
def copying(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A copy that takes for ever; begun once its unfinished file is there."""
    with subprocess.Popen(
        [*COMMAND, "copy", *(arguments or SLOW)], cwd=folder, env=environment(), stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in unfinished(folder)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process
        process.kill()


def unfinished(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.ntx-unfinished"))


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_what_a_killed_copy_left_is_removed_by_the_next_one_to_the_same_target(form: str, tmp_path: Path) -> None:
    with copying(tmp_path, *SLOW, "--target-format", form):
        pass
    assert len(unfinished(tmp_path)) == 1

    ran = ntx("copy", "pattern:64K", "new.raw", "--target-format", form, cwd=tmp_path)

    assert ran.code == 0, ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["new.raw"]


def test_what_a_living_copy_writes_is_neither_swept_nor_removed_by_another(tmp_path: Path) -> None:
    with copying(tmp_path) as process:
        (alive,) = unfinished(tmp_path)
        swept = ntx("sweep", tmp_path, "--json")
        other = ntx("copy", "pattern:64K", "new.raw", cwd=tmp_path)

        assert (swept.json["removed"], swept.json["in_use"]) == ([], [str(alive)])
        assert other.code == 0
        assert alive.exists()
        assert process.poll() is None

    dead = ntx("sweep", tmp_path, "--json")

    assert [each["path"] for each in dead.json["removed"]] == [str(alive)]
    assert [path.name for path in tmp_path.iterdir()] == ["new.raw"]


def test_sweep_of_a_directory_removes_what_was_left_and_nothing_else(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    outside.write_bytes(b"mine")
    (folder / "below").mkdir(parents=True)
    for name in (LEFT, "scsi.0.raw.ntx-unfinished", "vm.json.ntx-unfinished"):
        (folder / name).write_bytes(b"left")
    kept = ["below", "disk.raw", "link.ntx-unfinished", "fifo.ntx-unfinished", ".other.ntx-unfinished-not"]
    for name in (kept[1], kept[4], f"below/{LEFT}"):
        (folder / name).write_bytes(b"mine")
    (folder / kept[2]).symlink_to(outside)
    os.mkfifo(folder / kept[3])

    plan = ntx("sweep", folder, "-n", "--json")
    swept = ntx("sweep", folder, "--json", env={"NTX_REPOSITORY": str(tmp_path / "unused")})

    assert problems(swept.json, "sweep.json") == []
    assert plan.json["removed"] == swept.json["removed"]
    assert sorted(each["name"] for each in swept.json["removed"]) == [
        LEFT, "scsi.0.raw.ntx-unfinished", "vm.json.ntx-unfinished",
    ]  # fmt: skip
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)
    assert (folder / "below" / LEFT).exists()
    assert outside.read_bytes() == b"mine"


def test_a_cluster_map_whose_image_is_gone_is_swept_and_no_other_file(tmp_path: Path) -> None:
    ours = b"NTXQMAP\0" + bytes(100)
    for name in ("gone.qcow2.map", "a b.ntx-partial.map", "there.qcow2", "there.qcow2.map", "used.qcow2.map"):
        (tmp_path / name).write_bytes(ours)
    (tmp_path / "x.ntx-unfinished.map").touch()
    (tmp_path / "treasure.map").write_bytes(b"somebody's")
    (tmp_path / "empty.map").touch()
    (tmp_path / "link.map").symlink_to("gone.qcow2.map")
    kept = {"there.qcow2", "there.qcow2.map", "treasure.map", "empty.map", "link.map", "used.qcow2.map"}
    with (tmp_path / "used.qcow2.map").open() as used:
        fcntl.flock(used, fcntl.LOCK_EX)

        plan = ntx("sweep", tmp_path, "-n", "--json")
        ran = ntx("sweep", tmp_path, "--json")

    assert (ran.code, ran.json["removed"]) == (0, plan.json["removed"])
    assert ran.json["in_use"] == [str(tmp_path / "used.qcow2.map")]
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_what_a_living_restore_writes_is_not_swept(tmp_path: Path) -> None:
    left = tmp_path / "scsi.0.raw.ntx-unfinished"
    left.touch()
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)

    ran = ntx("sweep", tmp_path, "--json")

    os.close(held)
    assert (ran.json["removed"], ran.json["in_use"]) == ([], [str(left)])
    assert left.exists()


@pytest.mark.parametrize(
    "name",
    ["x" * 255, "\u00fc" * 127, "\u78c1" * 85, "a" + "\u00fc" * 127, "b\udcff" * 100],
    ids=["one byte", "two bytes", "three bytes", "cut within a letter", "not UTF-8"],
)
def test_a_name_of_any_length_and_letters_can_be_made(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()  # the file system takes it
    (tmp_path / name).unlink()
    with unfinished_file.begun(tmp_path / name) as left:
        pass  # not removed: as after a death

    with unfinished_file.begun(tmp_path / name) as path:
        assert not left.exists()
        path.rename(tmp_path / name)

    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_of_a_finished_file_only_the_other_name_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Killed between link() and unlink(): somebody may be writing to the disk by now.
    finished = tmp_path / "new.raw"
    finished.write_bytes(b"x")
    os.link(finished, tmp_path / LEFT)
    monkeypatch.setattr(os, "pwrite", lambda *_: pytest.fail("written to"))

    found = unfinished_file.sweep(tmp_path)

    assert found.dead == [tmp_path / LEFT]
    assert [path.name for path in tmp_path.iterdir()] == ["new.raw"]
    assert finished.read_bytes() == b"x"


def test_where_locks_keep_others_from_writing_nothing_is_locked_and_nothing_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on CIFS, where a lock is the server's, and binds also our own other descriptors.
    monkeypatch.setattr(unfinished_file, "_can_be_written_beside", lambda path: False)

    with unfinished_file.begun(tmp_path / "new") as path:
        other = os.open(path, os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
        found = unfinished_file.sweep(tmp_path)

    assert found.dead == []
    assert "remove by hand" in found.problems[0]
    assert path.exists()


def test_a_file_that_is_taken_for_dead_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[Path] = []
    lock = unfinished_file._lock

    def lock_too_late(fd: int) -> bool:
        if not swept:
            monkeypatch.setattr(unfinished_file, "_lock", lock)
            swept.extend(unfinished_file.sweep(tmp_path).dead)
            monkeypatch.setattr(unfinished_file, "_lock", lock_too_late)
        return lock(fd)

    monkeypatch.setattr(unfinished_file, "_lock", lock_too_late)

    with unfinished_file.begun(tmp_path / "new") as path:
        assert len(swept) == 1
        assert path.exists()
        assert path not in swept


def test_a_directory_that_does_not_exist_is_not_found(tmp_path: Path) -> None:
    assert ntx("sweep", tmp_path / "none").code == 10


@pytest.mark.parametrize("arguments", [(), (".", "--repository", ".")])
def test_sweep_wants_one_place(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ran = ntx("sweep", *arguments, cwd=tmp_path)

    assert ran.code == 2
    assert "--repository" in ran.err


def test_the_first_signal_says_what_the_second_leaves(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "copy", *SLOW], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        while not any(path.stat().st_size for path in unfinished(tmp_path)):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)

    assert "once more to stop at once, and leave the rest to `ntx sweep`" in err
    assert unfinished(tmp_path) == []

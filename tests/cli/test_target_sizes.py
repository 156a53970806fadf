"""What exists already as a target: one rule of sizes for files, devices and exports, and one exit code."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.ntx import assert_refused, ntx
from tests.support.servers import loop_device, nbdkit

KIB = 1024
SIZE = 64 * KIB


@contextlib.contextmanager
def target_of(kind: str, size: int, folder: Path) -> Iterator[str]:
    """A target of `size` bytes, all of them 0xAA, kept in the file `target`."""
    path = folder / "target"
    path.write_bytes(b"\xaa" * size)
    if kind == "file":
        yield str(path)
    elif kind == "nbd":
        with nbdkit("file", str(path)) as uri:
            yield uri
    else:
        with loop_device(path) as device:
            yield device


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture(params=["file", "nbd", "device"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_target_that_is_too_small_is_refused_with_both_sizes(kind: str, disk: Path, tmp_path: Path) -> None:
    with target_of(kind, SIZE - 4 * KIB, tmp_path) as target:
        dry = ntx("copy", disk, target, "--dry-run")
        ran = ntx("copy", disk, target, "--overwrite")

    for refused in (dry, ran):
        assert_refused(refused, 2, "has 61440 bytes, the source 65536", "too small")
    assert set((tmp_path / "target").read_bytes()) == {0xAA}


def test_file_of_the_same_size_is_written_only_with_overwrite(disk: Path, tmp_path: Path) -> None:
    with target_of("file", SIZE, tmp_path) as target:
        dry = ntx("copy", disk, target, "--dry-run")
        refused = ntx("copy", disk, target)
        before = set((tmp_path / "target").read_bytes())
        ran = ntx("copy", disk, target, "--overwrite")

    for each in (dry, refused):
        assert_refused(each, 2, "exists already", "--overwrite")
    assert before == {0xAA}
    assert ran.code == 0, ran.err
    assert (tmp_path / "target").read_bytes() == disk.read_bytes()


def test_larger_file_is_refused(disk: Path, tmp_path: Path) -> None:
    with target_of("file", SIZE + 1, tmp_path) as target:
        ran = ntx("copy", disk, target, "--overwrite")

    assert_refused(ran, 2, "has 65537 bytes, the source 65536", "remove it")
    assert set((tmp_path / "target").read_bytes()) == {0xAA}


@pytest.mark.parametrize("kind", ["nbd", "device"], indirect=True)
def test_larger_device_keeps_its_rest_and_that_is_said(kind: str, disk: Path, tmp_path: Path) -> None:
    with target_of(kind, SIZE + 4 * KIB, tmp_path) as target:
        dry = ntx("copy", disk, target, "--dry-run", "--json")
        ran = ntx("copy", disk, target, "--verify")

    assert dry.json["target_size"] == SIZE + 4 * KIB
    assert ran.code == 0, ran.err
    assert "69632 bytes, the source 65536: the rest is left as it is" in ran.out
    written = (tmp_path / "target").read_bytes()
    assert written[:SIZE] == disk.read_bytes()
    assert set(written[SIZE:]) == {0xAA}


@pytest.mark.parametrize("name", ["folder", "folder/", "missing/"])
def test_folder_is_no_target_and_none_is_made_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()

    dry = ntx("copy", "pattern:64K", f"{tmp_path}/{name}", "--dry-run")
    ran = ntx("copy", "pattern:64K", f"{tmp_path}/{name}")

    for refused in (dry, ran):
        assert_refused(refused, 2, "is a folder: name the file in it")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


@pytest.mark.parametrize(
    ("name", "words"), [("missing/new", "No such file or directory"), ("disk.raw/new", "Not a directory")]
)
def test_dry_run_says_of_a_new_file_what_the_run_would(name: str, words: str, disk: Path, tmp_path: Path) -> None:
    dry = ntx("copy", disk, tmp_path / name, "--dry-run")
    ran = ntx("copy", disk, tmp_path / name)

    for each in (dry, ran):
        assert_refused(each, 1, f"{tmp_path / name}: cannot be made: {words}")
    assert [path.name for path in tmp_path.iterdir()] == ["disk.raw"]

"""Two names of one file are one file, however they are spelt: nothing is copied onto itself, or over what is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.ntx import assert_refused, ntx
from tests.support.servers import loop_device, qemu_img

MIB = 1024**2


def through_a_folder(path: Path) -> Path:
    (path.parent / "d").mkdir()
    return path.parent / "d" / ".." / path.name


def through_a_linked_folder(path: Path) -> Path:
    (path.parent / "linked").symlink_to(path.parent)
    return path.parent / "linked" / path.name


def relative(path: Path) -> Path:
    return Path(path.name)


def through_a_link(path: Path) -> Path:
    (path.parent / "link").symlink_to(path)
    return path.parent / "link"


def through_a_hard_link(path: Path) -> Path:
    os.link(path, path.parent / "hard")
    return path.parent / "hard"


SPELT = (through_a_folder, through_a_linked_folder, relative)
NAMED = (*SPELT, through_a_link, through_a_hard_link)
Name = Callable[[Path], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(os.urandom(MIB))
    return path


@pytest.mark.parametrize("other", SPELT)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["", "dry"])
def test_a_manifest_is_not_the_new_target(disk: Path, other: Name, dry: list[str], tmp_path: Path) -> None:
    target = tmp_path / "new"

    ran = ntx("copy", disk, target, "--manifest", other(target), *dry, cwd=tmp_path)

    assert_refused(ran, 2, "--manifest", "are one file")
    assert not target.exists()


@pytest.mark.parametrize("other", NAMED)
def test_extents_are_not_read_from_the_target(disk: Path, other: Name, tmp_path: Path) -> None:
    extents = tmp_path / "extents.json"
    text = json.dumps([{"offset": 0, "length": 4096, "type": "data"}]).ljust(MIB)
    extents.write_text(text)

    ran = ntx("copy", disk, other(extents), "--extents", extents, "--overwrite", cwd=tmp_path)

    assert_refused(ran, 2, "--extents", "are one file")
    assert extents.read_text() == text


@pytest.mark.parametrize("other", NAMED)
def test_a_target_is_not_the_source(disk: Path, other: Name, tmp_path: Path) -> None:
    before = disk.read_bytes()

    ran = ntx("copy", disk, other(disk), "--overwrite", cwd=tmp_path)

    assert_refused(ran, 2, "is the source itself")
    assert disk.read_bytes() == before


@pytest.mark.parametrize("order", [0, 1], ids=["file to device", "device to file"])
def test_a_loop_device_is_the_file_behind_it(disk: Path, order: int, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(os.urandom(MIB))
    before = disk.read_bytes()
    with loop_device(disk) as device, loop_device(other) as another:
        pair = [disk, Path(device)] if order == 0 else [Path(device), disk]

        refused = ntx("copy", *pair, "--overwrite", cwd=tmp_path)
        taken = ntx("copy", disk, another, "-q", cwd=tmp_path)

    assert_refused(refused, 2, "is the source itself")
    assert disk.read_bytes() == before
    assert (taken.code, taken.err) == (0, "")
    assert other.read_bytes() == before


@pytest.mark.parametrize("target", ["top.qcow2", "base.qcow2"])
def test_a_target_is_not_an_image_of_the_source(target: str, tmp_path: Path) -> None:
    qemu_img("create", "-q", "-f", "qcow2", str(tmp_path / "base.qcow2"), "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", str(tmp_path / "top.qcow2"))
    before = (tmp_path / target).read_bytes()

    ran = ntx(
        *("copy", tmp_path / "top.qcow2", through_a_link(tmp_path / target), "--overwrite"),
        *("--source-format", "qcow2", "--target-format", "raw"),
        cwd=tmp_path,
    )

    assert_refused(ran, 2, "is the source itself")
    assert (tmp_path / target).read_bytes() == before

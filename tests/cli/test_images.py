"""Disk images that a person names: what is meant has to be said, and then it is done."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.ntx import COMMAND, assert_refused, environment, ntx
from tests.support.servers import loop_device, nbdkit, qemu_img

MIB = 1024**2
SIZE = 3 * MIB + 512


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk, and the same as a QCOW2 image and as a VDI: nobody writes to them."""
    folder = tmp_path_factory.mktemp("images")
    disk = folder / "disk.raw"
    disk.write_bytes(os.urandom(MIB) + bytes(MIB) + os.urandom(MIB + 512))
    qemu_img("convert", "-f", "raw", "-O", "qcow2", str(disk), str(folder / "disk.qcow2"))
    qemu_img("convert", "-f", "raw", "-O", "vdi", str(disk), str(folder / "named-otherwise"))
    return folder


@pytest.mark.parametrize(
    ("command", "image", "remedy"),
    [
        ("copy", "disk.qcow2", "--source-format qcow2"),
        ("checksum", "disk.qcow2", "--source-format qcow2"),
        ("map", "named-otherwise", "qemu-img convert -f vdi -O raw"),
    ],
)
def test_source_that_looks_like_an_image_is_refused_until_somebody_says_what_is_meant(
    command: str, image: str, remedy: str, folder: Path, tmp_path: Path
) -> None:
    more = [tmp_path / "new.raw"] if command == "copy" else []

    ran = ntx(command, folder / image, *more)

    assert_refused(ran, 2, "looks like an image", "--source-format raw", remedy)
    assert list(tmp_path.iterdir()) == []


def test_raw_means_the_bytes_of_the_file(folder: Path, tmp_path: Path) -> None:
    ran = ntx("copy", folder / "disk.qcow2", tmp_path / "new.raw", "--source-format", "raw")

    assert ran.code == 0, ran.err
    assert (tmp_path / "new.raw").read_bytes() == (folder / "disk.qcow2").read_bytes()


def test_qcow2_means_the_disk_inside(folder: Path, tmp_path: Path) -> None:
    said = (folder / "disk.qcow2", "--source-format", "qcow2")

    copied = ntx("copy", *said, tmp_path / "new.raw", "--verify")
    digest = ntx("checksum", *said, "--json").json["digest"]
    extents = ntx("map", *said, "--json").json
    info = ntx("info", *said, "--json").json

    assert copied.code == 0, copied.err
    assert (tmp_path / "new.raw").read_bytes() == (folder / "disk.raw").read_bytes()
    assert digest == ntx("checksum", folder / "disk.raw", "--json").json["digest"]
    assert {"offset": MIB, "length": MIB, "type": "zero"} in extents
    assert info["size"] == SIZE


def test_info_names_what_a_file_looks_like_and_refuses_nothing(folder: Path) -> None:
    found = {name: ntx("info", folder / name, "--json").json["looks_like"] for name in ("disk.qcow2", "disk.raw")}
    shown = ntx("info", folder / "named-otherwise")

    assert found == {"disk.qcow2": "qcow2", "disk.raw": None}
    assert "vdi" in shown.out


def test_target_named_like_an_image_is_refused_until_somebody_says_what_is_meant(tmp_path: Path) -> None:
    refused = ntx("copy", "pattern:64K", tmp_path / "new.qcow2")
    dry = ntx("copy", "pattern:64K", tmp_path / "new.VMDK", "--dry-run")

    assert_refused(refused, 2, "new.qcow2: is named like an image in qcow2 format", "--target-format raw")
    assert_refused(dry, 2, "new.VMDK: is named like an image in vmdk format", "--target-format raw")
    assert list(tmp_path.iterdir()) == []


def test_target_that_looks_like_an_image_is_refused_even_to_be_overwritten(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes((folder / "disk.qcow2").read_bytes())
    size = str(target.stat().st_size)

    refused = ntx("copy", f"pattern:{size}", target, "--overwrite")
    before = target.read_bytes()
    said = ntx("copy", f"pattern:{size}", target, "--overwrite", "--target-format", "raw")

    assert_refused(refused, 2, "looks like an image in qcow2 format", "--target-format raw")
    assert before == (folder / "disk.qcow2").read_bytes()
    assert said.code == 0, said.err
    assert target.read_bytes()[8:16] == (8).to_bytes(8, "big")


def test_raw_target_may_have_any_name(tmp_path: Path) -> None:
    ran = ntx("copy", "pattern:64K", tmp_path / "new.qcow2", "--target-format", "raw")

    assert ran.code == 0, ran.err
    assert (tmp_path / "new.qcow2").stat().st_size == 65536


def test_qcow2_target_is_a_new_image_with_the_disk_in_it(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.qcow2"

    dry = ntx("copy", folder / "disk.raw", target, "--target-format", "qcow2", "--dry-run", "--json")
    ran = ntx("copy", folder / "disk.raw", target, "--target-format", "qcow2", "--verify", "--json")
    again = ntx("copy", folder / "disk.raw", target, "--target-format", "qcow2", "--overwrite")

    assert ran.code == 0, ran.err
    assert dry.json["target_size"] == ran.json["target_size"] == SIZE
    assert [path.name for path in tmp_path.iterdir()] == ["new.qcow2"]
    qemu_img("check", "-q", str(target))
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "qcow2", str(folder / "disk.raw"), str(target))
    assert target.stat().st_blocks * 512 < SIZE
    assert_refused(again, 2, "only made new", "remove it")


def test_qcow2_target_has_whole_sectors(tmp_path: Path) -> None:
    dry = ntx("copy", "pattern:1000", tmp_path / "a", "--target-format", "qcow2", "--json", "-n")
    ran = ntx("copy", "pattern:1000", tmp_path / "a", "--target-format", "qcow2", "--json", "--verify")

    assert dry.json["target_size"] == ran.json["target_size"] == 1024


def test_qcow2_target_that_was_not_finished_leaves_nothing(tmp_path: Path) -> None:
    arguments = ["copy", "pattern:1G", str(tmp_path / "a"), "--target-format", "qcow2", "--bandwidth", "1M"]
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--progress", "json"], env=environment(), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    process.stderr.readline()

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)

    assert process.returncode == 143
    assert list(tmp_path.iterdir()) == []


def test_export_is_the_bytes_of_a_disk_whatever_they_look_like(folder: Path, tmp_path: Path) -> None:
    with nbdkit("-r", "file", str(folder / "disk.qcow2")) as uri:
        ran = ntx("copy", uri, tmp_path / "new.raw")
        refused = ntx("copy", uri, tmp_path / "other.raw", "--source-format", "qcow2")

    assert ran.code == 0, ran.err
    assert (tmp_path / "new.raw").read_bytes() == (folder / "disk.qcow2").read_bytes()
    assert_refused(refused, 2, "only a file can be an image")


def test_block_device_is_looked_at_as_a_file_is(folder: Path) -> None:
    image = folder / "on-a-device.raw"
    image.write_bytes((folder / "disk.qcow2").read_bytes())

    with loop_device(image) as device:
        refused = ntx("copy", device, "null:")
        said = ntx("copy", device, "null:", "--source-format", "raw")

    assert_refused(refused, 2, "looks like an image in qcow2 format", "--source-format raw")
    assert said.code == 0, said.err


def test_backing_dir_is_only_for_images(folder: Path) -> None:
    assert_refused(ntx("map", folder / "disk.raw", "--backing-dir", folder), 2, "--source-format qcow2")


@pytest.mark.parametrize("target", ["top.qcow2", "base.raw"])
def test_image_is_not_copied_onto_itself_nor_onto_one_below_it(target: str, tmp_path: Path) -> None:
    size = 192 * 1024 + 512  # of the image itself, and of what is below it
    (tmp_path / "base.raw").write_bytes(os.urandom(size))
    top = tmp_path / "top.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", str(top))
    os.truncate(top, size)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    arguments = [tmp_path / target, "--source-format", "qcow2", "--target-format", "raw", "--overwrite"]
    ran = ntx("copy", top, *arguments)

    assert_refused(ran, 2, "is the source itself, or an image below it")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

"""The header of an image, read without qemu: as qemu-img reads it, and nothing believed that cannot be."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from pathlib import Path

import pytest

from ntxengine.images.header import BadHeader, read_header
from ntxengine.units import MIB
from tests.repository.chains import make, put, qemu_img

OPTIONS = [
    "compat=0.10",
    "compat=1.1",
    "compat=1.1,cluster_size=512",
    "compat=1.1,cluster_size=2M",
    "compat=1.1,extended_l2=on",
    "compat=1.1,preallocation=metadata",
    "compat=1.1,compression_type=zstd",
]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_header_says_what_qemu_img_says(tmp_path: Path, options: str) -> None:
    base = make(tmp_path / "base.qcow2", MIB, options)
    put(base, "write -P 3 0 100k")
    image = tmp_path / "overlay ü.qcow2"
    # Without preallocation, which an overlay cannot have in every version.
    plain = options.replace(",preallocation=metadata", "")
    qemu_img("create", "-q", "-f", "qcow2", "-o", plain, "-b", "./base.qcow2", "-F", "qcow2", image, 3 * MIB)

    found = [read_header(path) for path in (base, image)]

    by_qemu = [json.loads(qemu_img("info", "--output=json", "-f", "qcow2", path)) for path in (base, image)]
    assert [each.size for each in found] == [each["virtual-size"] for each in by_qemu]
    assert [each.backing for each in found] == ["", by_qemu[1]["backing-filename"]]
    assert [each.backing_format for each in found] == ["", by_qemu[1]["backing-filename-format"]]
    assert all(each.version == (2 if "0.10" in options else 3) for each in found)
    assert not any(
        each.is_corrupt or each.has_external_data or each.unknown_features or each.crypt_method for each in found
    )


def test_an_image_with_its_data_elsewhere_says_where(tmp_path: Path) -> None:
    image = make(tmp_path / "a.qcow2", MIB, f"compat=1.1,data_file={tmp_path}/a.raw")

    found = read_header(image)

    assert found.has_external_data
    assert found.data_file == f"{tmp_path}/a.raw"


def patched(path: Path, offset: int, layout: str, *values: object) -> Path:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack(layout, *values))
    return path


HOSTILE = {
    "no magic": (0, ">I", 0),
    "version 4": (4, ">I", 4),
    "a name behind the first cluster": (8, ">QI", 1 << 40, 10),
    "a name longer than qemu takes": (16, ">I", 1024),
    "clusters of 2^63 bytes": (20, ">I", 63),
    "clusters of one byte": (20, ">I", 0),
    "a negative size": (24, ">q", -1),
    "an L1 table of 32 GiB": (36, ">I", 0xFFFFFFFF),
    "an L1 table in the header": (40, ">Q", 8),
    "an L1 table behind the file": (40, ">Q", 1 << 50),
    "no reference counts": (48, ">Q", 0),
    "a refcount table behind the file": (48, ">Q", 1 << 50),
    "a header longer than a cluster": (100, ">I", 1 << 20),
    "a header of no bytes": (100, ">I", 0),
    "an extension without end": (112, ">II", 0xE2792ACA, 0xFFFFFFF0),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_in_a_header_is_refused(tmp_path: Path, name: str) -> None:
    make(tmp_path / "base.qcow2", MIB)
    image = make(tmp_path / "a.qcow2", MIB, backing=tmp_path / "base.qcow2")

    patched(image, *HOSTILE[name])

    with pytest.raises(BadHeader):
        read_header(image)


def test_a_name_with_a_nul_which_qemu_reads_as_another_one_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "base.qcow2", MIB)
    image = make(tmp_path / "a.qcow2", MIB, backing=tmp_path / "base.qcow2")
    (offset,) = struct.unpack_from(">Q", image.read_bytes(), 8)

    patched(image, offset + 5, ">B", 0)

    with pytest.raises(BadHeader, match="has a NUL in its backing file name"):
        read_header(image)


@pytest.mark.parametrize("value", [0, 0xFFFFFFFF, 0x01010101])
def test_four_bytes_overwritten_are_seen_wherever_qemu_cannot_read_on(tmp_path: Path, value: int) -> None:
    make(tmp_path / "base.qcow2", MIB)
    image = make(tmp_path / "a.qcow2", MIB, backing=tmp_path / "base.qcow2")
    whole = image.read_bytes()
    refused, missed = [], []
    for offset in range(0, 112, 4):
        patched(image, offset, ">I", value)
        if not is_usable(image):
            refused.append(offset)
        elif subprocess.run(["qemu-img", "info", image], capture_output=True, check=False).returncode != 0:
            missed.append(offset)
        image.write_bytes(whole)

    assert missed == []
    assert len(refused) >= 8


def is_usable(image: Path) -> bool:
    try:
        header = read_header(image)
    except BadHeader:
        return False
    is_odd = header.is_corrupt or header.has_external_data or header.unknown_features or header.crypt_method
    return not is_odd and header.size == MIB


@pytest.mark.parametrize("length", [0, 3, 4, 71, 72, 103, 104, 400, 65536])
def test_an_image_that_was_cut_off_is_refused(tmp_path: Path, length: int) -> None:
    image = make(tmp_path / "a.qcow2", MIB)

    os.truncate(image, length)

    with pytest.raises(BadHeader):
        read_header(image)


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "link"])
def test_only_a_regular_file_is_opened_and_nobody_waited_for(tmp_path: Path, kind: str) -> None:
    image = tmp_path / "a.qcow2"
    if kind == "folder":
        image.mkdir()
    elif kind == "fifo":
        os.mkfifo(image)
    elif kind == "link":
        image.symlink_to(make(tmp_path / "b.qcow2", MIB))

    with pytest.raises(BadHeader):
        read_header(image)


def test_extensions_behind_the_first_page_are_found(tmp_path: Path) -> None:
    make(tmp_path / "base.qcow2", MIB)
    image = make(tmp_path / "a.qcow2", MIB, backing=tmp_path / "base.qcow2")
    name = os.fsencode(tmp_path / "base.qcow2")
    patched(image, 112, f">II6000sII5s3xII{len(name)}s", 1, 6000, b"", 0xE2792ACA, 5, b"qcow2", 0, 0, name)
    patched(image, 8, ">QI", 112 + 8 + 6000 + 16 + 8, len(name))

    found = read_header(image)

    assert (found.backing, found.backing_format) == (os.fsdecode(name), "qcow2")
    assert json.loads(qemu_img("info", "--output=json", image))["backing-filename"] == os.fsdecode(name)

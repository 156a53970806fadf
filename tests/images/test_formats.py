"""What looks like an image: real ones of every format that qemu makes, and marks of those that it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ntxengine.images.formats import IMAGE_FORMATS, looks_like, named_like
from tests.support.servers import qemu_img

MADE = [
    ("qcow2", ()),
    ("qcow2", ("-o", "compat=0.10")),
    ("qed", ()),
    ("vmdk", ()),
    ("vmdk", ("-o", "subformat=monolithicFlat")),
    ("vmdk", ("-o", "subformat=streamOptimized")),
    ("vhdx", ()),
    ("vdi", ()),
    ("vpc", ()),
    ("vpc", ("-o", "subformat=fixed")),
    ("parallels", ()),
]


@pytest.mark.parametrize(("qemu_name", "options"), MADE, ids=lambda value: "-".join(value) if value else "")
def test_image_that_qemu_makes_is_known(qemu_name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "image"

    qemu_img("create", "-q", "-f", qemu_name, *options, str(path), "4M")

    found = looks_like(path)
    assert found is not None
    assert found.qemu_name == qemu_name


@pytest.mark.parametrize(
    ("offset", "mark", "name"),
    [
        (0, b"COWD", "vmdk"),
        (0, b"\xbe\xba\xfe\xca\0\0\0\0", "vmdk"),
        (-511, b"conectix", "vhd"),
        (-512, b"koly", "dmg"),
    ],
)
def test_mark_at_its_place_is_known(offset: int, mark: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    at = offset % 8192
    path.write_bytes(bytes(at) + mark + bytes(8192 - at - len(mark)))

    found = looks_like(path)

    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("contents", [b"", b"QFI", b"\0QFI\xfb", bytes(64) + b"\x7f\x10\xda", os.urandom(4) * 300])
def test_other_bytes_are_no_image(contents: bytes, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(contents)

    assert looks_like(path) is None


def test_what_cannot_be_read_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert looks_like(tmp_path / "pipe") is None
    assert looks_like(tmp_path / "missing") is None
    assert looks_like(tmp_path) is None


@pytest.mark.parametrize("name", ["a.QCOW2", "a.vmdk", "a.vhdx", "a.vdi", "a.vhd", "a.b.qed"])
def test_name_of_an_image_is_known_by_its_end(name: str) -> None:
    assert named_like(Path(name)) is not None
    assert named_like(Path(name + ".raw")) is None
    assert named_like(Path(name.rpartition(".")[2])) is None


def test_no_two_formats_share_a_mark_or_a_suffix() -> None:
    marks = [mark for format in IMAGE_FORMATS for mark in format.marks]
    suffixes = [suffix for format in IMAGE_FORMATS for suffix in format.suffixes]

    assert len(set(marks)) == len(marks)
    assert len(set(suffixes)) == len(suffixes)

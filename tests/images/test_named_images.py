"""Which files are opened for an image that a person names: those beside it, and no others whatever it says."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.open import open_source
from ntxengine.errors import NtxError, OptionsError
from ntxengine.images import named as named_image
from ntxengine.images.endpoints import Format, SourceFormat, open_named_source
from ntxengine.images.named import chain_of
from ntxengine.images.targets import TargetSpec, open_named_target
from tests.support.servers import qemu_img

MIB = 1024**2


def image(path: Path, *, below: str = "", below_format: str = "qcow2") -> Path:
    """Make an image of 1 MiB that says that `below` is below it, whatever that is."""
    backing = ("-u", "-b", below, "-F", below_format) if below else ()
    qemu_img("create", "-q", "-f", "qcow2", *backing, str(path), "1M")
    return path


def patch_name(path: Path, old: str, new: str) -> None:
    """Let an image say what qemu-img refuses to write."""
    data = path.read_bytes()
    assert len(old) == len(new)
    assert old.encode() in data
    path.write_bytes(data.replace(old.encode(), new.encode()))


@pytest.mark.parametrize("base_format", ["qcow2", "raw"])
async def test_chain_beside_the_image_gives_the_bytes_that_qemu_reads(base_format: str, tmp_path: Path) -> None:
    raw, base, top, by_qemu = (tmp_path / name for name in ("raw", "base", "top", "by-qemu"))
    raw.write_bytes(os.urandom(MIB))
    qemu_img("convert", "-f", "raw", "-O", base_format, str(raw), str(base))
    image(tmp_path / "middle", below="base", below_format=base_format)
    image(top, below="middle")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", str(top), str(by_qemu))

    async with open_named_source(str(top), SourceFormat("qcow2")) as device:
        async with open_named_target(TargetSpec(str(tmp_path / "ours"), device.size), device) as target:
            await copy(device, target.device, [whole(device.size)], options=CopyOptions())

    assert (tmp_path / "ours").read_bytes() == by_qemu.read_bytes() == raw.read_bytes()


async def test_raw_file_below_an_image_is_raw_whatever_it_looks_like(tmp_path: Path) -> None:
    base = image(tmp_path / "base", below="/etc/passwd")
    size = base.stat().st_size
    qemu_img("create", "-q", "-f", "qcow2", "-u", "-b", "base", "-F", "raw", str(tmp_path / "top"), str(size))

    chain = chain_of(tmp_path / "top")
    async with open_named_source(str(tmp_path / "top"), SourceFormat("qcow2")) as device:
        async with open_named_target(TargetSpec(str(tmp_path / "ours"), device.size), device) as target:
            await copy(device, target.device, [whole(device.size)], options=CopyOptions())

    assert (chain.images, chain.root_format) == ((tmp_path / "top", base), "raw")
    assert (tmp_path / "ours").read_bytes()[:size] == base.read_bytes()


def test_image_below_in_another_folder_needs_that_folder_to_be_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b" / "c").mkdir(parents=True)
    base = image(tmp_path / "b" / "c" / "base")
    middle = image(tmp_path / "b" / "middle", below="c/base")
    top = image(tmp_path / "a" / "top", below="../b/middle")

    with pytest.raises(OptionsError, match=f"--backing-dir {tmp_path}/b"):
        chain_of(top)

    assert list(chain_of(top, [tmp_path / "b"]).images) == [top, middle, base]
    with pytest.raises(OptionsError, match="--backing-dir"):
        chain_of(top, [tmp_path / "a"])


def test_absolute_name_beside_the_image_is_followed(tmp_path: Path) -> None:
    base = image(tmp_path / "base")

    assert chain_of(image(tmp_path / "top", below=str(base))).images == (tmp_path / "top", base)


def link_outside(folder: Path) -> str:
    (folder / "link").symlink_to("/etc/passwd")
    return "link"


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe")
    return "pipe"


def itself(folder: Path) -> str:
    return "top"


@pytest.mark.parametrize(
    "below",
    [
        "/etc/passwd",
        "../../../../../../../../etc/passwd",
        "/dev/null",
        "missing",
        "file:base",
        "nbd:localhost:1",
        "nbd+unix:///?socket=/run/s",
        'json:{"driver":"file","filename":"/etc/passwd"}',
        link_outside,
        pipe,
        itself,
    ],
    ids=lambda below: below if isinstance(below, str) else below.__name__,
)
def test_hostile_name_is_refused_before_qemu_sees_it(below: str | Callable[[Path], str], tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    image(folder / "base")
    name = below if isinstance(below, str) else below(folder)
    top = image(folder / "top", below="x" * len(name))
    patch_name(top, "x" * len(name), name)

    with pytest.raises(OptionsError, match="top: "):
        chain_of(top)


def test_image_below_in_another_format_is_refused(tmp_path: Path) -> None:
    image(tmp_path / "base")

    with pytest.raises(OptionsError, match="'vmdk' format"):
        chain_of(image(tmp_path / "top", below="base", below_format="vmdk"))


def test_format_of_the_image_below_is_not_guessed(tmp_path: Path) -> None:
    image(tmp_path / "base")
    top = image(tmp_path / "top", below="base")
    data = top.read_bytes()
    extension = struct.pack(">II", 0xE2792ACA, 5)
    assert extension in data
    top.write_bytes(data.replace(extension, struct.pack(">II", 0x12345678, 5)))

    with pytest.raises(OptionsError, match="without its format"):
        chain_of(top)


def test_image_with_its_data_in_another_file_is_refused(tmp_path: Path) -> None:
    top = tmp_path / "top"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/outside,data_file_raw=on", str(top), "1M")

    with pytest.raises(OptionsError, match="data are in another file"):
        chain_of(top)


@pytest.mark.parametrize(
    ("offset", "value", "word"),
    [(32, b"\0\0\0\2", "encrypted"), (79, b"\2", "corrupt"), (72, b"\1", "features that are not known")],
    ids=["encrypted", "corrupt", "unknown feature"],
)
def test_image_with_more_to_it_is_refused(offset: int, value: bytes, word: str, tmp_path: Path) -> None:
    top = image(tmp_path / "top")
    with top.open("r+b") as file:
        file.seek(offset)
        file.write(value)

    with pytest.raises(OptionsError, match=word):
        chain_of(top)


def test_chain_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_image, "MAX_IMAGES", 3)
    image(tmp_path / "0")
    for number in range(1, 4):
        image(tmp_path / str(number), below=str(number - 1))

    assert len(chain_of(tmp_path / "2").images) == 3
    with pytest.raises(OptionsError, match="more than 3 images"):
        chain_of(tmp_path / "3")


@pytest.mark.parametrize("contents", [b"", b"QFI\xfb", os.urandom(4096)])
def test_file_that_is_no_image_is_refused(contents: bytes, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(contents)

    with pytest.raises(OptionsError, match="cannot be read as qcow2"):
        chain_of(path)


def test_missing_image_and_one_on_a_device_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="No such file"):
        chain_of(tmp_path / "missing")
    with pytest.raises(OptionsError, match="is not a regular file"):
        chain_of(Path("/dev/null"))


@pytest.mark.parametrize("format", ["raw", "qcow2"])
async def test_full_disk_names_the_target_and_no_file_or_socket_of_ours(
    format: Format, small_fs: Callable[[str], Path]
) -> None:
    small = small_fs("1m")

    async with open_source("pattern:8M") as source:
        with pytest.raises(NtxError, match=f"^{small}/new: .*No space left"):
            async with open_named_target(TargetSpec(f"{small}/new", source.size, format), source) as target:
                await copy(source, target.device, [whole(source.size)], options=CopyOptions())

    assert list(small.iterdir()) == []


async def test_name_that_qemu_cannot_be_told_is_refused(tmp_path: Path) -> None:
    strange = tmp_path / os.fsdecode(b"caf\xe9")

    async with open_source("pattern:64K") as source:
        with pytest.raises(OptionsError, match="UTF-8"):
            async with open_named_target(TargetSpec(str(strange), source.size, "qcow2"), source):
                pass
    image(tmp_path / "image").rename(strange)
    with pytest.raises(OptionsError, match="UTF-8"):
        chain_of(strange)

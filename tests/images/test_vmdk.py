"""VMDKs, as qemu and libvmdk read them; neither of them wrote them."""

from __future__ import annotations

import hashlib
import os
import random
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from ntxengine.errors import OptionsError, TargetError
from ntxengine.images import vmdk, vmdk_stream
from ntxengine.images.vmdk import FLAT_KINDS, FlatKind, flat_descriptor, geometry_of
from ntxengine.images.vmdk_stream import GRAIN, write_stream
from ntxengine.units import GIB, MIB, TIB
from tests.support.vmdk import libvmdk_reads, qemu_equal, qemu_info

SECTOR = 512
COVERED = 512 * GRAIN  # by a grain table


def write_descriptor(folder: Path, kind: FlatKind, data: bytes) -> Path:
    (folder / "d-flat.vmdk").write_bytes(data)
    path = folder / "d.vmdk"
    path.write_bytes(flat_descriptor(kind, len(data), "d-flat.vmdk", content_id=7, adapter="lsilogic"))
    return path


@pytest.mark.parametrize("kind", FLAT_KINDS)
def test_flat_disk_is_what_its_file_holds(kind: FlatKind, tmp_path: Path) -> None:
    data = os.urandom(3 * MIB + SECTOR)

    path = write_descriptor(tmp_path, kind, data)

    assert hashlib.sha256(libvmdk_reads(path)).digest() == hashlib.sha256(data).digest()
    qemu_equal(path, "vmdk", tmp_path / "d-flat.vmdk")
    info = qemu_info(path, "vmdk")
    assert info["virtual-size"] == len(data) == (tmp_path / "d-flat.vmdk").stat().st_size
    assert info["format-specific"]["data"]["create-type"] == {"vmfs": "vmfs", "flat": "monolithicFlat"}[kind]
    assert info["format-specific"]["data"]["cid"] == 7
    assert info["format-specific"]["data"]["parent-cid"] == 0xFFFFFFFF


@pytest.mark.parametrize(
    ("size", "adapter", "expected"),
    [
        (64 * MIB, "lsilogic", (64, 64, 32)),
        (GIB, "lsilogic", (512, 128, 32)),
        (2 * GIB, "lsilogic", (261, 255, 63)),
        (62 * TIB, "lsilogic", (8287829, 255, 63)),
        (64 * MIB, "ide", (130, 16, 63)),
        (TIB, "ide", (16383, 16, 63)),
        (SECTOR, "lsilogic", (1, 64, 32)),
    ],
)
def test_geometry(size: int, adapter: vmdk.Adapter, expected: tuple[int, int, int]) -> None:
    found = geometry_of(size, adapter)

    assert (found.cylinders, found.heads, found.sectors) == expected


@pytest.mark.parametrize("size", [0, 511, SECTOR + 1, 62 * TIB + SECTOR])
def test_size_that_no_vmdk_has_is_refused(size: int) -> None:
    with pytest.raises(OptionsError, match="a VMDK has whole sectors of 512 bytes, up to"):
        flat_descriptor("flat", size, "d-flat.vmdk", content_id=1, adapter="ide")


@pytest.mark.parametrize("name", ['a"b.vmdk', "a/b.vmdk", "a\nb.vmdk", ""])
def test_name_that_would_be_another_line_is_refused(name: str) -> None:
    with pytest.raises(OptionsError, match="cannot be named in a VMDK"):
        flat_descriptor("flat", MIB, name, content_id=1, adapter="ide")


def test_content_id_that_says_no_parent_is_refused() -> None:
    with pytest.raises(OptionsError, match="content id"):
        flat_descriptor("flat", MIB, "d.vmdk", content_id=0xFFFFFFFF, adapter="ide")


# ------------------------------------------------------------------------------------------------------- streamed


async def stream(data: bytes, path: Path, *, threads: int = 2) -> int:
    parts: list[bytes] = []
    length = await write_stream(
        lambda offset, length: data[offset : offset + length],
        parts.append,
        len(data),
        path.name,
        content_id=9,
        adapter="lsilogic",
        threads=threads,
    )
    path.write_bytes(b"".join(parts))
    assert path.stat().st_size == length
    return length


def some_disk(size: int, seed: int) -> bytes:
    """A disk with data, compressible data, zeros, and zeros that are as long as a table covers."""
    choice = random.Random(seed)
    data = bytearray(size)
    for _ in range(12):
        start = choice.randrange(size)
        length = min(size - start, choice.randrange(1, 3 * GRAIN))
        data[start : start + length] = choice.choice([choice.randbytes(length), b"text " * length])[:length]
    return bytes(data)


@pytest.mark.parametrize(
    "size",
    [SECTOR, GRAIN, GRAIN + SECTOR, MIB + 3 * SECTOR, COVERED, COVERED + GRAIN, 3 * COVERED - SECTOR],
)
async def test_stream_is_what_was_read(size: int, tmp_path: Path) -> None:
    data = some_disk(size, size)
    raw = tmp_path / "d.raw"
    raw.write_bytes(data)
    path = tmp_path / "d.vmdk"

    await stream(data, path)

    subprocess.run(["qemu-img", "check", "-q", "-f", "vmdk", path], check=True)
    qemu_equal(path, "vmdk", raw)
    assert hashlib.sha256(libvmdk_reads(path)).digest() == hashlib.sha256(data).digest()
    info = qemu_info(path, "vmdk")
    assert info["virtual-size"] == size
    assert info["format-specific"]["data"]["create-type"] == "streamOptimized"


async def test_zeros_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "d.vmdk"

    length = await stream(bytes(4 * COVERED), path)

    assert length <= 64 * 1024 + 8 * SECTOR
    assert not any(libvmdk_reads(path))


async def test_tables_name_each_grain_and_nothing_else(tmp_path: Path) -> None:
    """A reader of our own, which takes nothing for granted: markers, tables, directory and footer follow each other."""
    data = some_disk(2 * COVERED + 5 * GRAIN, 5)
    path = tmp_path / "d.vmdk"
    await stream(data, path)
    image = path.read_bytes()

    at, grains, tables, directory = 128 * SECTOR, {}, {}, None
    while True:
        lba, length = struct.unpack_from("<QI", image, at)
        if length:
            grains[lba // 128] = at // SECTOR
            content = zlib.decompress(image[at + 12 : at + 12 + length])
            assert content == data[lba * SECTOR :][:GRAIN].ljust(GRAIN, b"\0")
            at += -(-(12 + length) // SECTOR) * SECTOR
            continue
        (kind,) = struct.unpack_from("<I", image, at + 12)
        at += SECTOR
        if kind == 1:
            tables[at // SECTOR] = struct.unpack_from("<512I", image, at)
        elif kind == 2:
            directory = (at // SECTOR, struct.unpack_from("<3I", image, at))
        elif kind == 3:
            footer = image[at : at + SECTOR]
        else:
            break
        at += lba * SECTOR

    assert at == len(image)
    assert directory is not None
    named = {}
    for index, place in enumerate(directory[1]):
        if place:
            for entry, grain in enumerate(tables.pop(place)):
                if grain:
                    named[index * 512 + entry] = grain
    assert not tables
    assert named == grains
    header = image[:SECTOR]
    (front,) = struct.unpack_from("<Q", header, 56)
    (back,) = struct.unpack_from("<Q", footer, 56)
    assert front == 2**64 - 1
    assert back == directory[0]
    assert header[:56] == footer[:56]
    assert struct.unpack_from("<I", header, 4) == (3,)


async def test_image_does_not_depend_on_how_many_threads_compress(tmp_path: Path) -> None:
    data = some_disk(COVERED, 3)

    await stream(data, tmp_path / "d.vmdk", threads=1)
    one = (tmp_path / "d.vmdk").read_bytes()
    await stream(data, tmp_path / "d.vmdk", threads=5)

    assert (tmp_path / "d.vmdk").read_bytes() == one


async def test_what_is_read_ahead_is_bounded() -> None:
    read: list[int] = []
    most = 0

    def take(data: bytes) -> None:
        nonlocal most
        most = max(most, len(read))
        read.clear()

    def give(offset: int, length: int) -> bytes:
        read.append(offset)
        return os.urandom(length)

    await write_stream(give, take, 64 * MIB, "d.vmdk", content_id=1, adapter="ide", threads=2)

    assert most <= 5


async def test_holes_are_not_read() -> None:
    read: list[int] = []

    def give(offset: int, length: int) -> bytes:
        read.append(offset)
        return b"x" * length

    await write_stream(
        give,
        lambda data: None,
        64 * MIB,
        "d.vmdk",
        skip=lambda offset: offset if offset > 40 * MIB else 40 * MIB + SECTOR,
        content_id=1,
        adapter="ide",
    )

    assert min(read) == 40 * MIB
    assert len(read) == 24


async def test_first_error_of_a_reader_is_raised_and_nothing_goes_on() -> None:
    def give(offset: int, length: int) -> bytes:
        if offset >= 8 * MIB:
            raise TargetError(f"gone at {offset}")
        return b"x" * length

    written = []
    with pytest.raises(TargetError, match="gone at 8388608"):
        await write_stream(give, written.append, 64 * MIB, "d.vmdk", content_id=1, adapter="ide")

    assert 0 < len(written) <= 9


async def test_image_that_passes_two_tib_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vmdk_stream, "_MAX_PLACE", 1024)

    with pytest.raises(TargetError, match="passes 2 TiB"):
        await write_stream(
            lambda offset, length: os.urandom(length), lambda data: None, 2 * MIB, "d.vmdk", content_id=1, adapter="ide"
        )

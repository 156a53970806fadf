"""Byte-exact copies between real ends: every source, every target, odd sizes."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

from ntxengine.dataplane.copy import CopyOptions, CopyReport, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.units import BLOCK_SIZE, GIB, KIB, MIB
from tests.support.servers import loop_device, nbdkit, qemu_img, qemu_nbd

SIZES = [0, 1, 511, 512, 513, 64 * KIB - 1, 64 * KIB + 512, 10 * MIB + 512, 5 * GIB]
SOURCES = ["file", "loop", "nbd"]
TARGETS = ["qemu-raw", "qemu-qcow2", "nbdkit-memory", "nbdkit-file", "file"]


def make_disk(path: Path, size: int) -> None:
    """Fill a file with runs of random bytes, written zeros and holes; large ones are mostly holes."""
    rng = random.Random(size)
    with open(path, "wb") as file:
        file.truncate(size)
        at = 0
        while at < size:
            run = min(rng.choice([1, 511, 4 * KIB, 70 * KIB, 200 * KIB]), size - at)
            kind = rng.choice(["data", "zeros", "hole"])
            file.seek(at)
            if kind == "data":
                file.write(rng.randbytes(run))
            elif kind == "zeros":
                file.write(bytes(run))
            at += run if size < GIB else run + rng.randrange(200 * MIB)


def digest_of(path: Path) -> str:
    """The disk digest as docs/repository.md defines it, with the library and without our code."""
    state = xxhash.xxh3_128()
    size = path.stat().st_size
    zero = bytes(BLOCK_SIZE)
    with open(path, "rb") as file:
        while block := file.read(BLOCK_SIZE):
            state.update(bytes(16) if block == zero[: len(block)] else xxhash.xxh3_128_digest(block))
    state.update(size.to_bytes(8, "little"))
    return state.hexdigest()


async def run_copy(source: str, target: str, **options: object) -> tuple[CopyReport, str]:
    """Copy the whole of `source`; return the report and the disk digest."""
    async with open_source(source) as device, open_target(target, source=device) as to:
        with Manifest.temporary(size=device.size) as manifest:
            chosen = CopyOptions(target_is_zero=to.is_zero, **options)  # type: ignore[arg-type]
            report = await copy(
                device, to.device, [whole(device.size)], options=chosen, manifest=manifest, bytes_expected=device.size
            )
            return report, manifest.seal()


@contextlib.contextmanager
def source_of(kind: str, disk: Path) -> Iterator[str]:
    if kind == "file":
        yield str(disk)
    elif kind == "loop":
        with loop_device(disk, "--read-only") as device:
            yield device
    elif disk.stat().st_size % 512 == 0:
        with qemu_nbd(disk, "-r") as uri:
            yield uri
    else:  # qemu-nbd would round the size up
        with nbdkit("-r", "file", str(disk)) as uri:
            yield uri


@contextlib.contextmanager
def target_of(kind: str, size: int, result: Path) -> Iterator[str]:
    """Yield a target; afterwards `result` holds what it stored, as raw."""
    image = result.with_suffix(".image")
    if kind == "file":
        yield str(result)
    elif kind == "nbdkit-memory":
        with nbdkit("memory", str(size)) as uri:
            yield uri
            qemu_img("convert", "-f", "raw", "-O", "raw", uri, str(result))
    elif kind == "nbdkit-file":
        image.touch()
        os.truncate(image, size)
        with nbdkit("file", str(image)) as uri:
            yield uri
        image.rename(result)
    else:
        format = kind.removeprefix("qemu-")
        if format == "raw":
            image.touch()
            os.truncate(image, size)
        else:
            qemu_img("create", "-q", "-f", "qcow2", str(image), str(size))
        with qemu_nbd(image, format=format) as uri:
            yield uri
        if format == "raw":
            image.rename(result)
        else:
            qemu_img("check", "-q", str(image))
            qemu_img("convert", "-f", "qcow2", "-O", "raw", str(image), str(result))
            os.truncate(result, size)


def cases() -> list[tuple[str, str, int]]:
    """Every source with every target and size: block devices have whole sectors, the large disk meets each end once."""
    small = [
        (source, target, size)
        for source in SOURCES
        for target in TARGETS
        for size in SIZES
        if size < GIB and (source != "loop" or size % 512 == 0)
    ]
    large = [
        ("file", "file"),
        ("nbd", "qemu-qcow2"),
        ("loop", "nbdkit-memory"),
        ("file", "qemu-raw"),
        ("nbd", "nbdkit-file"),
    ]
    return small + [(source, target, 5 * GIB) for source, target in large]


@pytest.mark.parametrize(("source", "target", "size"), cases())
async def test_copy_is_byte_exact(tmp_path: Path, source: str, target: str, size: int) -> None:
    disk, result = tmp_path / "disk", tmp_path / "result"
    make_disk(disk, size)

    with source_of(source, disk) as from_uri, target_of(target, size, result) as to_uri:
        report, digest = await run_copy(from_uri, to_uri)

    assert report.bytes_done == size
    # The comparison knows holes; a target may be longer, rounded up to sectors by its server.
    assert result.stat().st_size >= size
    os.truncate(result, size)
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "raw", str(disk), str(result)) or size == 0
    if size < GIB:
        assert disk.read_bytes() == result.read_bytes()
        assert digest == digest_of(disk)


@pytest.mark.parametrize(
    "server",
    [
        ["--no-sr", "memory", "3M"],
        ["--filter=nozero", "memory", "3M"],
        ["--filter=multi-conn", "memory", "3M", "multi-conn-mode=disable"],
        ["--filter=limit", "file", "IMAGE", "limit=1"],
        ["--filter=blocksize-policy", "memory", "3M", "blocksize-minimum=4096", "blocksize-error-policy=error"],
        [
            "--filter=blocksize-policy",
            "memory",
            "3M",
            "blocksize-minimum=65536",
            "blocksize-preferred=65536",
            "blocksize-maximum=131072",
            "blocksize-error-policy=error",
        ],
        ["--filter=noextents", "memory", "3M"],
        ["--mask-handshake=0", "memory", "3M"],
        ["--mask-handshake=1", "memory", "3M"],
        ["--filter=checkwrite", "file", "DISK"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
async def test_odd_servers_are_written_and_read_back_exactly(tmp_path: Path, server: list[str]) -> None:
    disk, image, result = tmp_path / "disk", tmp_path / "image", tmp_path / "result"
    make_disk(disk, 3 * MIB)
    image.write_bytes(bytes(3 * MIB))
    arguments = [argument.replace("DISK", str(disk)).replace("IMAGE", str(image)) for argument in server]

    with nbdkit(*arguments) as uri:
        await run_copy(str(disk), uri)
        if "memory" in server:
            await run_copy(uri, str(result))

    # checkwrite has compared already; a server that permits one connection may not yet have let go of the first.
    if "IMAGE" in server:
        assert disk.read_bytes() == image.read_bytes()
    elif "memory" in server:
        assert disk.read_bytes() == result.read_bytes()


async def test_export_that_permits_one_connection_is_given_one(tmp_path: Path) -> None:
    disk, image = tmp_path / "disk", tmp_path / "image"
    make_disk(disk, 40 * MIB)
    image.touch()
    os.truncate(image, 40 * MIB)

    with qemu_nbd(image, shared=1) as uri:
        report, _ = await run_copy(str(disk), uri, connections=8)

    assert report.connections == 1
    assert disk.read_bytes() == image.read_bytes()


async def test_minimum_block_of_a_4k_device_is_honoured(tmp_path: Path) -> None:
    disk, image = tmp_path / "disk", tmp_path / "image"
    make_disk(disk, 4 * MIB)
    image.touch()
    os.truncate(image, 4 * MIB)

    with loop_device(image, "--sector-size", "4096") as device, qemu_nbd(device, "--cache=none") as uri:
        await run_copy(str(disk), uri)

    assert disk.read_bytes() == image.read_bytes()


async def test_digest_does_not_depend_on_how_it_was_read(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    make_disk(disk, 10 * MIB + 512)
    digests = set()

    for connections, request_size in [(1, 64 * KIB), (2, MIB), (5, 192 * KIB), (8, 32 * MIB)]:
        _, digest = await run_copy(str(disk), "null:", connections=connections, request_size=request_size)
        digests.add(digest)

    assert digests == {digest_of(disk)}

"""Images whose clusters are read by us read as qemu reads them; what cannot be read so, is read through qemu."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from pathlib import Path

import pytest

from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import ToolError
from ntxengine.images import cluster_map as clusters
from ntxengine.images import open as opening
from ntxengine.images.cluster_map import map_clusters
from ntxengine.images.open import open_image
from ntxengine.images.qemu_nbd import QemuNbd
from ntxengine.images.served import ImageFile
from ntxengine.units import MIB
from tests.repository.builders import write_manifest
from tests.repository.chains import (
    SIZE,
    as_qemu_reads,
    as_we_read,
    can_be_mapped,
    make,
    put,
    qemu_img,
    random_chain,
    reason_of,
)

ROUNDS = 30


@pytest.fixture(autouse=True)
def _not_by_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most images here could be read without qemu-img."""
    monkeypatch.setattr(opening, "WAYS", opening.WAYS[1:])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_a_random_chain_reads_as_qemu_reads_it(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)

    chain = random_chain(dice, tmp_path)

    assert await as_we_read(chain) == as_qemu_reads(chain)
    if dice.random() < 0.5:  # a file that lost its end: qemu reads zeros there
        victim = dice.choice(chain)
        os.truncate(victim, max(4096, victim.stat().st_size - dice.randint(1, 200_000)))
        if await can_be_mapped(chain):
            assert await as_we_read(chain) == as_qemu_reads(chain)


@pytest.mark.parametrize("size", [512, 512 * 3, MIB + 512, 5 * 512 * 127])
async def test_sizes_that_are_no_whole_clusters(tmp_path: Path, size: int) -> None:
    path = make(tmp_path / "a.qcow2", size)
    put(path, f"write -P 3 0 {size}", "write -P 4 0 512")

    assert await as_we_read([path]) == as_qemu_reads([path])


async def test_zero_clusters_hide_what_lies_below(tmp_path: Path) -> None:
    base = make(tmp_path / "base.qcow2", SIZE)
    put(base, f"write -P 1 0 {SIZE}")
    top = make(tmp_path / "top.qcow2", SIZE, backing=base)
    put(top, "write -z 64k 128k", "write -z -u 512k 64k", "write -P 2 600k 512")

    data = await as_we_read([top, base])

    assert data == as_qemu_reads([top, base])
    assert data[64 * 1024 : 192 * 1024] == bytes(128 * 1024)


@pytest.mark.parametrize(("below", "above"), [(MIB - 512, SIZE), (SIZE, MIB - 512)])
async def test_a_backing_file_of_another_size(tmp_path: Path, below: int, above: int) -> None:
    base = make(tmp_path / "base.qcow2", below)
    put(base, f"write -P 1 0 {below}")
    top = make(tmp_path / "top.qcow2", above, backing=base)

    data = await as_we_read([top, base])

    assert data == as_qemu_reads([top, base])
    assert data == (b"\1" * min(below, above)).ljust(above, b"\0")


@pytest.mark.parametrize("lost", [1, 511, 512, 4096, 65535, 65536, 100_000])
@pytest.mark.parametrize("options", ["", "preallocation=metadata"])
async def test_behind_the_end_of_its_file_an_image_reads_as_zero(tmp_path: Path, lost: int, options: str) -> None:
    path = make(tmp_path / "a.qcow2", MIB, options)
    put(path, f"write -P 7 0 {MIB}")
    os.truncate(path, path.stat().st_size - lost)

    data = await as_we_read([path])

    assert data == as_qemu_reads([path])
    assert data.count(7) == MIB - lost


async def test_an_empty_disk_has_one_zero_extent(tmp_path: Path) -> None:
    path = make(tmp_path / "a.qcow2", 2**40)

    async with map_clusters([path]) as found:
        assert found.size == 2**40
        assert found.extents.tolist() == [(0, 2**40, 0, 0, 1)]


async def test_only_the_chain_that_was_given_is_opened(tmp_path: Path) -> None:
    stranger = make(tmp_path / "stranger.qcow2", MIB)
    put(stranger, f"write -P 9 0 {MIB}")
    base = make(tmp_path / "base.qcow2", MIB)
    put(base, f"write -P 1 0 {MIB}")
    top = make(tmp_path / "top.qcow2", MIB, backing=stranger)

    assert await as_we_read([top, base]) == b"\1" * MIB


async def test_verify_of_an_image_reads_no_zeros(tmp_path: Path) -> None:
    path = make(tmp_path / "a.qcow2", 64 * MIB)
    put(path, "write -P 5 32M 1M")
    contents = bytearray(64 * MIB)
    contents[32 * MIB : 33 * MIB] = b"\5" * MIB
    write_manifest(tmp_path / "manifest", bytes(contents))

    with Manifest.open(tmp_path / "manifest") as manifest:
        async with open_image([path]) as device:
            report = await dataplane.verify(device, manifest, options=CopyOptions(), trusts_zeros=True)

    assert report.bytes_read <= MIB


# ------------------------------------------------------------------------------------- what is read through qemu


async def test_a_compressed_image_is_read_through_qemu_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = make(tmp_path / "plain.qcow2", MIB)
    put(plain, "write -P 3 100k 300k")
    packed = tmp_path / "packed.qcow2"
    qemu_img("convert", "-c", "-O", "qcow2", plain, packed)
    caplog.set_level(logging.INFO, "ntxengine.images.open")

    assert await as_we_read([packed], kind="nbd") == as_qemu_reads([plain])
    assert f"{packed}: is read through qemu-nbd: what is at offset 65536 is compressed" in caplog.text


async def test_the_end_of_qemu_img_is_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = make(tmp_path / "plain.qcow2", MIB)
    put(plain, "write -P 3 100k 300k")
    packed = tmp_path / "packed.qcow2"
    qemu_img("convert", "-c", "-O", "qcow2", plain, packed)

    for _ in range(30):  # it ends by itself at the moment when it is killed, or does not
        await reason_of([packed])

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_data_file_is_read_through_qemu(tmp_path: Path) -> None:
    path = make(tmp_path / "a.qcow2", MIB, f"data_file={tmp_path / 'data.raw'}")
    put(path, "write -P 3 100k 300k")

    assert await as_we_read([path], kind="nbd") == as_qemu_reads([path])
    assert "another file" in await reason_of([path])


async def test_an_encrypted_image_is_not_read_as_if_it_were_plain(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    # Not LUKS: qemu-img times its key derivation and refuses to make one on a machine that is busy.
    secret = ("--object", "secret,id=s,data=abc", "-o", "encrypt.format=aes,encrypt.key-secret=s")
    qemu_img("create", "-q", "-f", "qcow2", *secret, path, MIB)

    assert "encrypted" in await reason_of([path])
    with pytest.raises(ToolError):
        async with open_image([path]):
            pass


async def test_more_extents_than_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.qcow2", MIB)
    put(path, *(f"write -P 1 {offset}k 64k" for offset in range(0, 1024, 128)))
    monkeypatch.setattr(clusters, "MAX_EXTENTS", 4)

    assert await as_we_read([path], kind="nbd") == as_qemu_reads([path])
    assert "more than 4 extents" in await reason_of([path])


async def test_an_image_that_is_being_written_is_refused_as_by_qemu(tmp_path: Path) -> None:
    path = make(tmp_path / "a.qcow2", MIB)

    async with QemuNbd(ImageFile(path), read_only=False):
        assert "another process" in await reason_of([path])
        with pytest.raises(ToolError, match="lock"):
            async with open_image([path]):
                pass


async def test_nobody_can_write_to_an_image_that_is_open(tmp_path: Path) -> None:
    base = make(tmp_path / "base.qcow2", MIB)
    top = make(tmp_path / "top.qcow2", MIB, backing=base)

    async with open_image([top, base]) as device:
        assert device.kind == "mapped"
        for path in (top, base):
            with pytest.raises(ToolError, match="lock"):
                async with QemuNbd(ImageFile(path), read_only=False):
                    pass
        async with open_image([top, base]) as other:
            assert other.kind == "mapped"
    async with QemuNbd(ImageFile(top, backing=(base,)), read_only=False):
        pass


async def test_several_images_at_once_leave_no_descriptor(tmp_path: Path) -> None:
    path = make(tmp_path / "a.qcow2", MIB)
    async with open_image([path]):
        pass
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(3):
        async with open_image([path]), open_image([path]):
            pass
        await reason_of([path, tmp_path / "missing"])

    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("delay_s", [0, 0.005, 0.02, 0.05])
async def test_a_cancelled_start_leaves_nothing(tmp_path: Path, delay_s: float) -> None:
    path = make(tmp_path / "a.qcow2", MIB)

    async def stay() -> None:
        async with open_image([path]):
            await asyncio.sleep(600)

    task = asyncio.create_task(stay())
    await asyncio.sleep(delay_s)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async with QemuNbd(ImageFile(path), read_only=False):
        pass  # nobody has the image's lock any more

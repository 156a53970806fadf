"""Chains that the core looks up by itself read, and map, as qemu says; what it cannot read is read in another way."""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.extents import ABSENT, MAPPED_EXTENT, ZERO, Extents
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import SourceError, ToolError
from ntxengine.images import cluster_tables
from ntxengine.images.cluster_tables import clusters_of
from ntxengine.images.open import open_image, open_with_clusters
from ntxengine.images.qemu_img import node
from ntxengine.images.qemu_nbd import QemuNbd
from ntxengine.images.served import ImageFile
from ntxengine.units import MIB
from tests.repository.builders import write_manifest
from tests.repository.chains import SIZE, as_qemu_reads, as_we_read, make, put, qemu_img, random_write

CLUSTER = 65536
CHAINS = 100
DAMAGED = 40
ZSTD = "compat=1.1,compression_type=zstd"


def random_compressed(dice: random.Random, size: int) -> list[str]:
    """Return commands that compress some whole clusters, or what is left of the last: each once, qemu demands that."""
    clusters = range(0, size, CLUSTER)
    chosen = dice.sample(clusters, dice.randint(0, len(clusters)))
    return [f"write -c -P {dice.randint(1, 255)} {at} {min(CLUSTER, size - at)}" for at in chosen]


def random_chain(dice: random.Random, folder: Path) -> tuple[Path, ...]:
    """Return 1 to 5 images of any sizes, with writes, zeros, discards and compressed clusters; some grow later."""
    chain: tuple[Path, ...] = ()
    for level in range(dice.randint(1, 5)):
        size = dice.randint(1, SIZE // 512) * 512
        is_zstd = dice.random() < 0.7
        options = ZSTD if is_zstd else dice.choice(["compat=1.1", "compat=1.1,lazy_refcounts=on,refcount_bits=1"])
        if not is_zstd and not chain and dice.random() < 0.5:
            options += ",preallocation=" + dice.choice(["metadata", "falloc"])
        path = make(folder / f"{level}.qcow2", size, options, backing=chain[0] if chain else None)
        if is_zstd and (commands := random_compressed(dice, size)):
            put(path, *commands)
        put(path, *(random_write(dice, size) for _ in range(dice.randint(1, 10))))
        if dice.random() < 0.3:
            qemu_img("resize", "-q", path, size + dice.randint(1, 1000) * 512)
        chain = (path, *chain)
    return chain


def check_map(clusters: Extents, chain: Sequence[Path]) -> None:
    """Compare a map with that of qemu-img, sector by sector.  Holes of a file may be data to us: qemu says both."""
    sectors = int(clusters["offset"][-1] + clusters["length"][-1]) // 512
    is_zero, files = np.empty(sectors, dtype=np.bool_), np.empty(sectors, dtype=np.int64)
    at = 0
    for row in clusters:
        begin, end = int(row["offset"]), int(row["offset"] + row["length"])
        assert begin == at
        is_zero[begin // 512 : end // 512] = row["flags"] & ZERO
        files[begin // 512 : end // 512] = row["file"]
        at = end
    for row in json.loads(qemu_img("map", "--output=json", node(chain))):
        part = slice(row["start"] // 512, (row["start"] + row["length"]) // 512)
        if not row["zero"]:
            assert (files[part] == row["depth"]).all(), row
        if not (row["zero"] and row["data"]):
            assert (is_zero[part] == row["zero"]).all(), row
    assert at == sectors * 512


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(CHAINS))
async def test_a_random_chain_reads_and_maps_as_qemu_says(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)

    chain = random_chain(dice, tmp_path)

    assert await as_we_read(chain, kind="chain") == as_qemu_reads(chain)
    async with open_with_clusters(chain) as opened:
        assert opened.clusters is not None
        check_map(opened.clusters, chain)


async def test_a_compressed_image_of_qemu_img_is_read_without_a_server(tmp_path: Path) -> None:
    dice = random.Random(7)
    plain = make(tmp_path / "plain.qcow2", 4 * MIB)
    (tmp_path / "noise").write_bytes(dice.randbytes(MIB))
    put(plain, f"write -s {tmp_path / 'noise'} 100k 1M", "write -P 3 2M 1M")
    packed = tmp_path / "packed.qcow2"
    qemu_img("convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", plain, packed)

    assert await as_we_read([packed], kind="chain") == as_qemu_reads([plain])


async def test_a_disk_of_many_tables_is_read_at_their_borders(tmp_path: Path) -> None:
    base = make(tmp_path / "base.qcow2", 3 * 1024 * MIB, ZSTD)
    put(base, "write -P 1 511M 2M", "write -c -P 2 1023M 64k", "write -P 3 2047M 2M")
    top = make(tmp_path / "top.qcow2", 4 * 1024 * MIB, ZSTD, backing=base)
    put(top, "write -P 4 512M 64k", "write -z 2048M 512k", "write -P 5 4095M 1M")

    async with open_with_clusters([top, base]) as opened:
        assert opened.device.kind == "chain"
        assert opened.clusters is not None
        check_map(opened.clusters, [top, base])
        data = opened.clusters[opened.clusters["flags"] == 0]
        assert [(int(row["offset"]) // MIB, int(row["file"])) for row in data] == [
            (511, 1), (512, 0), (512, 1), (1023, 1), (2047, 1), (2048, 1), (4095, 0),
        ]  # fmt: skip


async def test_an_empty_disk_is_one_zero_extent(tmp_path: Path) -> None:
    chain = [make(tmp_path / "a.qcow2", 10 * 2**40, ZSTD)]
    for number in range(5):
        chain.insert(0, make(tmp_path / f"{number}.qcow2", 10 * 2**40, ZSTD, backing=chain[0]))

    async with open_with_clusters(chain) as opened:
        assert opened.clusters is not None
        assert opened.clusters.tolist() == [(0, 10 * 2**40, 0, 0, ZERO | ABSENT)]


async def test_clusters_that_are_too_many_are_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.qcow2", MIB)
    put(path, *(f"write -P 1 {offset}k 64k" for offset in range(0, 1024, 128)))
    monkeypatch.setattr(cluster_tables, "MAX_EXTENTS", 4)
    monkeypatch.setattr(cluster_tables, "ROWS", 2)

    async with open_with_clusters([path]) as opened:
        assert opened.device.kind == "chain"
        assert opened.clusters is None
        monkeypatch.setattr(cluster_tables, "MAX_EXTENTS", 16)
        found = await clusters_of(opened.device)
        assert found is not None
        assert found.dtype == MAPPED_EXTENT
        check_map(found, [path])


async def test_only_the_chain_that_was_given_is_opened(tmp_path: Path) -> None:
    stranger = make(tmp_path / "stranger.qcow2", MIB)
    put(stranger, f"write -P 9 0 {MIB}")
    base = make(tmp_path / "base.qcow2", MIB)
    put(base, f"write -P 1 0 {MIB}")
    top = make(tmp_path / "top.qcow2", MIB, backing=stranger)

    assert await as_we_read([top, base], kind="chain") == b"\1" * MIB


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ("compat=0.10", "mapped"),
        ("cluster_size=4096", "mapped"),
        ("cluster_size=2M", "mapped"),
        ("extended_l2=on", "mapped"),
        ("data_file={}/data.raw", "nbd"),
    ],
)
async def test_other_images_are_read_in_another_way(tmp_path: Path, options: str, kind: str) -> None:
    path = make(tmp_path / "a.qcow2", MIB, options.format(tmp_path))
    put(path, "write -P 3 100k 300k")

    assert await as_we_read([path], kind=kind) == as_qemu_reads([path])
    top = make(tmp_path / "top.qcow2", MIB, backing=path)
    assert await as_we_read([top, path], kind=kind) == as_qemu_reads([top, path])


async def test_an_image_compressed_by_deflate_is_read_through_qemu_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = make(tmp_path / "plain.qcow2", MIB)
    put(plain, "write -P 3 100k 300k")
    packed = tmp_path / "packed.qcow2"
    qemu_img("convert", "-c", "-O", "qcow2", plain, packed)
    caplog.set_level(logging.INFO, "ntxengine.images.open")

    assert await as_we_read([packed], kind="nbd") == as_qemu_reads([plain])
    assert f"{packed}: its clusters are looked up by qemu-img: " in caplog.text
    assert "clusters compressed by deflate" in caplog.text


async def test_a_link_is_not_followed(tmp_path: Path) -> None:
    path = make(tmp_path / "a.qcow2", MIB)
    (tmp_path / "link").symlink_to(path)

    async with open_image([tmp_path / "link"]) as device:
        assert device.kind == "nbd"  # as before: qemu follows it, and a repository has none


# ------------------------------------------------------------------------------------------------- damage


async def test_what_lies_behind_the_end_of_the_file_is_an_error(tmp_path: Path) -> None:
    path = make(tmp_path / "a.qcow2", MIB)
    put(path, f"write -P 7 0 {MIB}")
    write_manifest(tmp_path / "manifest", b"\7" * MIB)
    os.truncate(path, path.stat().st_size - 2 * CLUSTER)

    with Manifest.open(tmp_path / "manifest") as manifest:
        async with open_image([path]) as device:
            with pytest.raises(SourceError, match=r"a\.qcow2 at \d+: .* behind the end of the file") as caught:
                await dataplane.verify(device, manifest, options=CopyOptions())

    assert caught.value.errno == errno.EUCLEAN
    with pytest.raises(SourceError, match="behind the end of the file"):
        async with open_with_clusters([path]):
            pass


async def test_an_image_that_is_cut_off_while_it_is_read_is_an_error_of_the_source(tmp_path: Path) -> None:
    path = make(tmp_path / "a.qcow2", SIZE)
    put(path, f"write -P 7 0 {SIZE}")
    write_manifest(tmp_path / "manifest", b"\7" * SIZE)

    with Manifest.open(tmp_path / "manifest") as manifest:
        async with open_image([path]) as device:
            assert device.kind == "chain"
            os.truncate(path, path.stat().st_size - MIB)
            with pytest.raises(SourceError, match=r"a\.qcow2 ended at \d+: it was truncated"):
                await dataplane.verify(device, manifest, options=CopyOptions())


async def test_a_damaged_header_is_not_left_to_qemu(tmp_path: Path) -> None:
    path = make(tmp_path / "a.qcow2", MIB)
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), struct.pack(">Q", 2**62), 40)

    with pytest.raises(SourceError, match=r"a\.qcow2 at 40: an L1 table that is not aligned"):
        async with open_image([path]):
            pass


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(DAMAGED))
async def test_a_damaged_image_reads_as_qemu_reads_it_or_is_an_error(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    path = make(tmp_path / "a.qcow2", MIB, ZSTD)
    put(path, "write -c -P 7 0 256k", *(random_write(dice, MIB) for _ in range(6)))
    data = bytearray(path.read_bytes())
    l1_table = struct.unpack_from(">Q", data, 40)[0]
    l2_table = struct.unpack_from(">Q", data, l1_table)[0] & 0x00FFFFFFFFFFFE00
    for _ in range(dice.randint(1, 4)):
        table = dice.choice([0, l1_table, l2_table, l2_table, l2_table])
        at = table + dice.randrange(112 if table == 0 else 8 if table == l1_table else 128)
        data[at] = dice.choice([0, 1, 0x40, 0x80, 0xC0, 0xFF, dice.randrange(256)])
    path.write_bytes(data)

    try:
        async with open_image([path], timeout_s=20) as device:
            if device.kind != "chain" or device.size > 16 * MIB:
                return
        ours = await as_we_read([path], kind="chain")
    except (SourceError, ToolError):
        return
    assert ours == as_qemu_reads([path])


# -------------------------------------------------------------------------------------------------- locks


async def test_nobody_can_write_to_an_image_that_is_open(tmp_path: Path) -> None:
    base = make(tmp_path / "base.qcow2", MIB)
    top = make(tmp_path / "top.qcow2", MIB, backing=base)

    async with open_image([top, base]) as device:
        assert device.kind == "chain"
        for path in (top, base):
            with pytest.raises(ToolError, match="lock"):
                async with QemuNbd(ImageFile(path), read_only=False):
                    pass
        async with open_image([top, base]) as other:
            assert other.kind == "chain"
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

    assert len(os.listdir("/proc/self/fd")) == before

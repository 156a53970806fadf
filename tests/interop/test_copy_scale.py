"""Memory does not grow with the disk or with the number of extents; a source that lies ends cleanly."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ntxengine.dataplane.copy import CopyOptions, copy, verify
from ntxengine.dataplane.extents import make, whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.errors import ChecksumMismatch, OptionsError, SourceError, TargetError
from ntxengine.files import unfinished as unfinished_file
from ntxengine.units import BLOCK_SIZE, GIB, KIB, MIB, TIB
from tests.interop.test_copy_matrix import make_disk, run_copy
from tests.support.servers import nbdkit, qemu_img, qemu_nbd

LIMIT = 128 * MIB


def peak_memory(*arguments: str) -> int:
    """Run `ntx` with these arguments in a process of its own; its peak resident memory in bytes."""
    # VmHWM and not ru_maxrss, which a child inherits from the process that started it.
    code = textwrap.dedent("""
        import re, sys
        from pathlib import Path
        from ntxengine.cli.main import main
        try:
            main(sys.argv[1:])
        except SystemExit as end:
            assert end.code == 0, end.code
        print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024)
    """)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    return int(done.stdout.split()[-1])


def test_memory_is_bounded_for_a_sparse_disk_of_10_tib(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with open(disk, "wb") as file:
        file.truncate(10 * TIB)
        for offset in range(0, 10 * TIB, 500 * GIB):
            file.seek(offset)
            file.write(os.urandom(100 * KIB))

    peak = peak_memory("copy", str(disk), "null:", "--connections", "8", "--in-flight", "64", "--json")

    assert peak < LIMIT


def test_memory_is_bounded_for_a_million_extents(tmp_path: Path) -> None:
    extents = tmp_path / "extents.json"
    with open(extents, "w") as file:
        file.write("[")
        file.write(",".join(f'{{"offset": {i * 2048}, "length": 512, "type": "data"}}' for i in range(1_000_000)))
        file.write("]")

    peak = peak_memory("copy", "pattern:2G", "null:", "--extents", str(extents))

    assert peak < LIMIT


async def test_zeros_of_an_increment_mask_the_data_below(tmp_path: Path) -> None:
    base, top, result = tmp_path / "base.qcow2", tmp_path / "top.qcow2", tmp_path / "result"
    size = 4 * MIB + 512
    disk = tmp_path / "disk"
    disk.write_bytes(os.urandom(size))
    qemu_img("convert", "-f", "raw", "-O", "qcow2", str(disk), str(base))
    qemu_img("create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(top))
    changed = make([(1000, 700, 0), (BLOCK_SIZE, 2 * BLOCK_SIZE, 1), (MIB + 512, 512, 1), (3 * MIB + 1, 70000, 0)])
    with open(disk, "r+b") as file:
        for offset, length, _ in changed.tolist():
            file.seek(offset)
            file.write(bytes(length))

    with qemu_nbd(top, format="qcow2") as uri:
        async with open_source(str(disk)) as source, open_target(uri, source=source) as target:
            report = await copy(source, target.device, [changed], options=CopyOptions())

    qemu_img("convert", "-f", "qcow2", "-O", "raw", str(top), str(result))
    assert disk.read_bytes() == result.read_bytes()
    assert report.bytes_sent == 0


async def test_where_nothing_changed_nothing_is_written(tmp_path: Path) -> None:
    top = tmp_path / "top.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", str(top), "10M")
    disk = tmp_path / "disk"
    make_disk(disk, 10 * MIB)
    with qemu_nbd(top, format="qcow2") as uri:
        async with open_source(str(disk)) as source, open_target(uri, source=source) as target:
            report = await copy(source, target.device, [], options=CopyOptions())

    assert (report.bytes_read, report.bytes_sent, report.bytes_zeroed) == (0, 0, 0)
    assert qemu_img("map", "--output=json", str(top)).count('"data": true') == 0


async def test_manifest_of_an_increment_is_that_of_a_full_copy(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    make_disk(disk, 3 * MIB + 512)
    async with open_source(str(disk)) as source, open_target("null:", source=source) as target:
        with Manifest.create(tmp_path / "old", size=source.size) as old:
            await copy(source, target.device, [whole(source.size)], options=CopyOptions(), manifest=old)
            old.seal()
    changed = make([(5, 1, 0), (BLOCK_SIZE * 2 - 3, 9, 0), (MIB, BLOCK_SIZE, 1), (3 * MIB + 511, 1, 0)])
    with open(disk, "r+b") as file:
        for offset, length, flags in changed.tolist():
            file.seek(offset)
            file.write(bytes(length) if flags else os.urandom(length))

    async with open_source(str(disk)) as source, open_target("null:", source=source) as target:
        with Manifest.open(tmp_path / "old") as old, Manifest.copy_of(old, tmp_path / "new", size=source.size) as new:
            await copy(source, target.device, [changed], options=CopyOptions(), manifest=new)
            incremental = new.seal()
        with Manifest.create(tmp_path / "full", size=source.size) as full:
            await copy(source, target.device, [whole(source.size)], options=CopyOptions(), manifest=full)
            full.seal()

    assert incremental == full.disk_digest
    assert (tmp_path / "new").read_bytes() == (tmp_path / "full").read_bytes()


async def test_a_single_flipped_bit_is_found_with_its_offset(tmp_path: Path) -> None:
    disk, stored = tmp_path / "disk", tmp_path / "stored"
    disk.write_bytes(os.urandom(3 * MIB + 512))
    async with open_source(str(disk)) as source, open_target(str(stored), source=source) as target:
        with Manifest.create(tmp_path / "manifest", size=source.size) as manifest:
            await copy(source, target.device, [whole(source.size)], options=CopyOptions(), manifest=manifest)
            manifest.seal()
    data = bytearray(stored.read_bytes())
    data[2 * MIB + 77] ^= 16
    stored.write_bytes(data)

    with Manifest.open(tmp_path / "manifest") as manifest:
        async with open_source(str(disk)) as source:
            await verify(source, manifest, options=CopyOptions())
        async with open_source(str(stored)) as source:
            with pytest.raises(ChecksumMismatch, match="offset 2097152") as caught:
                await verify(source, manifest, options=CopyOptions())
            await verify(source, manifest, options=CopyOptions(), extents=lambda: [make([(0, MIB, 0)])])

    assert (caught.value.offsets, caught.value.blocks) == ((2 * MIB,), 1)


async def test_silent_corruption_on_the_way_is_found(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(os.urandom(2 * MIB))
    script = 'case "$1" in get_size) echo 2M ;; pread) dd if=/dev/zero bs=$3 count=1 status=none ;; *) exit 2 ;; esac'
    plugin = tmp_path / "liar.sh"
    plugin.write_text("#!/bin/bash\n" + script + "\n")
    plugin.chmod(0o755)
    async with open_source(str(disk)) as source, open_target("null:", source=source) as target:
        with Manifest.create(tmp_path / "manifest", size=source.size) as manifest:
            await copy(source, target.device, [whole(source.size)], options=CopyOptions(), manifest=manifest)
            manifest.seal()

    with Manifest.open(tmp_path / "manifest") as manifest, nbdkit("-r", "sh", str(plugin)) as uri:
        async with open_source(uri) as source:
            with pytest.raises(ChecksumMismatch) as caught:
                await verify(source, manifest, options=CopyOptions())

    assert caught.value.blocks == 32


async def test_source_that_fails_is_named_with_the_offset_and_leaves_no_target(tmp_path: Path) -> None:
    with nbdkit("-r", "--filter=error", "pattern", "4M", "error-pread=EIO", "error-pread-rate=1") as uri:
        with pytest.raises(Exception, match=r"read failed: offset \d+ length \d+"):
            await run_copy(uri, str(tmp_path / "result"))

    assert list(tmp_path.iterdir()) == []


async def test_source_that_was_cut_while_read_is_a_source_error(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(os.urandom(MIB))

    async with open_source(str(disk)) as source, open_target("null:", source=source) as target:
        os.truncate(disk, 100_000)
        with pytest.raises(SourceError) as caught:
            await copy(source, target.device, [whole(source.size)], options=CopyOptions())

    assert "truncated" in str(caught.value)
    assert not (tmp_path / ("disk" + unfinished_file.SUFFIX)).exists()


async def test_full_target_is_named_with_the_offset(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(os.urandom(2 * MIB))

    with nbdkit("--filter=error", "memory", "2M", "error-pwrite=ENOSPC", "error-pwrite-rate=1") as uri:
        with pytest.raises(Exception, match=r"write failed: offset \d+ .*No space left on device"):
            await run_copy(str(disk), uri)


async def test_targets_that_cannot_be_right_are_refused(tmp_path: Path) -> None:
    disk, small = tmp_path / "disk", tmp_path / "small"
    disk.write_bytes(b"x" * 4096)
    small.write_bytes(b"precious")

    with pytest.raises(OptionsError, match="is the source itself"):
        await run_copy(str(disk), str(disk))
    with pytest.raises(OptionsError, match="has 8 bytes, the source 4096"):
        await run_copy(str(disk), str(small))
    with pytest.raises(TargetError, match="cannot be made"):
        await run_copy(str(disk), str(tmp_path / "missing" / "result"))
    with nbdkit("-r", "memory", "4096") as uri, pytest.raises(Exception, match="read-only"):
        await run_copy(str(disk), uri)
    with nbdkit("memory", "512") as uri, pytest.raises(OptionsError, match="too small"):
        await run_copy(str(disk), uri)
    odd = ["memory", "4608", "blocksize-minimum=4096", "blocksize-error-policy=error"]
    with nbdkit("--filter=blocksize-policy", *odd) as uri, pytest.raises(Exception, match="minimum block of 4096"):
        disk.write_bytes(b"x" * 4608)
        await run_copy(str(disk), uri)

    assert small.read_bytes() == b"precious"

"""Disks copied and digested by their names: what a name means, what is refused, and what is left."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import ntxengine
from ntxengine._core.device import Device
from ntxengine.api import copying
from ntxengine.images.endpoints import SourceFormat
from ntxengine.units import MIB
from tests.support.servers import nbdkit


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(os.urandom(2 * MIB) + bytes(MIB) + b"end".ljust(512, b"\0"))
    return path


async def test_standard_input_is_copied_as_long_as_it_is_said_to_be(disk: Path, tmp_path: Path) -> None:
    program = (
        "import asyncio, ntxengine, sys; asyncio.run(ntxengine.copy('-', sys.argv[1], target_format='qcow2', "
        "size=int(sys.argv[2])))"
    )
    target = tmp_path / "out.qcow2"

    with disk.open("rb") as file:
        cat = subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE)
        size = str(disk.stat().st_size)
        subprocess.run([sys.executable, "-c", program, target, size], stdin=cat.stdout, check=True)
        assert cat.stdout is not None
        cat.stdout.close()
        assert cat.wait() == 0

    subprocess.run(["qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", disk, target], check=True)


async def test_a_path_is_a_file_whatever_it_looks_like(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    await ntxengine.copy(disk, Path("localhost:10809"))

    assert (tmp_path / "localhost:10809").read_bytes() == disk.read_bytes()
    with pytest.raises(ntxengine.OptionsError, match="looks like a server"):
        await ntxengine.copy(disk, "localhost:10809")


async def test_a_file_is_overwritten_only_when_allowed(disk: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.raw"
    target.write_bytes(os.urandom(disk.stat().st_size))

    with pytest.raises(ntxengine.OptionsError, match="exists already"):
        await ntxengine.copy(disk, target)
    await ntxengine.copy(disk, target, overwrite=True, verify=True)

    assert target.read_bytes() == disk.read_bytes()


async def test_an_image_is_made_and_read_when_it_is_said(disk: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"

    with pytest.raises(ntxengine.OptionsError, match="is named like an image"):
        await ntxengine.copy(disk, image)
    await ntxengine.copy(disk, image, target_format="qcow2", verify=True)
    with await ntxengine.digest(disk) as ours, await ntxengine.digest(image, source_format="qcow2") as stored:
        assert stored.disk_digest == ours.disk_digest

    subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", disk, image], check=True, capture_output=True)


async def test_an_image_is_compressed_when_it_is_said(tmp_path: Path) -> None:
    disk, image = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    disk.write_bytes(b"a line of text\n" * (MIB // 15) + bytes(64))
    packed = ntxengine.ImageOptions(zstd_level=1)

    report = await ntxengine.copy(disk, image, target_format="qcow2", image=packed, verify=True)

    assert 0 < report.bytes_stored < report.bytes_sent // 10
    with pytest.raises(ntxengine.OptionsError, match="of a new image"):
        await ntxengine.copy(disk, tmp_path / "disk.copy", image=packed)


async def test_a_target_that_stored_something_else_is_found(disk: Path) -> None:
    # A server that drops what it gets, and gives back zeros.
    with nbdkit("null", str(disk.stat().st_size)) as uri:
        with pytest.raises(ntxengine.ChecksumMismatch) as caught:
            await ntxengine.copy(disk, uri, verify=True)

    assert caught.value.offsets[:2] == (0, 65536)


async def test_progress_is_told_to_the_end(disk: Path) -> None:
    told: list[ntxengine.Progress] = []

    report = await ntxengine.copy(disk, "null:", on_progress=told.append)

    assert (told[-1].bytes_done, told[-1].bytes_total) == (disk.stat().st_size, disk.stat().st_size)
    assert report.bytes_done == disk.stat().st_size


async def test_a_manifest_is_kept_whole_or_not_at_all(disk: Path, tmp_path: Path) -> None:
    def fail(progress: ntxengine.Progress) -> None:
        raise RuntimeError("enough")

    with await ntxengine.digest(disk, manifest=tmp_path / "kept") as made:
        with ntxengine.Manifest.open(tmp_path / "kept") as opened:
            assert opened.disk_digest == made.disk_digest
    with pytest.raises(RuntimeError, match="enough"):
        await ntxengine.digest(disk, manifest=tmp_path / "broken", on_progress=fail)

    assert not (tmp_path / "broken").exists()


async def test_a_manifest_goes_too_when_the_disk_cannot_be_closed(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when somebody cancels at that moment: who gets no manifest finds no file in the way of the next."""
    opened = copying.open_named_source

    @asynccontextmanager
    async def without_an_end(source: str, said: SourceFormat, **options: Any) -> AsyncIterator[Device]:
        async with opened(source, said, **options) as device:
            yield device
        raise asyncio.CancelledError

    monkeypatch.setattr(copying, "open_named_source", without_an_end)
    with pytest.raises(asyncio.CancelledError):
        await ntxengine.digest(disk, manifest=tmp_path / "cancelled")

    assert not (tmp_path / "cancelled").exists()


async def test_verifying_against_nothing_is_refused(disk: Path) -> None:
    with pytest.raises(ntxengine.OptionsError, match="null: keeps nothing"):
        await ntxengine.copy(disk, "null:", verify=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"connections": 0},
        {"connections": -1},
        {"in_flight": 0},
        {"in_flight": -1},
        {"max_buffer_bytes": -1},
        {"max_buffer_bytes": 2**64},
        {"bandwidth": -1},
        {"bandwidth": 2**64},
    ],
)
def test_a_limit_that_nothing_can_keep_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ntxengine.OptionsError, match=r"at least one|is not from 0"):
        ntxengine.CopyOptions(**wrong)


async def test_a_format_that_is_none_is_refused(disk: Path, tmp_path: Path) -> None:
    # A program that is not type-checked got the bytes of the disk, under the name of an image.
    target = tmp_path / "disk.vmdk"

    with pytest.raises(ntxengine.OptionsError, match="must be one of raw, qcow2"):
        await ntxengine.copy(disk, target, target_format="vmdk")  # type: ignore[arg-type]
    with pytest.raises(ntxengine.OptionsError, match="must be one of raw, qcow2"):
        await ntxengine.digest(disk, source_format="vmdk")  # type: ignore[arg-type]

    assert not target.exists()


async def test_new_files_have_the_mode_that_the_umask_leaves(disk: Path, tmp_path: Path) -> None:
    """A target is the person's: often another user, such as that of qemu, opens it next."""
    raw, image = tmp_path / "new.raw", tmp_path / "new.qcow2"
    umask = os.umask(0o027)
    try:
        await ntxengine.copy(disk, raw)
        await ntxengine.copy(disk, image, target_format="qcow2")
    finally:
        os.umask(umask)

    assert [path.stat().st_mode & 0o777 for path in (raw, image)] == [0o640, 0o640]

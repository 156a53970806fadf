"""The life of an image that is written: made, kept at checkpoints, finished, or gone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import make as extents
from ntxengine.dataplane.open import open_source
from ntxengine.errors import NtxError, OptionsError, RepositoryError, TargetError, ToolError
from ntxengine.images.create import WRITERS, ImageWriter, NewImage, create_image, make_image, reopen_image
from ntxengine.images.qemu_nbd import QemuNbd
from ntxengine.units import MIB
from tests.support.servers import qemu_img

SIZE = 4 * MIB
OPTIONS = CopyOptions(connections=2, timeout_s=20)
formats = pytest.mark.parametrize("format", WRITERS)


async def write(image: ImageWriter, source: Path, offset: int, length: int, **options: int) -> None:
    """Copy a part of `source` to the same place in the image."""
    async with open_source(str(source)) as device:
        await copy(device, image.device, [extents([(offset, length, 0)])], options=CopyOptions(**options))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(SIZE))
    return path


def bytes_of(path: Path, format: str) -> bytes:
    plain = path.with_name("plain")
    qemu_img("convert", "-f", "raw" if format == "raw" else "qcow2", "-O", "raw", str(path), str(plain))
    return plain.read_bytes()


@formats
async def test_a_finished_image_has_what_was_written(tmp_path: Path, source: Path, format: str) -> None:
    path = tmp_path / "image"

    async with create_image(NewImage(path, SIZE), format, OPTIONS) as image:
        await write(image, source, MIB, MIB)
        await image.finish()

    assert bytes_of(path, format) == bytes(MIB) + source.read_bytes()[MIB : 2 * MIB] + bytes(2 * MIB)


@formats
async def test_an_image_that_is_left_unfinished_is_removed(tmp_path: Path, source: Path, format: str) -> None:
    path = tmp_path / "image"

    async with create_image(NewImage(path, SIZE), format, OPTIONS) as image:
        await write(image, source, 0, SIZE)
    assert not path.exists()
    with pytest.raises(KeyError):
        async with create_image(NewImage(path, SIZE), format, OPTIONS) as image:
            raise KeyError
    assert not path.exists()


@formats
async def test_a_checkpoint_survives_what_comes_after_it(tmp_path: Path, source: Path, format: str) -> None:
    new = NewImage(tmp_path / "image", SIZE)
    data = source.read_bytes()
    with pytest.raises(KeyError):
        async with create_image(new, format, OPTIONS) as image:
            await write(image, source, 0, MIB)
            await image.checkpoint()
            raise KeyError

    async with reopen_image(new, format, OPTIONS, stored_to=MIB) as image:
        await write(image, source, 2 * MIB, MIB)
        await image.finish()

    assert bytes_of(new.path, format) == data[:MIB] + bytes(MIB) + data[2 * MIB : 3 * MIB] + bytes(MIB)


async def test_a_checkpoint_survives_its_killed_writer(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = NewImage(tmp_path / "image", SIZE)
    pids = []
    enter = QemuNbd.__aenter__

    async def watched(server: QemuNbd) -> QemuNbd:
        await enter(server)
        pids.append(server.pid)
        return server

    monkeypatch.setattr(QemuNbd, "__aenter__", watched)
    with pytest.raises(NtxError):
        async with create_image(new, "qcow2-by-qemu", OPTIONS) as image:
            await write(image, source, 0, MIB)
            await image.checkpoint()
            os.kill(pids[0], signal.SIGKILL)
            await write(image, source, MIB, MIB)

    async with reopen_image(new, "qcow2-by-qemu", OPTIONS, stored_to=MIB) as image:
        await write(image, source, MIB, 3 * MIB)
        await image.finish()

    assert bytes_of(new.path, "qcow2") == source.read_bytes()
    qemu_img("check", "-q", str(new.path))


async def test_an_image_that_had_no_room_has_no_leaks_once_it_had(
    source: Path, small_fs: Callable[[str], Path]
) -> None:
    new = NewImage(small_fs("2m") / "image", SIZE)
    with pytest.raises(NtxError, match="No space left"):
        async with create_image(new, "qcow2", OPTIONS) as image:
            await write(image, source, 0, MIB)
            await image.checkpoint()
            await write(image, source, MIB, 3 * MIB, request_size=65536, in_flight=32)

    subprocess.run(["mount", "-o", "remount,size=16m", new.path.parent], check=True)
    async with reopen_image(new, "qcow2", OPTIONS, stored_to=MIB) as image:
        await write(image, source, MIB, 3 * MIB)
        await image.finish()

    assert bytes_of(new.path, "qcow2") == source.read_bytes()
    qemu_img("check", "-q", str(new.path))


@formats
async def test_what_is_abandoned_is_removed_with_its_checkpoint(tmp_path: Path, source: Path, format: str) -> None:
    path = tmp_path / "image"

    async with create_image(NewImage(path, SIZE), format, OPTIONS) as image:
        await write(image, source, 0, MIB)
        await image.checkpoint()
        await image.abandon()
        with pytest.raises(OptionsError, match="not open"):
            await image.finish()
        with pytest.raises(OptionsError, match="not open"):
            image.device.size  # noqa: B018

    assert not path.exists()


@formats
async def test_a_cancelled_writer_leaves_nothing(tmp_path: Path, source: Path, format: str) -> None:
    path = tmp_path / "image"
    is_open = asyncio.Event()

    async def hold() -> None:
        async with create_image(NewImage(path, SIZE), format, OPTIONS) as image:
            await write(image, source, 0, MIB)
            is_open.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(hold())
    await is_open.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not path.exists()


async def test_an_overlay_lies_on_what_it_was_told(tmp_path: Path, source: Path) -> None:
    base = NewImage(tmp_path / "base", SIZE)
    async with create_image(base, "qcow2", OPTIONS) as image:
        await write(image, source, 0, SIZE)
        await image.finish()
    top = NewImage(tmp_path / "top", SIZE, "base", (base.path,))

    await make_image(top, "qcow2")

    assert bytes_of(top.path, "qcow2") == source.read_bytes()


async def test_reopening_refuses_another_image(tmp_path: Path) -> None:
    new = NewImage(tmp_path / "image", SIZE)
    await make_image(NewImage(new.path, SIZE // 2), "qcow2")

    with pytest.raises(RepositoryError, match="virtual size"):
        async with reopen_image(new, "qcow2", OPTIONS, stored_to=SIZE):
            pass

    assert new.path.exists()


async def test_a_raw_file_takes_the_place_of_nothing_and_has_nothing_below(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")

    with pytest.raises(TargetError, match="exists"):
        async with create_image(NewImage(there, SIZE), "raw", OPTIONS):
            pass
    with pytest.raises(OptionsError, match="nothing below"):
        await make_image(NewImage(tmp_path / "x", SIZE, "base"), "raw")
    with pytest.raises(OptionsError, match="must be one of raw, qcow2"):
        await make_image(NewImage(tmp_path / "x", SIZE), "vmdk")

    assert there.read_text() == "mine"


@pytest.mark.parametrize("is_link", [False, True])
async def test_an_image_takes_the_place_of_nothing(tmp_path: Path, is_link: bool) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    there = tmp_path / "link" if is_link else mine
    if is_link:
        there.symlink_to(mine)

    with pytest.raises(TargetError, match="making the image failed"):
        async with create_image(NewImage(there, SIZE), "qcow2", OPTIONS):
            pass

    assert mine.read_text() == "mine"
    assert there.is_symlink() == is_link


async def test_an_image_takes_the_place_of_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.touch()

    await make_image(NewImage(path, SIZE), "qcow2")

    assert path.stat().st_size > 0


@pytest.mark.parametrize(("format", "error"), [("qcow2", OptionsError), ("qcow2-by-qemu", ToolError)])
async def test_an_image_that_cannot_be_made_leaves_nothing(tmp_path: Path, format: str, error: type[NtxError]) -> None:
    with pytest.raises(error):
        await make_image(NewImage(tmp_path / "image", 2**63), format)

    assert not list(tmp_path.iterdir())


async def test_a_writer_that_fails_to_close_is_an_error_of_finish(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image"

    async def badly(server: QemuNbd, by: signal.Signals) -> str:
        await stop(server, by)
        return "failed to close the image"

    stop = QemuNbd._stop
    monkeypatch.setattr(QemuNbd, "_stop", badly)

    with pytest.raises(ToolError, match="failed to close the image"):
        async with create_image(NewImage(path, SIZE), "qcow2-by-qemu", OPTIONS) as image:
            await write(image, source, 0, MIB)
            await image.finish()

    assert not path.exists()


@formats
async def test_removing_an_image_does_not_hold_up_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    """A file of terabytes takes a file system its time."""
    path = tmp_path / "image"
    is_loop_free = threading.Event()
    was_free: list[bool] = []
    unlink = os.unlink

    def slow_unlink(name: os.PathLike[str] | str, *, dir_fd: int | None = None) -> None:
        if Path(name) == path:
            was_free.append(is_loop_free.wait(60))
        unlink(name, dir_fd=dir_fd)

    async with create_image(NewImage(path, SIZE), format, OPTIONS) as image:
        monkeypatch.setattr(os, "unlink", slow_unlink)
        asyncio.get_running_loop().call_later(0.05, is_loop_free.set)
        await image.abandon()

    assert was_free[:1] == [True]
    assert not path.exists()


@formats
async def test_a_new_image_is_for_its_owner_alone(tmp_path: Path, format: str) -> None:
    await make_image(NewImage(tmp_path / "image", SIZE), format)

    assert (tmp_path / "image").stat().st_mode & 0o777 == 0o600


async def test_an_image_in_a_place_that_was_kept_has_the_mode_of_the_place(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.touch()
    path.chmod(0o640)

    await make_image(NewImage(path, SIZE), "qcow2")

    assert path.stat().st_mode & 0o777 == 0o640

"""How a qemu-nbd ends: killed, cancelled, too slow, or never up.  Nothing is left, and nothing doubtful is trusted."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from ntxengine.errors import ToolError
from ntxengine.images import qemu_nbd as qemu
from ntxengine.images.qemu_nbd import QemuNbd, ServerEnded
from ntxengine.images.served import ImageFile
from tests.repository.builders import (
    run_folders,
)

pytestmark = pytest.mark.usefixtures("own_temporary_folder")


async def test_a_server_that_dies_is_told_of_at_the_end(image: Path) -> None:
    with pytest.raises(ServerEnded, match="ended before its time"):
        async with QemuNbd(ImageFile(image), read_only=False) as server:
            os.kill(server.pid, signal.SIGKILL)


async def test_a_server_that_is_killed_while_it_closes_has_ended_too(image: Path) -> None:
    """Whoever killed it was not us: what it was told to keep can be gone on with, as after any other end."""
    with pytest.raises(ServerEnded, match="ended before its time"):
        async with QemuNbd(ImageFile(image), read_only=False) as server:
            os.kill(server.pid, signal.SIGSTOP)
            asyncio.get_running_loop().call_later(0.1, os.kill, server.pid, signal.SIGKILL)


async def test_a_server_that_only_reads_may_die_once_everything_was_read(image: Path) -> None:
    async with QemuNbd(ImageFile(image), read_only=True) as server:
        os.kill(server.pid, signal.SIGKILL)
        assert server._process is not None
        status = await server._process.wait()

    assert status == -signal.SIGKILL


async def test_the_error_of_the_body_is_the_one_raised(image: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with QemuNbd(ImageFile(image), read_only=False) as server:
            os.kill(server.pid, signal.SIGKILL)
            raise ZeroDivisionError


async def test_a_server_that_does_not_stop_is_killed_and_its_image_not_trusted(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu, "CLOSE_TIMEOUT_S", 0.2)

    with pytest.raises(ToolError, match="was killed"):
        async with QemuNbd(ImageFile(image), read_only=False) as server:
            pid = server.pid
            os.kill(pid, signal.SIGSTOP)

    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
async def test_after_an_error_a_writable_server_is_not_waited_for(
    image: Path, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    began = time.monotonic()

    with pytest.raises(error):
        async with QemuNbd(ImageFile(image), read_only=False) as server:
            pid = server.pid
            os.kill(pid, signal.SIGSTOP)  # it would not close the image, however long it was waited for
            raise error

    assert time.monotonic() - began < 20
    assert not Path(f"/proc/{pid}").exists()
    assert caplog.text == ""


async def test_a_cancel_while_an_image_is_closed_kills_its_server(image: Path) -> None:
    served = asyncio.Event()
    pids: list[int] = []

    async def serve() -> None:
        async with QemuNbd(ImageFile(image), read_only=False) as server:
            pids.append(server.pid)
            os.kill(server.pid, signal.SIGSTOP)
            served.set()

    task = asyncio.create_task(serve())
    await served.wait()
    await asyncio.sleep(0.1)  # by then it waits; if not, it is no less to be cancelled
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(20):
            await task

    assert not Path(f"/proc/{pids[0]}").exists()


async def test_a_server_that_never_answers_is_given_up_at_once(
    image: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    silent = tmp_path / "bin"
    silent.mkdir()
    # As a qemu-nbd that is still starting: SIGTERM is lost on it.
    (silent / "qemu-nbd").write_text("#!/bin/sh\ntrap '' TERM\nexec sleep 600\n")
    (silent / "qemu-nbd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{silent}:{os.environ['PATH']}")
    before = run_folders()

    with pytest.raises(qemu.StartTimeout, match="did not answer"):
        async with (
            asyncio.timeout(20),
            QemuNbd(ImageFile(image), read_only=True, start_timeout_s=0.2),
        ):  # much less than a server has to close its image
            pass

    assert run_folders() == before


@pytest.mark.parametrize("delay_s", [0, 0.005, 0.02, 0.05])
async def test_a_cancelled_start_leaves_nothing(image: Path, delay_s: float) -> None:
    before = run_folders()

    async def serve() -> None:
        async with QemuNbd(ImageFile(image), read_only=False):
            await asyncio.sleep(600)

    task = asyncio.create_task(serve())
    await asyncio.sleep(delay_s)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert run_folders() == before
    async with QemuNbd(ImageFile(image), read_only=False):
        pass  # nobody has the image's lock any more

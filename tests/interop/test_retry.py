"""A copy whose servers die, again and again: it goes on where it was, and every byte is right."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine._core.device import Device
from ntxengine.dataplane import checkpoints as due
from ntxengine.dataplane.checkpoints import Checkpoints
from ntxengine.dataplane.copy import CopyOptions, CopyReport, copy, verify
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.dataplane.retry import Patience, is_lost_connection, retrying
from ntxengine.errors import SourceError, TargetError
from tests.support.killable import Killable, killable_disk

SIZE = 40 << 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Killable]:
    disk = tmp_path / "disk"
    disk.write_bytes(os.urandom(1 << 20) * (SIZE >> 20))  # what was there shows where it is not replaced
    with killable_disk(disk) as server:
        yield server


def make_source(path: Path) -> Path:
    """Data, and zeros between it."""
    with open(path, "wb") as file:
        for start in range(0, SIZE, 4 << 20):
            file.seek(start)
            file.write(os.urandom(1 << 20))
            file.seek(1 << 20, os.SEEK_CUR)
            file.write(os.urandom((1 << 20) + 512))
        file.truncate(SIZE)
    return path


async def go_on(
    uri: str, source: Device, manifest: Manifest, checkpoints: Checkpoints, patience: Patience
) -> CopyReport:
    options = CopyOptions(bandwidth=10 << 20, timeout_s=1.0, connections=2)

    async def once() -> CopyReport:
        async with open_target(uri, source=source, timeout_s=1.0) as target:
            return await copy(
                source,
                target.device,
                [whole(SIZE)],
                options=options,
                manifest=manifest,
                bytes_expected=SIZE,
                checkpoints=checkpoints,
            )

    return await retrying(once, checkpoints, patience, name="disk")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "stalls"])
async def test_a_server_that_fails_again_and_again_costs_no_byte(
    how: int, server: Killable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "DUE_S", 0.1)
    monkeypatch.setattr(due, "_SELDOMER", 0)  # whatever a flush takes here
    checkpoints = Checkpoints()
    copied = asyncio.Event()

    async def trouble() -> None:
        for _ in range(4):
            before = checkpoints.stored_to
            while checkpoints.stored_to <= before and not copied.is_set():
                await asyncio.sleep(0.02)
            server.send(how)
            await asyncio.sleep(1.2 if how == signal.SIGSTOP else 0.1)  # longer than an answer is waited for
            server.kill()
            server.start()

    async with open_source(str(make_source(tmp_path / "source"))) as source:
        with Manifest.create(tmp_path / "manifest", size=SIZE) as manifest:
            troubled = asyncio.create_task(trouble())
            report = await go_on(server.uri, source, manifest, checkpoints, Patience(30, first_wait_s=0.05))
            copied.set()
            await troubled

            assert report.is_flushed
            assert checkpoints.retries >= 3
            assert checkpoints.stored_to == SIZE
            assert (tmp_path / "disk").read_bytes() == (tmp_path / "source").read_bytes()
            await verify(source, manifest, options=CopyOptions())


async def test_a_server_that_stays_away_is_given_up(server: Killable, tmp_path: Path) -> None:
    checkpoints = Checkpoints()

    async def trouble() -> None:
        while not checkpoints.has_begun:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        server.kill()

    async with open_source(str(make_source(tmp_path / "source"))) as source:
        with Manifest.create(tmp_path / "manifest", size=SIZE) as manifest:
            troubled = asyncio.create_task(trouble())
            with pytest.raises(TargetError):
                await go_on(server.uri, source, manifest, checkpoints, Patience(1, first_wait_s=0.1))
            await troubled

    assert checkpoints.retries >= 1


async def test_a_socket_that_is_not_there_is_a_lost_connection_and_a_file_is_not(tmp_path: Path) -> None:
    absent = tmp_path / "absent"

    with pytest.raises(SourceError, match="connect failed: No such file or directory") as of_server:
        async with open_source(f"nbd+unix:///?socket={absent}"):
            pass
    with pytest.raises(SourceError, match="No such file or directory") as of_file:
        async with open_source(str(absent)):
            pass

    assert is_lost_connection(of_server.value)  # the server is being started again
    assert not is_lost_connection(of_file.value)

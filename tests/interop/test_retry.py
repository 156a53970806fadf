"""A copy whose servers die, again and again: it goes on where it was, and every byte is right."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ntxengine._core.device import Device
from ntxengine.dataplane import checkpoints as due
from ntxengine.dataplane.checkpoints import Checkpoints
from ntxengine.dataplane.copy import CopyOptions, CopyReport, copy, verify
from ntxengine.dataplane.extents import Extents, make
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


PART = SIZE // 8


class Troubled:
    """What to copy, in parts, with a failure of the server in each of the first tries: one part later each time.

    By the time that a part is asked for, the copy is at work on the one before, and this one cannot be written.
    """

    def __init__(self, strikes: Callable[[], None], times: int) -> None:
        self._strikes = strikes
        self._after = list(range(1, 2 * times, 2))

    def windows(self) -> Iterator[Extents]:
        after = self._after.pop(0) if self._after else None
        for number in range(SIZE // PART):
            if number == after:
                self._strikes()
            yield make([(number * PART, PART, 0)])


async def go_on(
    uri: str, source: Device, manifest: Manifest, checkpoints: Checkpoints, patience: Patience, troubled: Troubled
) -> CopyReport:
    options = CopyOptions(bandwidth=10 << 20, timeout_s=1.0, connections=2)

    async def once() -> CopyReport:
        async with open_target(uri, source=source, timeout_s=1.0) as target:
            return await copy(
                source,
                target.device,
                troubled.windows(),
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
    checkpoints, loop = Checkpoints(), asyncio.get_running_loop()

    def restart() -> None:
        server.kill()
        server.start()

    def strike() -> None:
        server.send(how)
        # What stalls does so for longer than an answer is waited for.
        loop.call_soon_threadsafe(loop.call_later, 1.2 if how == signal.SIGSTOP else 0.1, restart)

    async with open_source(str(make_source(tmp_path / "source"))) as source:
        with Manifest.create(tmp_path / "manifest", size=SIZE) as manifest:
            troubled, patience = Troubled(strike, 4), Patience(60, first_wait_s=0.05)
            report = await go_on(server.uri, source, manifest, checkpoints, patience, troubled)

            assert report.is_flushed
            assert checkpoints.retries >= 4
            assert checkpoints.stored_to == SIZE
            assert (tmp_path / "disk").read_bytes() == (tmp_path / "source").read_bytes()
            await verify(source, manifest, options=CopyOptions())


async def test_a_server_that_stays_away_is_given_up(server: Killable, tmp_path: Path) -> None:
    checkpoints = Checkpoints()

    async with open_source(str(make_source(tmp_path / "source"))) as source:
        with Manifest.create(tmp_path / "manifest", size=SIZE) as manifest:
            troubled, patience = Troubled(server.kill, 1), Patience(1, first_wait_s=0.1)
            with pytest.raises(TargetError):
                await go_on(server.uri, source, manifest, checkpoints, patience, troubled)

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

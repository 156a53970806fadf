"""Captures that are interrupted in the middle of a disk, in this process or with a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ntxengine.dataplane import checkpoints as due
from ntxengine.dataplane import journal
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.errors import PlaceError
from ntxengine.events import Event, Progressed, Stage
from tests.capture.lab import MIB, Lab, Witness
from tests.capture.test_interrupted import ROOT, servers_gone
from tests.capture.test_lost_connections import is_writer, kill_servers

SLOW = CopyOptions(bandwidth=4 * MIB, connections=1, request_size=256 * 1024)

_OFTEN = """
import sys
from ntxengine.dataplane import checkpoints
checkpoints.DUE_S, checkpoints._SELDOMER = 0.02, 0
from ntxengine.cli.main import main
sys.exit(main())
"""


def checkpoints_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a disk of some MiB have many of them."""
    monkeypatch.setattr(due, "DUE_S", 0.02)
    monkeypatch.setattr(due, "_SELDOMER", 0)


def fill(lab: Lab) -> None:
    """Let the guest write to both disks."""
    lab.write(0, 0, os.urandom(6 * MIB))
    lab.zero(0, 4 * MIB, MIB)
    lab.write(1, 0, os.urandom(2 * MIB))


def write_after_freeze(lab: Lab) -> None:
    """Let the guest go on after the VM was frozen."""
    lab.write(0, 512, os.urandom(3 * MIB))
    lab.write(1, MIB, os.urandom(MIB))


def stored_to(lab: Lab) -> dict[str, int]:
    """Return how far each disk is, as the journals say."""
    found = {}
    for path in lab.repository.path.glob("*/.unfinished-*/disk-*.journal"):
        with contextlib.suppress(Exception):
            kept = journal.read(path)
            found[path.name] = kept.stored_to if kept else 0
    return found


def is_copied(lab: Lab, length: int) -> Callable[[], bool]:
    """Return what says whether so much of some disk is stored."""
    return lambda: any(to >= length for to in stored_to(lab).values())


class KillsOnceStored(Witness):
    """Kills what writes the image of a disk once so many bytes of it are known to be stored."""

    def __init__(self, lab: Lab, at: int, label: str) -> None:
        super().__init__()
        self._lab = lab
        self._at = at
        self._label = label
        self.killed = 0

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        is_copied = isinstance(event, Progressed) and event.stage is Stage.COPY and event.disk_label == self._label
        journal_name = f"disk-{event.disk_id.lower()}.journal"
        if is_copied and not self.killed and stored_to(self._lab).get(journal_name, 0) >= self._at:
            self.killed += kill_servers(self._lab.repository.path, is_writer)


async def interrupt(lab: Lab, *, at: int = 2 * MIB, label: str = "scsi.0", **options: Any) -> Path:
    """Let a capture fail once `at` bytes of a disk are stored; return its unfinished point."""
    killing = KillsOnceStored(lab, at, label)
    before, lab.make_witness = lab.make_witness, lambda: killing
    with pytest.raises(PlaceError):
        await lab.capture(**{"copy": SLOW, "parallel": 1, "retry_for_s": 0, **options})
    lab.make_witness = before
    assert any("is kept as point" in text for text in killing.warnings)
    (unfinished,) = lab.unfinished()
    return unfinished


class NtxCapture:
    """`ntx capture db01` as a process that makes many checkpoints."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    async def run(self, *options: str, kill_when: Callable[[], bool] = lambda: False) -> tuple[int, str]:
        """Return its status and what it said on stderr."""
        arguments = ["capture", "db01", "--to", str(self._lab.repository.path), "--progress", "plain", *options]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NTX_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _OFTEN, *arguments),
            env={**kept, **self._lab.sim.env, "PYTHONPATH": str(ROOT / "src")},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        said = asyncio.create_task(process.communicate())
        while not said.done():
            if kill_when():
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGKILL)
                break
            await asyncio.sleep(0.002)
        _, err = await said
        assert process.returncode is not None
        if process.returncode == -signal.SIGKILL:
            assert await servers_gone(self._lab.repository.path)
        return process.returncode, err.decode()


def damaged(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what may become of a file."""
    yield "empty", b""
    yield "half", data[: len(data) // 2]
    middle = len(data) // 2
    yield "flipped", data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]

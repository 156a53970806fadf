"""Captures that are interrupted in the middle of a disk, in this process or with a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ntxengine.capture import CaptureOptions
from ntxengine.capture.plan import plan_capture
from ntxengine.capture.resume import Resumer, Resumption
from ntxengine.concurrency.signals import send
from ntxengine.dataplane import checkpoints as due
from ntxengine.dataplane import journal, transfer
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.journal import Journal
from ntxengine.errors import PlaceError
from ntxengine.events import Event, Stage, StageBegan
from ntxengine.repository import interrupted
from ntxengine.units import utc_now
from tests.capture.lab import MIB, Lab, Witness
from tests.capture.test_interrupted import ROOT, servers_gone

SLOW = CopyOptions(bandwidth=2 * MIB, connections=1, request_size=256 * 1024)

IS_LONG = os.environ.get("NTX_RESUME_LONG") == "1"
"""As `make soak` has it: everything, where `make test` takes one of each kind."""

_OFTEN = """
import sys
from ntxengine.dataplane import checkpoints, transfer
checkpoints.DUE_S, checkpoints._SELDOMER, transfer.PROGRESS_INTERVAL_S = 0.02, 0, 0.01
from ntxengine.cli.main import main
sys.exit(main())
"""


write_journal = journal.write


def checkpoints_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a disk of some MiB have many of them."""
    monkeypatch.setattr(due, "DUE_S", 0.02)
    monkeypatch.setattr(due, "_SELDOMER", 0)
    monkeypatch.setattr(transfer, "PROGRESS_INTERVAL_S", 0.01)


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


class FailsOnceStored(Witness):
    """Lets no file grow any more as soon as a journal says that so many bytes of a disk are stored."""

    def __init__(self, lab: Lab, at: int, label: str) -> None:
        super().__init__()
        self._lab = lab
        self._at = at
        self._label = label
        self._journal = ""
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if isinstance(event, StageBegan) and event.stage is Stage.COPY and event.disk_label == self._label:
            self._journal = f"disk-{event.disk_id.lower()}.journal"

    def write(self, path: Path, kept: Journal) -> None:
        """Stand for journal.write: the copy cannot end before it has come back."""
        write_journal(path, kept)
        if path.name == self._journal and kept.stored_to >= self._at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (min(self._at, MIB), self._limits[1]))

    def end(self) -> None:
        """Let them grow again."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)


async def interrupt(lab: Lab, *, at: int = 2 * MIB, label: str = "scsi.0", **options: Any) -> Path:
    """Let a capture fail once `at` bytes of a disk are stored; return its unfinished point."""
    failing = FailsOnceStored(lab, at, label)
    before, lab.make_witness = lab.make_witness, lambda: failing
    try:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(PlaceError) as caught:
            patch.setattr(journal, "write", failing.write)
            await lab.capture(**{"copy": SLOW, "parallel": 1, "retry_for_s": 0, **options})
    finally:
        failing.end()
    lab.make_witness = before
    assert any("is kept as point" in text for text in failing.warnings), (failing.warnings, caught.value)
    (unfinished,) = lab.unfinished()
    return unfinished


@dataclass
class Found:
    """What a capture finds of an interrupted one, before it copies: None if it begins anew."""

    resumption: Resumption | None
    warnings: list[str]


async def find(lab: Lab, **options: Any) -> Found:
    """Do what a capture does before it copies."""
    asked, warnings = CaptureOptions(**options), list[str]()
    async with lab.repository.lock(lab.vm_id) as lock:
        plan = await plan_capture(lab.prism, lab.repository, lab.vm_id, asked, attacher=lab.attacher)
        resumer = Resumer(lab.prism, lab.repository, lock, asked, lab.attacher, warnings.append)
        resumption = await resumer.find(plan)
        if resumption is not None:
            resumption.unfinished.leave()
    return Found(resumption, warnings)


def expire(unfinished: Path) -> None:
    """Let the record of an interrupted capture say that its recovery point is too old."""
    (found,) = interrupted.find(unfinished.parent)
    assert found.resume is not None
    interrupted.write(unfinished, dataclasses.replace(found.resume, expires_at=utc_now() - timedelta(seconds=1)))


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
                send(process, signal.SIGKILL)
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

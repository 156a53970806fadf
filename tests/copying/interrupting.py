"""Copies with a journal that are interrupted, in this process or as processes of their own."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ntxengine
from ntxengine.dataplane import journal
from ntxengine.dataplane.manifest import Manifest
from tests.cli.ntx import environment
from tests.support.processes import processes

MIB = 1024**2
SIZE = 8 * MIB + 512
SLOW = ntxengine.CopyOptions(bandwidth=MIB // 2, connections=1, request_size=65536)
"""Of a copy that is interrupted: where checkpoints take long, too, it has made some before its end."""

OFTEN = (
    "from ntxengine.dataplane import checkpoints\n"
    "checkpoints.DUE_S, checkpoints._SELDOMER = 0.1, 0\n"
    "from ntxengine.cli.main import main\n"
    "main()\n"
)
"""`ntx` with a checkpoint ten times a second, whatever that costs."""


class Files:
    """The files of a copy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = make_disk(folder / "source")
        self.target = folder / "target"
        self.partial = folder / "target.ntx-partial"
        self.journal = folder / "journal"
        self.manifest = folder / "journal.manifest"

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    async def interrupt(self) -> int:
        return await interrupted(self.source, self.target, self.journal)

    async def copy(self) -> ntxengine.DiskCopyReport:
        return await ntxengine.copy(self.source, self.target, journal=self.journal)


def make_disk(path: Path, size: int = SIZE, seed: int = 1) -> Path:
    """Data, and zeros between it, up to an end in the middle of a block."""
    chance = random.Random(seed)
    with open(path, "wb") as file:
        for start in range(0, size, MIB):
            file.seek(start)
            file.write(chance.randbytes(min(5 * MIB // 8, size - start)))
        file.truncate(size)
    return path


async def interrupted(source: Path | str, target: Path | str, path: Path, **more: Any) -> int:
    """Copy until something is stored, and stop.  Return how far it is."""
    more.setdefault("options", SLOW)
    task = asyncio.create_task(ntxengine.copy(source, target, journal=path, retry_for_s=0, **more))
    while not task.done():
        await asyncio.sleep(0.01)
        if stored_to(path) > 0:
            break
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return stored_to(path)


def stored_to(path: Path) -> int:
    found = journal.read(path)
    return 0 if found is None else found.stored_to


def threads_there() -> int:
    """Return how many threads there are, without those of the loop's executor, which stay for the next call."""
    return sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())


def start(*arguments: str | Path, often: bool = True, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start `ntx` as a process."""
    command = [sys.executable, "-c", OFTEN] if often else [sys.executable, "-m", "ntxengine.cli.main"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def killed_after(seconds: float, process: subprocess.Popen[bytes]) -> bool:
    """Kill a process after some time; say whether it still ran.  One that ended must have ended well."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    was_killed = process.poll() is None
    process.kill()
    _, err = process.communicate()
    assert was_killed or process.returncode == 0, err.decode()
    return was_killed


def repeated(path: Path, manifest: Path) -> int:
    """Return the bytes of data that the next run copies again."""
    found = journal.read(path)
    if found is None or not manifest.exists() or found.stored_to == 0:
        return manifest_data(manifest, found.size) if found is not None and manifest.exists() else 0
    with Manifest.reopen(manifest, size=found.size, unseal=True) as digests:
        return digests.bytes_data(found.stored_to)


def manifest_data(manifest: Path, size: int) -> int:
    with suppress(ntxengine.RepositoryError), Manifest.reopen(manifest, size=size, unseal=True) as digests:
        return digests.bytes_data()
    return 0


def processes_of(folder: Path) -> list[str]:
    """Return the processes that have something of a folder in their arguments or in their environment."""
    found = []
    for process in processes():
        with suppress(OSError):
            said = os.fsencode(process.command) + (process.folder / "environ").read_bytes()
            if os.fsencode(folder) in said and process.pid != os.getpid():
                found.append(process.command)
    return found


def wait_until(condition: Any, timeout_s: float = 60.0) -> bool:
    """Wait for something that another process does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True

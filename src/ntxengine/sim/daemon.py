"""A real program that a simulator runs beside itself: the kernel kills it when we die, and what it says is kept."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from ntxengine.concurrency.signals import send
from ntxengine.concurrency.tied import tied

PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

ENVIRONMENT = {"PATH": PATH, "LC_ALL": "C"}
"""What such a program sees: nothing of the user's."""

_TRY_S = 0.02


def absent(programs: Mapping[str, str]) -> str:
    """Return the packages of those programs that are not installed, "" if all are."""
    return " and ".join(sorted({package for name, package in programs.items() if not shutil.which(name, path=PATH)}))


class Daemon:
    """One program; it runs in `folder`, and says into `folder`/log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id, None while it does not run."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(
        self,
        *command: str,
        environment: Mapping[str, str],
        is_ready: Callable[[], Awaitable[bool]],
        timeout_s: float,
    ) -> bool:
        """Start it; return whether it came to be ready.  One that did not is ended."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._log.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *tied(*command),
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment,
                start_new_session=True,
            )
        for _ in range(round(timeout_s / _TRY_S)):
            if self.pid is None:
                break
            if await is_ready():
                return True
            await asyncio.sleep(_TRY_S)
        await self.kill()
        return False

    async def ended(self) -> None:
        """Wait until it has ended by itself."""
        if self._process is not None:
            await self._process.wait()

    async def kill(self) -> None:
        """End it."""
        if self._process is None:
            return
        send(self._process, signal.SIGKILL)
        await self._process.wait()
        self._process = None

    def said(self) -> list[str]:
        """Return the lines that it has said, one if there are none."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return text.strip().splitlines() or ["it says nothing"]

    @property
    def _log(self) -> Path:
        return self.folder / "log"

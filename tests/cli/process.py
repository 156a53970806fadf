"""A program of ours that runs until it is told to end: an agent."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.cli.ntx import environment

LIMIT_S = 120.0


class Process:
    """An agent; `log` is what it said so far."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._file = folder / "log"
        with open(self._file, "wb") as log:
            command = [sys.executable, "-m", "ntxengine", *arguments]
            self._process = subprocess.Popen(
                command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log
            )

    @property
    def log(self) -> str:
        return self._file.read_text()

    def until(self, is_so: Callable[[], object]) -> None:
        end = time.monotonic() + LIMIT_S
        while not is_so():
            assert time.monotonic() < end, self.log
            assert self._process.poll() is None, self.log
            time.sleep(0.02)

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        self.tell(signal.SIGTERM)
        return self._process.wait(LIMIT_S)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

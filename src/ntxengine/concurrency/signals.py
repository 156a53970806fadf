"""A signal for a program that the loop started."""

from __future__ import annotations

import os
import signal
from asyncio.subprocess import Process
from contextlib import suppress


def send(process: Process, what: signal.Signals) -> None:
    """Send a signal to a program, unless it has ended.

    Not by its kill(), terminate() or send_signal(): they would take the status of one that has just ended away from the
    loop, which warns, and says 255 instead (Python before 3.13).
    """
    with suppress(ProcessLookupError):
        if process.returncode is None:
            os.kill(process.pid, what)

"""One simulator to a state folder: two would write each other's recovery points away."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ntxengine.errors import LockedError, MachineError, NotFoundError

LOCK_FILE = "sim.lock"
"""Held while a simulator runs; holds the number of its process."""

STOP_TIMEOUT_S = 30.0
_POLL_S = 0.02


@contextmanager
def used_by_us(state_dir: Path) -> Iterator[None]:
    """Hold a state folder, which is made if there is none.

    Errors: LockedError, which names the process that has it.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise LockedError(
                f"state folder {state_dir} is used by the simulator of process {_number_in(state_dir)}: stop it with "
                f"`ntx sim --stop --state {state_dir}`, or name another folder with --state"
            ) from exc
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)  # the number may come to mean another process


def stop(state_dir: Path) -> int:
    """End the simulator that uses a state folder, wait until it has, and return the number that its process had.

    Errors: NotFoundError if there is none; MachineError if it may not be ended, or does not end in time.
    """
    number = _number_in(state_dir) if _is_used(state_dir) else None
    if number is None:
        raise NotFoundError(f"no simulator uses the state folder {state_dir}")
    try:
        process = os.pidfd_open(number)
    except ProcessLookupError:
        return number
    try:
        # Looked at again now that the number can no longer come to mean another process.
        if _is_used(state_dir) and _number_in(state_dir) == number:
            signal.pidfd_send_signal(process, signal.SIGTERM)
    except PermissionError as exc:
        raise MachineError(f"process {number} may not be ended: it belongs to another user") from exc
    finally:
        os.close(process)
    deadline_s = time.monotonic() + STOP_TIMEOUT_S
    while _is_used(state_dir):
        if time.monotonic() > deadline_s:
            raise MachineError(f"the simulator of process {number} did not end within {STOP_TIMEOUT_S:g} s: kill it")
        time.sleep(_POLL_S)
    return number


def _is_used(state_dir: Path) -> bool:
    try:
        with (state_dir / LOCK_FILE).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _number_in(state_dir: Path) -> int | None:
    text = (state_dir / LOCK_FILE).read_text().strip()
    return int(text) if text.isdecimal() else None

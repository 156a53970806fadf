"""Programs that a job has started: before a run, after one that succeeded, after one that failed for good.

A hook is an argument vector, never a line for a shell.  It gets JSON on stdin (docs/schema/hook.json), an environment
of its own with nothing of ours in it, and so much time; then its process group is ended.  Nothing of it outlives its
run, but for what made itself a session of its own.

What a hook does with its stdin and its stdout cannot hold anybody up: the one is a file in memory, the other is read
while the hook runs, no faster than a limit, and not longer.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from ntxengine.agent.documents import run_document
from ntxengine.agent.records import Run
from ntxengine.concurrency.completion import run_to_completion
from ntxengine.concurrency.tied import tied
from ntxengine.errors import OptionsError, ToolError, machine_error

log = logging.getLogger(__name__)

VERSION = 1
"""Of the JSON on stdin: one that means something else gets a new one."""

TIMEOUT_S = 60.0
GRACE_S = 2.0
"""Between SIGTERM and SIGKILL."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_KEPT = 8192
"""Bytes of what a hook says that are kept: the last, for the cause comes last."""
_CHUNK = 65536
_READ_INTERVAL_S = 0.02
_LINES = 50
_SHOWN = 500


class HookFailed(ToolError):
    """A hook could not be started, said no, or was not done in time."""


@dataclasses.dataclass(frozen=True)
class Hooks:
    """The hooks of a job, each an argument vector, empty for none; each may take `timeout_s`.  Errors: OptionsError."""

    start: tuple[str, ...] = ()
    success: tuple[str, ...] = ()
    failure: tuple[str, ...] = ()
    timeout_s: float = TIMEOUT_S

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise OptionsError(f"hooks: timeout {self.timeout_s:g} s is no time")
        for argv in (self.start, self.success, self.failure):
            if any("\0" in each for each in argv) or (argv and not argv[0]):
                raise OptionsError("hooks: what is no program, or has a zero byte, cannot be started")


async def run_hook(event: str, argv: Sequence[str], run: Run, timeout_s: float) -> None:
    """Start the hook of an event, and wait for its end.  Cancelled, it ends the hook first.  Errors: HookFailed."""
    name = f"hook {event} ({argv[0]})"
    if shutil.which(argv[0], path=PATH) is None:
        raise HookFailed(f"{name}: there is no such program that may be run; without a / it is looked for in {PATH}")
    if shutil.which("setpriv") is None:
        raise HookFailed(f"{name}: setpriv is not installed: install the package util-linux")
    document = {"version": VERSION, "event": event, "run": run_document(run)}
    with _Output() as output:
        try:
            process = await _start(argv, msgspec.json.encode(document), _environment(event, run), output)
        except (OSError, ValueError) as exc:
            text = getattr(exc, "strerror", None) or str(exc)
            raise machine_error(name, exc) or HookFailed(f"{name}: cannot be started: {text}") from exc
        status: int | None = None
        try:
            async with asyncio.timeout(timeout_s):
                status = await process.wait()
        except TimeoutError:
            pass
        finally:
            # Also of one that has ended: what it left in the background goes with it.
            await run_to_completion(_end(process))
            said = output.close()
    for line in said[-_LINES:]:
        log.info("%s: %s", name, line[:_SHOWN])
    if status is None:
        raise HookFailed(f"{name}: was not done after {timeout_s:g} s, and was ended{_last(said)}")
    if status != 0:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with exit code {status}"
        raise HookFailed(f"{name}: {how}{_last(said)}")


def _last(said: Sequence[str]) -> str:
    return f": {said[-1][:_SHOWN]}" if said else ""


def _environment(event: str, run: Run) -> dict[str, str]:
    """Return all that a hook has of an environment.

    Not the name of the VM, which whoever may name one has chosen: it is in the JSON.
    """
    return {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "NTX_EVENT": event,
        "NTX_RUN_ID": run.id,
        "NTX_JOB": run.job,
        "NTX_VM_ID": run.vm_id,
    }


async def _start(
    argv: Sequence[str], document: bytes, environment: dict[str, str], output: _Output
) -> asyncio.subprocess.Process:
    """Start a hook: with its own process group, tied to us, with the document in memory as its stdin."""
    given = os.memfd_create("ntx-hook")
    try:
        view = memoryview(document)
        while view:
            view = view[os.write(given, view) :]
        os.lseek(given, 0, os.SEEK_SET)
        return await asyncio.create_subprocess_exec(
            *tied(*argv),
            stdin=given,
            stdout=output.write_end,
            stderr=output.write_end,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(given)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a hook and its process group."""
    if process.returncode is None:
        _signal_group(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await process.wait()
    _signal_group(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):  # a hook in a system call that does not end: its end is the kernel's business
        async with asyncio.timeout(GRACE_S):
            await process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


class _Output:
    """What a hook says: read while it runs, the end of it kept.  A context manager that closes what is open."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self.write_end, True)
        self._loop = asyncio.get_running_loop()
        self._kept = bytearray()
        self._later: asyncio.TimerHandle | None = None
        self._is_open = True
        self._loop.add_reader(self._read_end, self._read)

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> list[str]:
        """Take what is there, wait for no more, and return what was said in lines that can be shown."""
        if self._is_open:
            self._is_open = False
            self._pause()
            if self._later is not None:
                self._later.cancel()
            os.close(self.write_end)
            self._take()
            os.close(self._read_end)
        lines = self._kept.decode("utf-8", "replace").splitlines()
        shown = ("".join(letter if letter.isprintable() else "?" for letter in line).strip() for line in lines)
        return [line for line in shown if line]

    def _read(self) -> None:
        """Take a piece, and no other for a moment: whoever says much must not cost us a processor."""
        self._pause()
        if self._take():
            self._later = self._loop.call_later(_READ_INTERVAL_S, self._go_on)

    def _take(self) -> bool:
        """Take a piece; return whether there may be more."""
        try:
            data = os.read(self._read_end, _CHUNK)
        except BlockingIOError:
            return True
        self._kept += data
        del self._kept[:-_KEPT]
        return bool(data)

    def _go_on(self) -> None:
        self._loop.add_reader(self._read_end, self._read)

    def _pause(self) -> None:
        self._loop.remove_reader(self._read_end)

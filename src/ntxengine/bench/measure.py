"""Wall time, CPU time and memory of client processes, as the kernel counts them when it hands over their end."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO

import msgspec

from ntxengine.bench import tools
from ntxengine.bench.wire import Done, Proof, Report, Request
from ntxengine.concurrency.tied import tied
from ntxengine.errors import ToolError
from ntxengine.units import KIB

RUN_TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Used:
    """What one run used; of several processes at once: until the last one's end, their CPU time and memory together."""

    seconds: float
    cpu_seconds: float
    peak_memory: int
    reports: tuple[Report, ...] = ()
    outputs: tuple[str, ...] = ()


def run_clients(commands: Sequence[Sequence[str]], *, timeout_s: float = RUN_TIMEOUT_S) -> Used:
    """Run all `commands` at the same time and wait for them.

    Errors: ToolError if one fails, or is not done after `timeout_s`.
    """
    processes: list[subprocess.Popen[bytes]] = []
    environment = tools.environment()
    with ExitStack() as stack:
        outs = [stack.enter_context(tempfile.TemporaryFile()) for _ in commands]
        errs = [stack.enter_context(tempfile.TemporaryFile()) for _ in commands]
        stack.callback(_end_all, processes)
        stack.enter_context(_time_limit(timeout_s, processes))
        began = time.perf_counter()
        for command, out, err in zip(commands, outs, errs, strict=True):
            processes.append(_start(command, out, err, environment))
        ends = [_wait(process) for process in processes]
        seconds = time.perf_counter() - began
        for command, process, err in zip(commands, processes, errs, strict=True):
            if process.returncode != 0:
                late = f" (it was given {timeout_s:g} s)" if seconds >= timeout_s else ""
                raise ToolError(f"{shlex.join(command)} {tools.ending(process.returncode, _text(err))}{late}")
        memory = sum(peak for _, peak in ends)
        return Used(seconds, sum(cpu for cpu, _ in ends), memory, outputs=tuple(_text(out) for out in outs))


@contextmanager
def _time_limit(seconds: float, processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Kill `processes` when the block takes longer."""
    timer = threading.Timer(seconds, _kill_all, [processes])
    # An interrupt may come while it is being started: then nobody waits for it.
    timer.daemon = True
    try:
        timer.start()
        yield
    finally:
        timer.cancel()


def _kill_all(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Kill what runs.  Not by Popen.kill: it may take the end of a process away from `_wait`."""
    for process in processes:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def _end_all(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    _kill_all(processes)
    for process in processes:
        process.wait()


def _start(
    command: Sequence[str], out: IO[bytes], err: IO[bytes], environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, process_group=0)


def _wait(process: subprocess.Popen[bytes]) -> tuple[float, int]:
    """Wait for the end of a process.  Return its CPU seconds and its peak memory in bytes."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime, used.ru_maxrss * KIB


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


class Engine:
    """The process that client.py is, between `__enter__` and `__exit__`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Engine:
        self._process = subprocess.Popen(
            tied(sys.executable, "-m", "ntxengine.bench.client"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=tools.environment(),
            process_group=0,
        )
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        # What it was doing when we were interrupted is of no use to anybody.
        process.kill()
        process.wait()
        process.stdout.close()
        with suppress(BrokenPipeError):
            process.stdin.close()

    def run(self, request: Request) -> tuple[Used, tuple[str, ...]]:
        """Have the work done.  Return what it used, and the digests of the disks.

        Errors: ToolError with what the engine said.
        """
        process = self._process
        assert process is not None
        assert process.stdin is not None
        line = msgspec.json.encode(request) + b"\n"
        with _time_limit(RUN_TIMEOUT_S, [process]):
            began = time.perf_counter()
            try:
                process.stdin.write(line)
                process.stdin.flush()
            except BrokenPipeError as exc:
                raise ToolError("the engine's process is gone") from exc
            answer = self._answer()
            seconds = time.perf_counter() - began
            done = msgspec.json.decode(answer, type=Done)
            if done.error:
                raise ToolError(f"the engine failed: {done.error}")
            digests = msgspec.json.decode(self._answer(), type=Proof).digests
        return Used(seconds, done.cpu_seconds, done.peak_memory, reports=done.reports), digests

    def _answer(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ToolError(f"the engine's process ended before it answered (after {RUN_TIMEOUT_S:g} s it is ended)")
        return line

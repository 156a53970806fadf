"""Starting qemu's programs: argument vectors, no inherited descriptors, and they die with us (concurrency/tied.py)."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ntxengine import machine
from ntxengine.concurrency.completion import run_to_completion
from ntxengine.concurrency.signals import send
from ntxengine.concurrency.tied import tied
from ntxengine.errors import MachineError, MissingProgram, NtxError, TargetError, ToolError
from ntxengine.files import free_space
from ntxengine.units import MIB

PACKAGES = {"qemu-nbd": "qemu-utils", "qemu-img": "qemu-utils", "setpriv": "util-linux", "iscsiadm": "open-iscsi"}
_DRIVER_PACKAGE = "qemu-block-extra"
_NO_DRIVER = re.compile(r"Unknown driver '(\w+)'|[Dd]river '(\w+)' is not (?:whitelisted|supported)")
_NO_SPACE = {28: "No space left on device", 122: "Disk quota exceeded"}
_NOISE = re.compile(
    r"disconnect client|option negotiation failed|failed to read (?:option|flags|request)", re.IGNORECASE
)
_NODE = re.compile(r"'json:\{.*\}'")  # how qemu names a chain that we gave it: too long to be read
KEPT_BUFFERS = {"MALLOC_MMAP_THRESHOLD_": str(32 * MIB), "MALLOC_TRIM_THRESHOLD_": str(64 * MIB)}
"""For qemu-nbd: glibc would give the buffer of each large request back to the kernel, which clears and maps every page
of the next one again.  That took two thirds of its CPU (bench/notes/qemu-nbd.md)."""
_NOT_PASSED_ON = (
    "LISTEN_FDS",
    "LISTEN_PID",
    "LANGUAGE",
    "NTX_PASSWORD",
    "NTX_ELEMENT_PASSWORD",
    "NTX_API_KEY",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
)
STDERR_LIMIT = 8192  # bytes of a program's complaints that are kept, from the end
OUTPUT_LIMIT = 64 * 1024  # bytes that a program may say where nobody takes them as they come
_CHUNK = 64 * 1024
MESSAGE_LIMIT = 400  # characters of a program's own words in a message of ours


class NoDriver(ToolError):
    """This machine's qemu lacks a driver; `reason` says so, and what to install."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def missing(program: str) -> str:
    """Return which package is missing to start `program`, "" if none is."""
    for tool in (program, "setpriv"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed: install the package {PACKAGES[tool]}"
    return ""


def command(program: str, *arguments: str) -> list[str]:
    """Return the argument vector that starts `program` so that it dies with us: see `tied`.

    Errors: MissingProgram.
    """
    if lacking := missing(program):
        raise MissingProgram(lacking)
    return tied(program, *arguments)


def environment() -> dict[str, str]:
    """Return our environment with messages in English, no secret, and no socket that qemu-nbd would take from somebody.

    What the user says about malloc stands.
    """
    return KEPT_BUFFERS | inherited() | {"LC_ALL": "C"}


def inherited() -> dict[str, str]:
    """Return of our environment what any program that we start may see: no secret, nobody's socket."""
    return {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}


async def run(
    program: str,
    *arguments: str,
    action: str,
    path: Path | str,
    timeout_s: float | None = None,
    take: Callable[[bytes], None] | None = None,
) -> bytes:
    """Run a program to its end and return its output; or hand that to `take`, piece by piece as it comes.

    Errors: MissingProgram; ToolError if it fails, is not done after `timeout_s`, or has more to return than
            OUTPUT_LIMIT; TargetError if it fails because a file system is full; what `take` raises.
    """
    argv = command(program, *arguments)
    kept = bytearray()

    def keep(data: bytes) -> None:
        kept.extend(data)
        if len(kept) > OUTPUT_LIMIT:
            raise ToolError(f"{path}: {action} failed: {program} said more than {OUTPUT_LIMIT} bytes")

    with tempfile.TemporaryFile(dir=machine.temporary_folder()) as errors:
        with starting(program, action=action, path=path):
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=environment(),
                # An interrupt from the terminal is for us.
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(timeout_s):
                status = await _read_to_end(process, take or keep)
        except BaseException as exc:
            await run_to_completion(_kill(process))
            if isinstance(exc, TimeoutError):
                raise ToolError(f"{path}: {action} failed: {program} was not done after {timeout_s:g} s") from exc
            raise
        words = last_words(errors)
    if status != 0:
        raise failure(program, words or bytes(kept), status, action=action, path=path)
    return bytes(kept)


async def _read_to_end(process: asyncio.subprocess.Process, take: Callable[[bytes], None]) -> int:
    assert process.stdout is not None
    while data := await process.stdout.read(_CHUNK):
        take(data)
    return await process.wait()


async def _kill(process: asyncio.subprocess.Process) -> None:
    send(process, signal.SIGKILL)
    await process.communicate()


def last_words(errors: IO[bytes]) -> bytes:
    """Return the end of what a program said into a file: the cause comes last."""
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - STDERR_LIMIT))
    return errors.read()


@contextmanager
def starting(program: str, *, action: str, path: Path | str) -> Iterator[None]:
    """Say of an OSError in the block that `program` could not be started.

    Errors: MachineError if a limit of this machine is the cause, else ToolError.
    """
    try:
        yield
    except OSError as exc:
        code = exc.errno or 0
        remedy = machine.remedy(code)
        text = f"{path}: {action} failed: {program} cannot be started: {exc.strerror or exc}{remedy}"
        raise (MachineError(text) if remedy else ToolError(text)) from exc


def failure(program: str, output: bytes, status: int, *, action: str, path: Path | str) -> NtxError:
    """Return the exception for a program that ended with `status` after saying `output`."""
    words = one_line(program, output) or (f"killed by signal {-status}" if status < 0 else f"exit status {status}")
    if driver := _NO_DRIVER.search(words):
        reason = f"qemu has no {driver[1] or driver[2]} driver here: install the package {_DRIVER_PACKAGE}"
        return NoDriver(f"{path}: {action} failed: {reason}", reason=reason)
    for code, text in _NO_SPACE.items():
        if text.lower() in words.lower():
            return TargetError(f"{path}: {action} failed: {text}{free_space.remedy(code, path)}", errno=code)
    return ToolError(f"{path}: {action} failed: {program}: {words}")


def one_line(program: str, output: bytes) -> str:
    """Return what a program said as one line for a message, without its name and what it says of every client.

    A long one loses its beginning: the cause comes last.
    """
    text = output.decode("utf-8", "replace")
    lines = [line.strip().removeprefix(f"{program}: ") for line in re.split(r"[\r\n]+", text)]
    joined = "; ".join(_NODE.sub("the image", line) for line in lines if line and not _NOISE.search(line))
    printable = "".join(letter if letter.isprintable() else "?" for letter in joined)
    return printable if len(printable) <= MESSAGE_LIMIT else "..." + printable[3 - MESSAGE_LIMIT :]

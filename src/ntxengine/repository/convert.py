"""An image chain into one plain file, by qemu-img, the authority on its format."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ntxengine.repository import images, process
from ntxengine.shield import in_peace

COROUTINES = 8
"""Requests of qemu-img in flight; more than 16 it refuses."""

_PROGRESS = re.compile(rb"\(([0-9]{1,3}\.[0-9]{2})/100%\)")
_OPTIONS = {"raw": (), "qcow2": ("-o", "compat=1.1,cluster_size=65536")}


async def convert(
    chain: Sequence[Path], target: Path, *, format: str, on_progress: Callable[[float], None] | None = None
) -> None:
    """Write what `chain`, newest first, reads as into `target`, sparse.  Not synced: that is the caller's.

    Units:  progress goes from 0 to 1.
    Errors: ToolError, TargetError (file system full).  After an error or a cancellation the target is worthless.
    """
    argv = process.command(
        "qemu-img",
        # Out of order is right for a file that nobody reads before it is whole.
        *("convert", "-p", "-W", "-m", str(COROUTINES), "-O", format, *_OPTIONS[format], "--"),
        images.node(chain),
        images.absolute(target),
    )
    with process.starting("qemu-img", action="restoring", path=target):
        program = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=process.environment(),
            start_new_session=True,
        )
    try:
        assert program.stdout is not None
        assert program.stderr is not None
        _, words = await asyncio.gather(_follow(program.stdout, on_progress), _last_words(program.stderr))
        status = await program.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            program.kill()
        await in_peace(program.communicate())
        raise
    if status != 0:
        raise process.failure("qemu-img", words, status, action="restoring", path=target)


async def _follow(stream: asyncio.StreamReader, on_progress: Callable[[float], None] | None) -> None:
    tail = b""
    while data := await stream.read(4096):
        tail = (tail + data)[-256:]
        found = _PROGRESS.findall(tail)
        if found and on_progress is not None:
            on_progress(min(1.0, float(found[-1]) / 100))


async def _last_words(stream: asyncio.StreamReader) -> bytes:
    words = b""
    while data := await stream.read(4096):
        words = (words + data)[-process.STDERR_LIMIT :]
    return words

"""Standard input as a source and standard output as a target: what comes next is all that can be had of them.

A pipe says neither how much will come nor where zeros are; a file that the shell opened knows its size.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ntxengine._core.device import Device
from ntxengine.errors import OptionsError

STDIN, STDOUT = 0, 1
UNBOUNDED = 2**63 - 1
"""More than any disk has: NTX_MAX_DEVICE_SIZE."""


def check_stdin() -> None:
    """Refuse a terminal.  Errors: OptionsError."""
    if os.isatty(STDIN):
        raise OptionsError("-: standard input is a terminal: give it a pipe or a file")


def check_stdout() -> None:
    """Refuse a terminal.  Errors: OptionsError."""
    if os.isatty(STDOUT):
        raise OptionsError("-: standard output is a terminal: give it a pipe or a file")


def size_of_stdin() -> int | None:
    """Return how many bytes are left in it; None: nobody knows."""
    mode = os.fstat(STDIN).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        return None
    at = os.lseek(STDIN, 0, os.SEEK_CUR)
    end = os.lseek(STDIN, 0, os.SEEK_END)
    os.lseek(STDIN, at, os.SEEK_SET)
    return max(0, end - at)


def check_other(path: Path, descriptor: int) -> None:
    """Refuse a file or device at `path` that is open there, too.  Errors: OptionsError."""
    try:
        is_same = os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return
    if is_same:
        raise OptionsError(f"{path}: is standard {'input' if descriptor == STDIN else 'output'} as well: name another")


def open_stdin(size: int, *, may_end: bool) -> Device:
    """Open it for `size` bytes; `may_end`: at most, and then they are known when a copy has ended.

    It has to be read to its end: more than that is an error of the copy, and so is less.
    """
    return Device.open_pipe(STDIN, b"standard input", size=size, may_end=may_end)


def open_stdout() -> Device:
    """Open it for whatever will be written."""
    return Device.open_pipe(STDOUT, b"standard output", write=True, size=UNBOUNDED)


def open_growing(path: Path) -> Device:
    """Open an empty file that becomes as long as what is written into it, in order.  Errors: OSError, PlaceError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        return Device.open_pipe(fd, os.fsencode(path), write=True, size=UNBOUNDED)
    finally:
        os.close(fd)

"""How much room is left where a file lies, and what is said of one that could not grow."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ntxengine.errors import MachineError
from ntxengine.units import format_size

_FREE = "; free some space"


def remedied(text: str, code: int, path: Path | str) -> str:
    """Return the message of an error with its remedy, unless it has one."""
    return text if _FREE in text else f"{text}{remedy(code, path)}"


def remedy(code: int, path: Path | str) -> str:
    """Return what goes behind the message of an error, if its errno means that there is no room; "" if not."""
    if code == errno.EDQUOT:
        return f"{_FREE}, or raise the quota"
    if code != errno.ENOSPC:
        return ""
    return f"{_left(Path(path))}{_FREE}, or use another file system"


@contextmanager
def naming(path: Path | str, action: str) -> Iterator[None]:
    """Let an error of the core about `action`, for which it knows a descriptor alone, say which file it is about."""
    try:
        yield
    except MachineError as exc:
        text = str(exc)
        if not text.startswith(action):
            raise
        raise MachineError(f"{path}: {text}{remedy(lacks_room(exc), path)}") from exc


def lacks_room(error: MachineError) -> int:
    """Return the errno of an error of the core that means that there is no room, 0 of any other.

    What it says of this machine comes as text alone.
    """
    return next((code for code in (errno.ENOSPC, errno.EDQUOT) if os.strerror(code) in str(error)), 0)


def free_bytes(path: Path) -> int:
    """Return what the file system where `path` is, or would be, has free for us.  Errors: OSError."""
    return free_and_size(path)[0]


def _left(path: Path) -> str:
    """Return how much is free; "" if that cannot be found out."""
    try:
        free, size = free_and_size(path)
    except OSError:
        return ""
    return f"; its file system has {format_size(free)} of {format_size(size)} free"


def free_and_size(path: Path) -> tuple[int, int]:
    """Return what is free for us, and how large the file system is, in bytes: of the nearest folder that exists, since
    `path` may not be there yet, or any more.

    Errors: OSError.
    """
    whole = path.absolute()
    for place in (whole, *whole.parents):
        with suppress(FileNotFoundError, NotADirectoryError):
            found = os.statvfs(place)
            return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

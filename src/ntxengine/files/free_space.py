"""What is said of a file that could not grow: how much room is left where it lies, and what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ntxengine.errors import MachineError
from ntxengine.units import format_size


def remedy(code: int, path: Path | str) -> str:
    """Return what goes behind the message of an error, if its errno means that there is no room; "" if not."""
    if code == errno.EDQUOT:
        return "; free some space, or raise the quota"
    if code != errno.ENOSPC:
        return ""
    return f"{_left(Path(path))}; free some space, or use another file system"


@contextmanager
def naming(path: Path | str, action: str) -> Iterator[None]:
    """Let an error of the core about `action`, for which it knows a descriptor alone, say which file it is about."""
    try:
        yield
    except MachineError as exc:
        text = str(exc)
        if not text.startswith(action):
            raise
        code = next((code for code in (errno.ENOSPC, errno.EDQUOT) if os.strerror(code) in text), 0)
        raise MachineError(f"{path}: {text}{remedy(code, path)}") from exc


def _left(path: Path) -> str:
    """Return how much is free; "" if that cannot be found out."""
    for place in (path, *path.parents):
        try:
            found = os.statvfs(place)
        except FileNotFoundError:  # the file, or its folder, has been removed already
            continue
        except OSError:
            return ""
        free, size = (count * found.f_frsize for count in (found.f_bavail, found.f_blocks))
        return f"; its file system has {format_size(free)} of {format_size(size)} free"
    return ""

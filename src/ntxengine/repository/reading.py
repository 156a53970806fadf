"""Reading points while others may be merged: whoever reads holds a shared lock on each point that is read from.

The lock is on a file of the point that is never replaced: the manifest of its first disk.  Who removes files of a point
takes it alone, or leaves them to the next time (removal.py).  Where the file system has no locks nothing is held, and
nothing is removed: that needs the lock of the VM.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

from ntxengine import files
from ntxengine.concurrency.completion import acquire_in_thread
from ntxengine.errors import LockedError, RepositoryError, machine_error
from ntxengine.files.locks import NO_LOCKS, give_back, take
from ntxengine.repository.chain import Chains
from ntxengine.repository.point import Point

_TRIES = 100
_PAUSE_S = 0.02


def lock_file(point: Point) -> Path | None:
    """Return the file whose lock stands for a point; None for one without disks, which has nothing to be read."""
    return min((point.manifest_path(disk) for disk in point.disks), default=None)


@asynccontextmanager
async def reading(points: Sequence[Point], *, checked: bool = True) -> AsyncIterator[None]:
    """Keep what these points are made of from being removed.

    What is damaged is for the reader to find out: it is held as far as it can be followed.  `checked`: see read_point.
    Errors: LockedError, after 2 s in which files of one of them were being removed; MachineError (too many files are
            open to hold them all).
    """
    held = await acquire_in_thread(lambda: hold(points, checked), give_back=ExitStack.close)
    with held:
        yield


def hold(points: Sequence[Point], checked: bool = True) -> ExitStack:
    """Return what is to be closed when the points were read: for threads, and for tests.  Errors: as `reading`."""
    for _ in range(_TRIES):
        with ExitStack() as stack:
            lines = _lines(points, checked)
            if _hold(lines, stack) and _lines(points, checked) == lines:
                return stack.pop_all()
        time.sleep(_PAUSE_S)
    raise LockedError(f"{points[0].path}: files of this point, or of one below it, are being removed: try again")


def _lines(points: Sequence[Point], checked: bool) -> list[Point]:
    """Return the points and all those below them, each as its folder has it now."""
    chains = Chains(checked=checked)
    found: dict[Path, Point] = {}
    for point in points:
        with suppress(RepositoryError):
            for each in chains.walk(chains.fresh(point)):
                if each.path in found:
                    break
                found[each.path] = each
    return list(found.values())


def _hold(points: Sequence[Point], stack: ExitStack) -> bool:
    """Hold the lock of each; False if files of one are being removed."""
    return all(_hold_file(path, stack) for point in points if (path := lock_file(point)) is not None)


def _hold_file(path: Path, stack: ExitStack) -> bool:
    try:
        fd = files.open_regular(path)
    except OSError as exc:
        if error := machine_error(f"{path}: cannot be kept from being removed while it is read", exc):
            raise error from exc
        return True  # it is missing, which the reader says better
    stack.callback(give_back, fd)
    try:
        take(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        return exc.errno in NO_LOCKS
    return True

"""Kernel locks, which the death of their holder releases: of a whole file, or of its bytes where only those exist."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

from ntxengine import files

NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
"""What a file system says that has no locks of a kind."""

FLOCK = struct.Struct("hhqqi4x")
"""struct flock: kind, whence, start, length (0: to the end), process."""


def take(fd: int, operation: int) -> None:
    """Lock an open file, as fcntl.flock() does, by what locks its file system has.

    Errors: BlockingIOError (another has it, and LOCK_NB is in `operation`); OSError, of NO_LOCKS if there are none.
    """
    try:
        fcntl.flock(fd, operation)
    except OSError as exc:
        if exc.errno not in NO_LOCKS:
            raise
        _take_bytes(fd, operation)


def give_back(fd: int) -> None:
    """Close a file, locked or not.

    A child that was just forked has it open until its program begins, and would keep the lock that long.
    """
    for unlock in (_unlock, _unlock_bytes):
        with suppress(OSError):  # there is none of this kind
            unlock(fd)
    os.close(fd)


def _unlock(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_UN)


def _unlock_bytes(fd: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0))


def _take_bytes(fd: int, operation: int) -> None:
    kind = fcntl.F_WRLCK if operation & fcntl.LOCK_EX else fcntl.F_RDLCK
    command = fcntl.F_OFD_SETLK if operation & fcntl.LOCK_NB else fcntl.F_OFD_SETLKW
    try:
        fcntl.fcntl(fd, command, FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0))
    except PermissionError as exc:  # the other way to say that somebody has it
        raise BlockingIOError(exc.errno, exc.strerror) from exc


def is_locked(path: Path) -> bool:
    """Say whether any byte of this file is locked against writers, as a qemu does with an image that it writes to.

    False where that cannot be found out.
    """
    try:
        fd = files.open_regular(path, os.O_RDWR)
    except OSError:
        return False
    try:
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError:
        return False
    finally:
        os.close(fd)
    return bool(FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


def have_locks(path: Path) -> bool:
    """Say whether the bytes of this file could be locked; also True for one that cannot be opened."""
    try:
        fd = files.open_regular(path)
    except OSError:
        return True
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_GETLK, FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 1, 0))
    except OSError as exc:
        return exc.errno not in NO_LOCKS
    finally:
        os.close(fd)
    return True

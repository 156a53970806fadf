"""A file that says, by a kernel lock, that somebody works on what it stands beside.

It is there while it is held, and after the death of its holder, which releases the lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from ntxengine import files
from ntxengine.errors import LockedError, TargetError
from ntxengine.files.durable import FILE_MODE, write_error
from ntxengine.files.locks import NO_LOCKS, give_back, take


class LockFile:
    """Held from `acquire` to `release`.  `subject` is what a message says is locked."""

    def __init__(self, path: Path, subject: str) -> None:
        self._path = path
        self._subject = subject
        self._fd = -1

    def acquire(self) -> None:
        """Take it, or fail.  Errors: LockedError; TargetError if there can be no lock here."""
        while self._fd < 0:
            self._try()

    def _try(self) -> None:
        """Take it, unless whoever has just released it removes it meanwhile."""
        try:
            fd = files.open_regular(self._path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        except OSError as exc:
            raise write_error(self._path, "making the lock", exc) from exc
        try:
            take(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = self._is_at(fd)
        except OSError as exc:
            os.close(fd)
            raise self._error(exc) from exc
        if is_there:
            self._fd = fd
        else:
            give_back(fd)

    def _error(self, cause: OSError) -> LockedError | TargetError:
        if isinstance(cause, BlockingIOError):
            return LockedError(f"{self._subject}: another process works with it: wait until that has ended")
        why = "this file system has no locks: use another" if cause.errno in NO_LOCKS else cause.strerror
        return TargetError(f"{self._path}: locking failed: {why}", errno=cause.errno or errno.EIO)

    def _is_at(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.lstat(self._path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Remove it, and give the lock back.  A second time is allowed."""
        if self._fd < 0:
            return
        with suppress(OSError):  # it is in the way of nobody
            if self._is_at(self._fd):
                os.unlink(self._path)
        give_back(self._fd)
        self._fd = -1

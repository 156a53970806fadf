"""One capture per VM at a time, across processes: a kernel lock, which the death of its holder releases.

A lock of the whole file (flock), or one of its bytes (OFD) where the file system has only those.  Where it has neither,
nothing is captured: a file that says "locked" would outlive a holder that was killed, on another machine perhaps.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ntxengine import files
from ntxengine.errors import LockedError, RepositoryError, TargetError
from ntxengine.files.durable import FILE_MODE, make_folder, write_error
from ntxengine.files.locks import NO_LOCKS, give_back, take
from ntxengine.repository import layout

_HOLDER = re.compile(r"([0-9]{1,10}) ([A-Za-z0-9._-]{1,255})\n")
_LOOK_S = 0.02  # longer than `is_held` has a lock, unless the machine is very busy
_HOLDER_LIMIT = 512  # bytes that are read of what a lock file says


class VmLock:
    """Holds the lock of a VM from `acquire` to `release`, and proves it to whoever asks for it.

    Nobody gets it a second time meanwhile, in this process or another.

    The file stays with the folder that it is in.  A folder that holds nothing else is removed with it, so whoever takes
    a lock looks whether it is still that of the folder: two would be in otherwise.
    """

    def __init__(self, folder: Path, subject: str) -> None:
        self.folder = folder
        self._path = folder / layout.LOCK_FILE
        self._subject = subject
        self._fd = -1

    @property
    def vm_id(self) -> str:
        """The VM that is locked."""
        return self.folder.name

    def check_held(self) -> None:
        """Check that it was not given back.  Errors: RepositoryError."""
        if self._fd < 0:
            raise RepositoryError(f"{self._subject}: its lock was given back: take it again")

    def acquire(self) -> None:
        """Take the lock, or fail; the folder is made where there is none.  Blocks: 20 ms if somebody has it.

        Errors: LockedError naming the process that holds it; TargetError if there can be no lock here.
        """
        try:
            self._take()
        except LockedError:  # by who only looks at it, perhaps
            time.sleep(_LOOK_S)
            self._take()

    def _take(self) -> None:
        while self._fd < 0:
            make_folder(self.folder)
            self._try()

    def _try(self) -> None:
        """Take the lock, unless its folder is removed meanwhile."""
        try:
            fd = files.open_regular(self._path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        except FileNotFoundError:
            return
        except OSError as exc:
            raise write_error(self._path, "opening the lock", exc) from exc
        try:
            take(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(fd, self._path):
                give_back(fd)
                return
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        except BlockingIOError as exc:
            holder = _holder(fd)
            os.close(fd)
            raise LockedError(f"{self._subject} is locked by {holder}: wait until that has ended") from exc
        except OSError as exc:
            os.close(fd)
            if exc.errno not in NO_LOCKS:
                raise write_error(self._path, "locking", exc) from exc
            raise TargetError(
                f"{self._path}: locking failed: {exc.strerror}: this file system has no locks, and two captures of one "
                f"VM would spoil each other: mount it with locks (Lustre: -o flock; NFS: with lockd, or -o nolock if "
                f"no other machine writes), or put the repository on another",
                errno=exc.errno or 0,
            ) from exc
        self._fd = fd

    def release(self) -> None:
        """Give the lock back, and remove the folder if there is nothing in it.  A second time is allowed."""
        if self._fd >= 0:
            self._remove_empty()
            give_back(self._fd)
            self._fd = -1

    def _remove_empty(self) -> None:
        folder = self.folder
        with suppress(OSError):  # it may be read-only by now, or somebody is making something in it
            if os.listdir(folder) == [self._path.name] and _is_at(self._fd, self._path):
                self._path.unlink()
                folder.rmdir()

    def __enter__(self) -> VmLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_held(folder: Path) -> bool:
    """Say whether somebody has the lock of a VM's folder, or that cannot be found out.

    Who looks has it for a moment, together with others who look; nothing is made or written.
    """
    try:
        fd = files.open_regular(folder / layout.LOCK_FILE)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        take(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        give_back(fd)
    return False


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _holder(fd: int) -> str:
    try:
        text = os.pread(fd, _HOLDER_LIMIT, 0).decode("ascii", "replace")
    except OSError:  # CIFS: what is locked cannot be read either
        text = ""
    match = _HOLDER.fullmatch(text)
    if match is None:
        return "another process"
    where = "" if match[2] == socket.gethostname() else f" on {match[2]}"
    return f"process {match[1]}{where}"

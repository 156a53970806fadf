"""Files opened without being led elsewhere; names given without taking one, and made to last.

What a file system cannot is done otherwise:

link(), then unlink()      refused by exFAT, CIFS and some FUSE, each with an errno of its own
renameat2(NOREPLACE)       refused by NFS, which has link(), and by old kernels
look, then rename()        everywhere; LIMIT: who takes the name between the two loses it
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from pathlib import Path

_AT_FDCWD, _RENAME_NOREPLACE = -100, 1
_NO_FOLDER_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)


def open_regular(path: Path, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Open a regular file, following no link and waiting for nobody: a FIFO in its place would hang us for ever.

    Errors: OSError, whose strerror says it if it is something else.
    """
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as exc:
        if not flags & os.O_EXCL and (problem := find_irregular(path)):
            raise OSError(exc.errno, problem, str(path)) from exc
        raise
    problem = _irregular(os.fstat(fd).st_mode)
    if problem:
        os.close(fd)
        raise OSError(errno.EINVAL, problem, str(path))
    return fd


def find_irregular(path: Path) -> str:
    """Return what else than a regular file has this name, in words that go on behind it; "" if nothing else has."""
    try:
        return _irregular(os.lstat(path).st_mode)
    except FileNotFoundError:
        return ""


def _irregular(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "it is a link, which is not followed"
    return "" if stat.S_ISREG(mode) else "it is not a regular file"


def publish(unfinished: Path, path: Path) -> None:
    """Give a finished file its name, and make the name last.

    Errors: FileExistsError if the name is taken; OSError.
    """
    try:
        os.link(unfinished, path)
    except FileExistsError:
        raise
    except OSError:  # whatever the reason: the work is done, and another way may do
        rename_new(unfinished, path)
    else:
        os.unlink(unfinished)
    sync_folder(path.parent)


def rename_new(old: Path, new: Path) -> None:
    """Rename a file or a folder to a name that nobody has.  Errors: FileExistsError, OSError."""
    if not _renamed(old, new):
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
        os.rename(old, new)


def _renamed(old: Path, new: Path) -> bool:
    """Rename in one step, or say that it cannot be done so.  Errors: FileExistsError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), _RENAME_NOREPLACE) == 0:
        return True
    if ctypes.get_errno() in _TAKEN:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
    return False  # where it is not this call that is refused, rename() says what is


def replace(old: Path, new: Path) -> None:
    """Rename onto whatever has the name.  Errors: OSError.

    LIMIT: where a file system does not rename onto what exists (some network ones), the name is free for a moment.
    """
    try:
        os.replace(old, new)
    except FileExistsError:
        os.unlink(new)
        os.rename(old, new)


def sync_folder(path: Path) -> None:
    """Make the names in a folder last.  Where a file system has no such call (CIFS), its server decides.

    A folder that may be written and not read (mode 0300) cannot be synced by us: its names last when the kernel says.
    Errors: OSError.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(fd)
    except OSError as exc:
        if exc.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(fd)

"""Names of files: given without taking one from somebody else, and made to last.  Also where a file system cannot.

link(), then unlink()      refused on exFAT, CIFS and some FUSE: not implemented there, each with its own errno
renameat2(NOREPLACE)       refused by NFS, which has link(), and by old kernels
look, then rename()        everywhere; LIMIT: who takes the name between the two loses it
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_AT_FDCWD, _RENAME_NOREPLACE = -100, 1
_NO_FOLDER_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)


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

    Errors: OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as exc:
        if exc.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(fd)

"""Files that survive a power cut, and file errors as one clear line."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from ntxengine import files
from ntxengine.errors import NtxError, RepositoryError, TargetError, machine_error
from ntxengine.files import free_space

FOLDER_MODE = 0o700  # disk contents are secrets of their VM
FILE_MODE = 0o600
_NEW_SUFFIX = ".new"

NO_MODES = (
    "this file system keeps no modes: who may read the disks is what its mount says (umask=, file_mode=, dir_mode=)"
)
_MODE_ERRORS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)

_REMEDIES = {
    errno.EACCES: "; check its owner and mode",
    errno.EPERM: "; check its owner and mode",
    errno.EROFS: "; mount it writable",
}


def write_error(path: Path | str, action: str, cause: OSError) -> NtxError:
    """Return the exception for a file operation that changes something and failed."""
    if error := machine_error(f"{path}: {action} failed", cause):
        return error
    code = cause.errno or 0
    reason = cause.strerror or str(cause)
    return TargetError(
        f"{path}: {action} failed: {reason}{free_space.remedy(code, path) or _REMEDIES.get(code, '')}", errno=code
    )


def _sync(fd: int, path: Path) -> None:
    """Bring an open file to stable storage.  Errors: TargetError."""
    try:
        os.fsync(fd)
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise write_error(path, "syncing", exc) from exc
        raise TargetError(
            f"{path}: cannot be brought to stable storage (fsync: {exc.strerror}), and could be lost after it was said "
            f"to be safe: put it on another file system",
            errno=exc.errno or 0,
        ) from exc


def read_error(path: Path | str, cause: OSError) -> NtxError:
    """Return the exception for a part of a repository that cannot be read."""
    action = f"{path}: cannot be read"
    return machine_error(action, cause) or RepositoryError(f"{action}: {cause.strerror or cause}")


def read_file(path: Path, *, limit: int) -> bytes:
    """Return the contents of a regular file of at most `limit` bytes; links are not followed.

    Errors: RepositoryError naming the file.
    """
    try:
        fd = files.open_regular(path)
    except OSError as exc:
        raise read_error(path, exc) from exc
    try:
        size = os.fstat(fd).st_size
        if size > limit:
            raise RepositoryError(f"{path}: has {size} bytes, {limit} at most are believed")
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(limit)
    except OSError as exc:
        raise read_error(path, exc) from exc
    finally:
        os.close(fd)


def write_file(path: Path, data: bytes, *, mode: int = FILE_MODE) -> None:
    """Make a new file with these contents, on stable storage.  One that cannot be written whole is removed.

    Errors: TargetError (FileExistsError is one of its causes).
    """
    try:
        fd = files.open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                _sync(fd, path)
        except (OSError, TargetError):
            path.unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise write_error(path, "writing", exc) from exc


def replace_file(path: Path, data: bytes) -> None:
    """Give a file these contents, durably: whoever reads it finds the old ones or the new.

    Of several writers at once the last one wins.  What one who was killed here left is known to strays.py.
    Errors: TargetError.
    """
    fresh = path.with_name(f".{path.name.removeprefix('.')}.{secrets.token_hex(4)}{_NEW_SUFFIX}")
    write_file(fresh, data)
    try:
        files.replace(fresh, path)
    except OSError as exc:
        fresh.unlink(missing_ok=True)
        raise write_error(path, "replacing", exc) from exc
    sync_folder(path.parent)


def remove_half_written(path: Path) -> None:
    """Remove what a killed replace_file left beside a file that nobody replaces now.  Failing is no error."""
    for fresh in path.parent.glob(f".{path.name.removeprefix('.')}.*{_NEW_SUFFIX}"):
        with suppress(OSError):  # it is in the way of nobody
            fresh.unlink()


def restrict(path: Path) -> bool:
    """Keep a file of ours from everybody else.  Return whether it is: some file systems keep no modes.

    Errors: TargetError.
    """
    try:
        if _is_for_others(path):
            path.chmod(FILE_MODE)
        return not _is_for_others(path)
    except OSError as exc:
        if exc.errno in _MODE_ERRORS:
            return False
        raise write_error(path, "changing its mode", exc) from exc


def _is_for_others(path: Path) -> bool:
    return path.lstat().st_mode & 0o077 != 0


def check_folder(path: Path) -> None:
    """Refuse what stands in the place of a folder: a link leads out of the repository.  Errors: RepositoryError."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # nothing stands there: whoever uses it is told
    if stat.S_ISLNK(mode):
        raise RepositoryError(f"{path}: is a link, which is not followed: put the folder itself there")
    if not stat.S_ISDIR(mode):
        raise RepositoryError(f"{path}: is not a folder: remove it, or put the folder there")


def make_folder(path: Path) -> None:
    """Make a folder, durably, unless it is there.  Errors: TargetError; RepositoryError (something else is there)."""
    try:
        path.mkdir(mode=FOLDER_MODE)
    except FileExistsError:
        check_folder(path)
        return
    except OSError as exc:
        raise write_error(path, "making the folder", exc) from exc
    sync_folder(path.parent)


def sync(path: Path) -> None:
    """Bring a file's data to stable storage.  Errors: TargetError."""
    try:
        fd = files.open_regular(path)
        try:
            _sync(fd, path)
        finally:
            os.close(fd)
    except OSError as exc:
        raise write_error(path, "syncing", exc) from exc


def sync_folder(path: Path) -> None:
    """Bring a folder's names to stable storage.  Errors: TargetError."""
    try:
        files.sync_folder(path)
    except OSError as exc:
        raise write_error(path, "syncing", exc) from exc


def rename(old: Path, new: Path) -> None:
    """Rename within a folder; `new` must not exist.  Not durable before the folder is synced.  Errors: TargetError."""
    try:
        files.rename_new(old, new)
    except OSError as exc:
        raise write_error(new, f"renaming {old.name}", exc) from exc


def replace(old: Path, new: Path) -> None:
    """Rename onto what has the name, in a folder.  Not durable before that is synced.  Errors: TargetError."""
    try:
        files.replace(old, new)
    except OSError as exc:
        raise write_error(new, f"renaming {old.name}", exc) from exc


def remove_file(path: Path) -> None:
    """Remove a file; nothing is removed already.  Errors: TargetError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise write_error(path, "removing", exc) from exc


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it, or what stands in its place, following no link; nothing is removed already.

    Errors: TargetError.
    """
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        else:
            shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise write_error(path, "removing", exc) from exc

"""Files that are being made, told from those that a killed process left.

    .NAME.xxxxxxxx.ntx-unfinished     becomes NAME; locked by whoever makes it, as long as that one lives
    NAME.ntx-unfinished               of a restore, which locks the folder
    NAME.ntx-partial                  of a copy with a journal, which goes on with it: not looked at here
    one of them, and .map             of an image (images/writer.py): goes with it, or alone where that is gone

The death of a process frees its lock: what is not locked was left.  Where nobody can tell, nothing is removed.

LIMIT: an ntx of before these locks looks dead while it writes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ntxengine import files
from ntxengine.files.locks import give_back

SUFFIX = ".ntx-unfinished"
_LONGEST = 200  # bytes of the name that are kept: a file name has 255 at most, and the rest of ours takes 26
_MAP = ".map"
_MAP_MAGIC = b"NTXQMAP\0"
"""What a cluster map begins with (csrc/qcow2_map.c); who writes it holds its lock."""
_OF_A_NEW_FILE = re.compile(r"\..+\.[0-9a-f]{8}\.ntx-unfinished", re.DOTALL)


@dataclass
class Leftovers:
    """What was found in a folder: `dead` was or can be removed, `in_use` is being written, `problems` say the rest."""

    dead: list[Path] = field(default_factory=list)
    in_use: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@contextmanager
def begun(path: Path) -> Iterator[Path]:
    """Make an empty file beside `path`, and hold it until the block ends, so that nobody takes it for a dead one.

    What killed processes left of `path` is removed first.  Whatever is still there at the end is the caller's.
    Errors: OSError.
    """
    for left in _left_of(path):
        with suppress(OSError):  # it is in the way of nobody
            _remove_dead(left)
    unfinished, fd = _create(path)
    try:
        yield unfinished
    finally:
        give_back(fd)


def sweep(folder: Path, *, dry_run: bool = False) -> Leftovers:
    """Remove what was left in a folder, not in those below it; with `dry_run` only find it.  Follows no link.

    Errors: OSError if the folder cannot be read.
    """
    found = Leftovers()
    with os.scandir(folder) as entries:
        files_here = sorted(entry.name for entry in entries if entry.name.endswith((SUFFIX, _MAP)) and _is_file(entry))
    names = [name for name in files_here if name.endswith(SUFFIX)]
    new_files = [folder / name for name in names if _OF_A_NEW_FILE.fullmatch(name)]
    restored = [folder / name for name in names if not _OF_A_NEW_FILE.fullmatch(name)]
    for path in new_files:
        with _noting(found, path):
            (found.dead if _remove_dead(path, dry_run=dry_run) else found.in_use).append(path)
    if restored:
        with _noting(found, folder):
            _sweep_restored(folder, restored, found, dry_run=dry_run)
    for path in (folder / name for name in files_here if name.endswith(_MAP)):
        if not os.path.lexists(str(path).removesuffix(_MAP)):
            with _noting(found, path):
                _sweep_map(path, found, dry_run=dry_run)
    return found


def _sweep_map(path: Path, found: Leftovers, *, dry_run: bool) -> None:
    """Remove a cluster map whose image is gone; what has such a name and is none is somebody's.  Errors: OSError."""
    fd = files.open_regular(path)
    try:
        is_named_by_us = path.name.endswith(SUFFIX + _MAP) and os.fstat(fd).st_size == 0
        if os.pread(fd, len(_MAP_MAGIC), 0) != _MAP_MAGIC and not is_named_by_us:
            return
        if not _lock(fd):
            found.in_use.append(path)
            return
        if not dry_run:
            path.unlink()
        found.dead.append(path)
    finally:
        give_back(fd)


def _sweep_restored(folder: Path, paths: list[Path], found: Leftovers, *, dry_run: bool) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _lock(fd):
            found.in_use += paths
            return
        for path in paths:
            with _noting(found, path):
                if not dry_run:
                    remove(path)
                found.dead.append(path)
    finally:
        give_back(fd)


@contextmanager
def _noting(found: Leftovers, path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        pass  # gone by itself
    except OSError as exc:
        found.problems.append(
            f"{path}: nobody can tell whether it is being written: {exc.strerror or exc}: if it is not, remove by hand "
            f"what ends in {SUFFIX}"
        )


def _is_file(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False)


def _left_of(path: Path) -> list[Path]:
    name = re.compile(re.escape(f".{_beginning(path.name)}.") + r"[0-9a-f]{8}" + re.escape(SUFFIX))
    try:
        with os.scandir(path.parent) as entries:
            return [path.parent / entry.name for entry in entries if name.fullmatch(entry.name) and _is_file(entry)]
    except OSError:
        return []


def _beginning(name: str) -> str:
    """Return what is kept of a name: whole letters, of which one may take four bytes."""
    while len(os.fsencode(name)) > _LONGEST:
        name = name[:-1]
    return name


def _create(path: Path) -> tuple[Path, int]:
    """Return a new file, and the descriptor that holds its lock."""
    while True:
        unfinished = path.with_name(f".{_beginning(path.name)}.{secrets.token_hex(4)}{SUFFIX}")
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            if _hold(fd, unfinished):
                return unfinished, fd
        except BaseException:
            os.close(fd)
            unfinished.unlink(missing_ok=True)
            raise
        os.close(fd)  # taken for a dead one, before it was locked


def _hold(fd: int, path: Path) -> bool:
    """Lock a new file, where that is of use.  Return False if somebody is removing it, or has."""
    try:
        if not _lock(fd):
            return False
        if not _can_be_written_beside(path):
            fcntl.flock(fd, fcntl.LOCK_UN)
    except OSError:
        pass  # no locks here: it will never be taken for a dead one
    return os.fstat(fd).st_nlink > 0


def _remove_dead(path: Path, *, dry_run: bool = False) -> bool:
    """Remove a file unless somebody holds it; say whether it is dead.  Errors: OSError: nobody can tell."""
    fd = files.open_regular(path, os.O_RDWR)
    try:
        if not _lock(fd):
            return False
        if not dry_run:
            # A lock that keeps others from writing is not held by those who write: nothing can be told from it.
            # What has a second name was finished, and is perhaps in use: only this name goes, and nobody writes to it.
            if os.fstat(fd).st_nlink == 1 and not _can_be_written_beside(path):
                raise OSError(errno.ENOLCK, "locks are of no use here")
            remove(path)
        return True
    finally:
        give_back(fd)


def remove(path: Path) -> None:
    """Remove a file that is being made, and its map if it has one.  Errors: OSError."""
    with suppress(FileNotFoundError):
        os.unlink(f"{path}.map")
    os.unlink(path)


def _lock(fd: int) -> bool:
    """Lock a file or a folder; False if somebody else has.  Errors: OSError: there are no locks here."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _can_be_written_beside(path: Path) -> bool:
    """Say whether a file that we have locked can be written through another descriptor (CIFS locks forbid it)."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        first = os.pread(fd, 1, 0)
        os.pwrite(fd, first or b"\0", 0)
        if not first:
            os.ftruncate(fd, 0)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True

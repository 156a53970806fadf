"""What is to be read of a disk, kept for whoever goes on after a kill: the cluster may answer otherwise by then.

    {"format":"ntxengine changes","version":1,"tracking":"allocated",...,"count":2,"digest":"9c..."}
    2f1c...   XXH3-128 of the line above, in hex
    extents, 24 bytes each; their XXH3-128 is `digest`

Written once, before anything of the disk is copied.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import xxhash

from ntxengine import files
from ntxengine.changes.policy import Changes, Tracking
from ntxengine.changes.spool import spool_to_file
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.extents import EXTENT, ZERO, Extents
from ntxengine.errors import RepositoryError
from ntxengine.files import durable

_FORMAT, _VERSION = "ntxengine changes", 1
_MAX_HEAD = 256 * 1024
_CHECK_SIZE = 33  # a digest in hex, and the end of the line
_AT_ONCE = 65536  # extents


@dataclass(frozen=True)
class _Head:
    format: str
    version: int
    tracking: Tracking
    reason: str
    is_incremental: bool
    must_compare: bool
    size: int
    count: int
    digest: str
    note: str


@dataclass(frozen=True)
class KeptChanges:
    """What was kept, and a `note` that its writer wrote beside it.  `digest` tells it from any other."""

    changes: Changes
    note: str
    digest: str


async def keep_changes(changes: Changes, path: Path, *, note: str = "") -> str:
    """Write changes to a new file, durably, and return what tells them from others.  Errors: TargetError."""
    return await to_thread_joined(_write, changes, path, note)


async def read_kept(path: Path, directory: Path) -> KeptChanges | None:
    """Return what was kept at `path`, None if nothing was; its extents are copied to `directory`, for the caller to
    close.

    Errors: RepositoryError (it is damaged); TargetError.
    """
    if not os.path.lexists(path):
        return None
    head, check, at = await to_thread_joined(_read_head, path)
    extents = await spool_to_file(_extents(path, head, at), directory)
    changes = Changes(head.tracking, head.reason, head.is_incremental, head.must_compare, head.size, extents)
    return KeptChanges(changes, head.note, check)


def _write(changes: Changes, path: Path, note: str) -> str:
    state = xxhash.xxh3_128()
    for window in changes.extents.windows(_AT_ONCE):
        state.update(window.tobytes())
    line = msgspec.json.encode(
        _Head(
            _FORMAT,
            _VERSION,
            changes.tracking,
            changes.reason,
            changes.is_incremental,
            changes.must_compare,
            changes.size,
            changes.extents.count,
            state.hexdigest(),
            note,
        )
    )
    check = xxhash.xxh3_128_hexdigest(line)
    try:
        fd = files.open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, durable.FILE_MODE)
        with os.fdopen(fd, "wb") as file:
            file.write(line + b"\n" + check.encode() + b"\n")
            for window in changes.extents.windows(_AT_ONCE):
                file.write(window.tobytes())
    except OSError as exc:
        raise durable.write_error(path, "keeping what is to be read", exc) from exc
    durable.sync(path)
    durable.sync_folder(path.parent)
    return check


def _read_head(path: Path) -> tuple[_Head, str, int]:
    """Return the head, its check, and where the extents begin."""
    try:
        fd = files.open_regular(path)
        with os.fdopen(fd, "rb") as file:
            line, _, rest = file.read(_MAX_HEAD).partition(b"\n")
            size = os.fstat(fd).st_size
    except OSError as exc:
        raise durable.read_error(path, exc) from exc
    check = xxhash.xxh3_128_hexdigest(line)
    if rest[:_CHECK_SIZE] != check.encode() + b"\n":
        raise _damaged(path, "its checksum does not fit")
    try:
        head = msgspec.json.decode(line, type=_Head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise _damaged(path, str(exc)) from exc
    if (head.format, head.version) != (_FORMAT, _VERSION):
        raise _damaged(path, "it is something else, or of another version")
    at = len(line) + 1 + _CHECK_SIZE
    if head.count < 0 or head.size < 0 or size != at + head.count * EXTENT.itemsize:
        raise _damaged(path, "its length does not fit")
    return head, check, at


def _extents(path: Path, head: _Head, at: int) -> Iterator[Extents]:
    """Yield the extents; that they are those that were written shows at the end."""
    state = xxhash.xxh3_128()
    behind = 0
    try:
        with os.fdopen(files.open_regular(path), "rb") as file:
            file.seek(at)
            while data := file.read(_AT_ONCE * EXTENT.itemsize):
                state.update(data)
                window = np.frombuffer(data[: len(data) // EXTENT.itemsize * EXTENT.itemsize], dtype=EXTENT)
                if not _can_be_true(window, behind, head.size):
                    raise _damaged(path, "its extents are out of order, or not of its disk")
                behind = int(window["offset"][-1]) + int(window["length"][-1]) if len(window) else behind
                yield window
    except OSError as exc:
        raise durable.read_error(path, exc) from exc
    if state.hexdigest() != head.digest:
        raise _damaged(path, "its extents are not those that were written")


def _can_be_true(window: Extents, behind: int, size: int) -> bool:
    """Say whether extents are data or zero, lie one after the other in a disk of `size` bytes, from `behind` on."""
    begins, lengths = window["offset"], window["length"]
    room = np.uint64(size) - np.minimum(begins, np.uint64(size))
    if not ((lengths > 0) & (lengths <= room)).all() or (window["flags"] & ~np.uint64(ZERO)).any():
        return False
    ends = begins + lengths
    return bool((begins >= np.concatenate([np.array([behind], dtype=np.uint64), ends])[:-1]).all())


def _damaged(path: Path, why: str) -> RepositoryError:
    return RepositoryError(f"{path}: what was to be read is damaged ({why})")

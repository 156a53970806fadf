"""The file that says what is to stay of a VM and what is not, beside the points, which never change.

    REPO/<vm id>/retention.json       tags, holds, and which points are forgotten
    REPO/<vm id>/.retention.lock      held while that is replaced: a moment, also while a capture holds the VM's lock

Where it cannot be read nothing may be forgotten or removed: nobody knows what is held, and what is forgotten.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ntxengine.errors import LockedError, NotFoundError, OptionsError, RepositoryError
from ntxengine.files import durable
from ntxengine.files.lock_file import LockFile
from ntxengine.repository import layout, stored
from ntxengine.repository.retention import Hold, PointRetention, Retention, is_reason, is_tag
from ntxengine.repository.stored import StoredHead

RETENTION_FORMAT, RETENTION_VERSION = "ntxengine-retention", 1

WAIT_S = 30.0
"""How long a change waits for another: each takes as long as a few files take to be synced."""
_LOOK_S = 0.02

_LIMIT = 64 * 1024**2
_FIRST_YEAR, _LAST_YEAR = 1970, 9998  # so that every time zone can tell them

_REMEDY = (
    "; put it back from a copy of the repository, or remove it: then no point of this VM has a tag or a hold, and none "
    "is forgotten; nothing of this VM is forgotten or pruned before"
)


@dataclass(frozen=True)
class StoredHold:
    """Of an entry: see Hold."""

    until: datetime | None = None
    reason: str = ""


@dataclass(frozen=True)
class StoredPointRetention:
    """An entry: see PointRetention."""

    point_id: str
    tags: tuple[str, ...] = ()
    hold: StoredHold | None = None
    forgotten_at: datetime | None = None


@dataclass(frozen=True)
class StoredRetentionFile(StoredHead):
    """retention.json."""

    points: tuple[StoredPointRetention, ...]


def read(vm_folder: Path) -> Retention:
    """Return what was said of the points of a VM; nothing where there is no such file.  Blocks: one small read.

    Errors: RepositoryError naming the file: nobody knows then what is forgotten or held.
    """
    path = vm_folder / layout.RETENTION_FILE
    try:
        data = durable.read_file(path, limit=_LIMIT)
    except RepositoryError as exc:
        if isinstance(exc.__cause__, FileNotFoundError):
            return Retention()
        raise RepositoryError(f"{exc}{_REMEDY}") from exc
    found = stored.decode_checked(
        path,
        data,
        StoredRetentionFile,
        format=RETENTION_FORMAT,
        versions=[RETENTION_VERSION],
        remedy=_REMEDY,
        needs_check=True,
    )
    for each in found.points:
        if not _is_one(each):
            raise RepositoryError(f"{path}: is damaged: it tells of point {each.point_id[:80]!r}{_REMEDY}")
    points = {each.point_id: _decoded(each) for each in found.points}
    if len(points) != len(found.points):
        raise RepositoryError(f"{path}: is damaged: it tells of a point twice{_REMEDY}")
    return Retention(points)


def _is_one(each: StoredPointRetention) -> bool:
    times = (each.forgotten_at, None if each.hold is None else each.hold.until)
    return (
        layout.is_point_id(each.point_id)
        and all(map(is_tag, each.tags))
        and all(when is None or (when.tzinfo is not None and _FIRST_YEAR <= when.year <= _LAST_YEAR) for when in times)
        and (each.hold is None or is_reason(each.hold.reason))
    )


def _decoded(each: StoredPointRetention) -> PointRetention:
    hold = None if each.hold is None else Hold(each.hold.until, each.hold.reason)
    return PointRetention(tuple(sorted(set(each.tags))), hold, each.forgotten_at)


def change(vm_folder: Path, decide: Callable[[Retention], Retention]) -> Retention:
    """Replace what was said of the points of a VM by what `decide` makes of it, durably; return that.

    Nobody else changes it meanwhile, and nothing is written where nothing is changed.
    Blocks: up to WAIT_S for another change.
    Errors: OptionsError (`read` would refuse it: what is no point id, a time without a zone), NotFoundError (no such
            VM), LockedError, TargetError; as `read`; what `decide` raises.  Then nothing is changed.
    """
    if not vm_folder.is_dir():
        raise NotFoundError(f"{vm_folder}: is not there: nothing can be said of points of a VM that has none here")
    with _alone(vm_folder):
        before = read(vm_folder)
        after = decide(before)
        if after.points != before.points:
            _remove_half_written(vm_folder)
            _store(vm_folder / layout.RETENTION_FILE, after)
        return after


def tidy(vm_folder: Path) -> None:
    """Remove what killed changes left.  Errors: LockedError, TargetError."""
    with _alone(vm_folder):
        _remove_half_written(vm_folder)


def drop_gone(vm_folder: Path) -> list[str]:
    """Leave out the forgotten points whose folders are gone, durably; return their ids.  The VM is locked.

    What was said of a point that is missing though nobody forgot it stays: it may come back.
    Errors: as `change`.
    """

    def gone(found: Retention) -> list[str]:
        return sorted(each for each in found.forgotten if _is_gone(vm_folder / each))

    dropped = gone(read(vm_folder))
    if dropped:
        change(vm_folder, lambda found: found.without(gone(found)))
    return dropped


def _is_gone(folder: Path) -> bool:
    try:
        os.lstat(folder)
    except FileNotFoundError:
        return True
    except OSError as exc:
        raise durable.read_error(folder, exc) from exc
    return False


def _store(path: Path, retention: Retention) -> None:
    entries = _entries(retention)
    for each in entries:
        if not _is_one(each):
            raise OptionsError(
                f"{path}: what is said of point {each.point_id[:80]!r} cannot be kept: it is no id of a point, or a "
                f"time has no zone or is not in the years {_FIRST_YEAR} to {_LAST_YEAR}"
            )
    if entries:
        document = StoredRetentionFile(format=RETENTION_FORMAT, version=RETENTION_VERSION, points=entries)
        durable.replace_file(path, stored.encode_checked(document))
    else:
        durable.remove_file(path)
        durable.sync_folder(path.parent)


def _entries(retention: Retention) -> tuple[StoredPointRetention, ...]:
    return tuple(
        StoredPointRetention(
            point_id,
            found.tags,
            None if found.hold is None else StoredHold(found.hold.until, found.hold.reason),
            found.forgotten_at,
        )
        for point_id, found in sorted(retention.points.items())
    )


def _remove_half_written(vm_folder: Path) -> None:
    """Remove what a killed change left: only who holds the lock can tell that nobody writes it at this moment."""
    for path in vm_folder.glob(f"{layout.RETENTION_HALF_WRITTEN}*"):
        with suppress(OSError):  # it is in the way of nobody
            path.unlink()


@contextmanager
def _alone(vm_folder: Path) -> Iterator[None]:
    lock = LockFile(vm_folder / layout.RETENTION_LOCK_FILE, f"{vm_folder / layout.RETENTION_FILE}")
    deadline_s = time.monotonic() + WAIT_S
    while True:
        try:
            lock.acquire()
            break
        except LockedError:
            if time.monotonic() >= deadline_s:
                raise
            time.sleep(_LOOK_S)
    try:
        yield
    finally:
        lock.release()

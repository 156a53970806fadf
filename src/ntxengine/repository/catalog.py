"""The catalog: a copy of every point.json in one SQLite file, so that a listing opens one file and not thousands.

The directory is the truth.  A row is believed only while its point.json has the size and time that the row says, and a
catalog that is missing, damaged, locked or not writable costs time, never a point.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ntxengine import files
from ntxengine.errors import PortableError
from ntxengine.files import durable, free_space
from ntxengine.files.locks import FLOCK, give_back, take
from ntxengine.repository.point import Point
from ntxengine.units import format_time

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 10.0
_LITTLE = 64 * 1024  # bytes: SQLite's log would have no room

SUFFIXES = ("-wal", "-shm", "-journal", "")
"""The log goes first: left beside a new database it would be replayed into it."""

_SAYS_DAMAGED = ("no such table", "no such column", "malformed")
"""How OperationalError begins where it is not the machine that fails."""

_SCHEMA = """
CREATE TABLE points (
    vm_id TEXT NOT NULL, point_id TEXT NOT NULL, parent_id TEXT, kind TEXT NOT NULL, vm_name TEXT NOT NULL,
    created_at TEXT NOT NULL, file_size INTEGER NOT NULL, file_mtime_ns INTEGER NOT NULL, document BLOB NOT NULL,
    PRIMARY KEY (vm_id, point_id)
) WITHOUT ROWID
"""

Key = tuple[str, str]
"""VM id, point id."""


@dataclass(frozen=True)
class Stamp:
    """What tells whether a point.json is the one that was read."""

    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Row:
    """A point.json as it was when it was read."""

    stamp: Stamp
    document: bytes


@dataclass(frozen=True)
class NewRow:
    """A row to enter."""

    point: Point
    row: Row


class _Damaged(PortableError):
    """The catalog must be made anew."""


class _Strange(PortableError):
    """Something else stands in the place of a file of the catalog: it is neither used nor removed."""


class Catalog:
    """The catalog file.  No connection is kept: any thread, any process, any time."""

    def __init__(self, path: Path, *, guard: Path) -> None:
        """`guard` is a file that always exists: its lock keeps others out while a damaged catalog is replaced."""
        self._path = path
        self._guard = guard
        self._has_warned = False

    def read(self, vm_id: str | None = None) -> dict[Key, Row]:
        """Return the rows of one VM or of all; none if the catalog cannot be used."""
        try:
            with self._shared(), self._connect(write=False) as connection:
                return _read_rows(connection, vm_id)
        except _Strange as exc:
            self._warn(f"{exc}: the catalog is not used, and points are found by reading the directory: remove it")
        except (sqlite3.OperationalError, OSError) as exc:
            log.debug("%s: not used: %s", self._path, exc)
        except (_Damaged, sqlite3.Error) as exc:
            log.warning("%s: is damaged (%s): making it anew from the directory", self._path, exc)
            self._remove()
        return {}

    def look(self) -> tuple[dict[Key, Row] | None, str, bool]:
        """Return all rows, what is wrong with the file ("" if nothing), and whether something else stands in its place.

        Nothing is repaired.  Of a catalog that cannot be used at this moment the rows are None.
        """
        try:
            with self._shared(), self._connect(write=False) as connection:
                (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
                if said != "ok":
                    return {}, str(said)[:200], False
                return _read_rows(connection, None), "", False
        except _Strange as exc:
            return {}, str(exc).rpartition(": ")[2], True
        except sqlite3.OperationalError as exc:
            is_damaged = str(exc).startswith(_SAYS_DAMAGED)
            return None, str(exc) if is_damaged else "", False
        except OSError:
            return None, "", False
        except (_Damaged, sqlite3.Error) as exc:
            return {}, str(exc), False

    def make_anew(self) -> None:
        """Remove the file, when nobody has it open: the next reader makes it anew.  Failing is logged."""
        self._remove()

    def update(self, new: Iterable[NewRow], gone: Iterable[Key]) -> None:
        """Enter and remove rows, all or none.  Failing is no error: the next reader does it again."""
        if not self._is_writable():
            return
        try:
            with self._shared(), self._connect(write=True) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("DELETE FROM points WHERE vm_id = ? AND point_id = ?", gone)
                connection.executemany(
                    "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (_values(each) for each in new)
                )
                connection.execute("COMMIT")
        except _Strange:
            return  # reading comes first, and has said so
        except (_Damaged, sqlite3.Error, OSError) as exc:
            if self._has_room():  # else whoever has something to write says so
                self._warn(f"{self._path}: not updated ({exc}): points are found by reading the directory")

    def _remove(self) -> None:
        """Remove the file, when nobody has it open."""
        if not self._is_writable():
            return
        try:
            with self._locked(fcntl.LOCK_EX):
                for path in self._files():
                    path.unlink(missing_ok=True)
        except OSError as exc:
            log.warning("%s: cannot be removed: %s", self._path, exc)

    def _files(self) -> list[Path]:
        return [self._path.with_name(self._path.name + suffix) for suffix in SUFFIXES]

    def _warn(self, text: str) -> None:
        if not self._has_warned:
            log.warning("%s", text)
        self._has_warned = True

    def _has_room(self) -> bool:
        with suppress(OSError):
            return free_space.free_bytes(self._path.parent) > _LITTLE
        return True

    def _is_writable(self) -> bool:
        return os.access(self._path.parent, os.W_OK)

    @contextmanager
    def _connect(self, *, write: bool) -> Iterator[sqlite3.Connection]:
        # SQLite opens by name, follows links and may wait for a FIFO.
        for path in self._files():
            if problem := files.find_irregular(path):
                raise _Strange(f"{path}: {problem}")
        # An immutable database is read without its log, which may lack rows: the directory has them.
        mode = "mode=rwc" if write else "mode=rw" if self._is_writable() else "mode=ro&immutable=1"
        if write:
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, durable.FILE_MODE))
        connect = sqlite3.connect(
            f"{self._path.as_uri()}?{mode}", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
        )
        with closing(connect) as connection:
            _check_schema(connection, write=write)
            yield connection

    @contextmanager
    def _shared(self) -> Iterator[None]:
        with self._locked(fcntl.LOCK_SH) as fd:
            # SQLite locks bytes.  Where that fails it believes that another has them, and waits: ask before.
            fcntl.fcntl(fd, fcntl.F_OFD_GETLK, FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 1, 0))
            yield

    @contextmanager
    def _locked(self, operation: int) -> Iterator[int]:
        fd = files.open_regular(self._guard)
        try:
            try:
                take(fd, operation)
            except OSError as exc:
                # NFS locks exclusively only what is open for writing: there, two rebuilds at once go unguarded.
                if exc.errno != errno.EBADF:
                    raise
            yield fd
        finally:
            give_back(fd)


def _check_schema(connection: sqlite3.Connection, *, write: bool) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == SCHEMA_VERSION:
        return
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version != 0 or tables != 0:
        raise _Damaged(f"schema {version}, not {SCHEMA_VERSION}")
    if not write:
        raise sqlite3.OperationalError("empty")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        connection.execute(_SCHEMA)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _read_rows(connection: sqlite3.Connection, vm_id: str | None) -> dict[Key, Row]:
    query = "SELECT vm_id, point_id, file_size, file_mtime_ns, document FROM points"
    found = connection.execute(query) if vm_id is None else connection.execute(f"{query} WHERE vm_id = ?", (vm_id,))
    rows: dict[Key, Row] = {}
    for vm, point, size, mtime_ns, document in found:
        if not isinstance(document, bytes) or not isinstance(size, int) or not isinstance(mtime_ns, int):
            raise _Damaged("a row of the wrong type")
        rows[str(vm), str(point)] = Row(Stamp(size, mtime_ns), document)
    return rows


def _values(new: NewRow) -> tuple[str | int | bytes | None, ...]:
    point, row = new.point, new.row
    return (
        point.vm_id,
        point.id,
        point.parent_id,
        point.kind,
        point.vm_name,
        format_time(point.created_at),
        row.stamp.size,
        row.stamp.mtime_ns,
        row.document,
    )

"""The SQLite file of the agent: opened, brought to the schema of this version, or set aside.

What is in it is a history: worth keeping, not worth a backup.  A file that is damaged is kept beside the new one, and
said; one of a newer version is not touched.  A kill at any moment loses nothing that was written; a power cut may lose
the last seconds, and damages nothing (WAL, synchronous=NORMAL).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from ntxengine.errors import PortableError, StateError
from ntxengine.files.durable import FILE_MODE, make_folder
from ntxengine.units import utc_now

log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 5.0
BUSY_TIMEOUT_S = 0.1
"""While another program has the file: the event loop waits with us, and what is not written now is written later."""

MAX_SET_ASIDE = 3
"""Damaged files that are kept: the newest."""

STEPS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE runs (id TEXT PRIMARY KEY, job TEXT NOT NULL, vm_id TEXT NOT NULL, vm_name TEXT NOT NULL,"
        " state TEXT NOT NULL, started_at INTEGER NOT NULL, document BLOB NOT NULL) WITHOUT ROWID",
        "CREATE INDEX runs_by_time ON runs (started_at)",
        "CREATE INDEX runs_by_vm ON runs (vm_id, started_at)",
        "CREATE TABLE standings (job TEXT NOT NULL, vm_id TEXT NOT NULL, document BLOB NOT NULL,"
        " PRIMARY KEY (job, vm_id)) WITHOUT ROWID",
        "CREATE TABLE paused (subject TEXT PRIMARY KEY, since INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE repositories (path TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE asked (job TEXT NOT NULL, vm_id TEXT NOT NULL, at INTEGER NOT NULL,"
        " PRIMARY KEY (job, vm_id)) WITHOUT ROWID",
    ),
)
"""What brings a file from each version of the schema to the next; a new file has version 0."""

_LOGS = ("-wal", "-shm")
_SAYS_DAMAGED = ("no such table", "no such column", "malformed", "database disk image")

Statement = tuple[str, Sequence[Any]]


class Damaged(PortableError):
    """The file is no database of ours any more."""


def version_of(path: Path) -> int | None:
    """Return the version of the schema of a file that may be in use; None if there is none, or it cannot be read."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error:
        return None
    return int(version)


class Database:
    """The file, open for one thread."""

    def __init__(
        self,
        path: Path,
        *,
        steps: Sequence[Sequence[str]] = STEPS,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Open it, or make it.  Errors: StateError (a newer version; it cannot be opened), TargetError (the folder)."""
        self.path = path
        self._steps = steps
        self._clock = clock
        self._connection: sqlite3.Connection
        make_folder(path.parent)
        try:
            self._open(checked=True)
        except Damaged as exc:
            self.set_aside(str(exc))

    def close(self) -> None:
        self._connection.close()

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a question.  Errors: Damaged, StateError."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise self._error(exc) from exc

    def write(self, statements: Iterable[Statement]) -> None:
        """Do all of it, or nothing.  Errors: Damaged; StateError, as where the file system is full."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for sql, values in statements:
                connection.execute(sql, values)
            connection.execute("COMMIT")
        except sqlite3.Error as exc:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise self._error(exc) from exc

    def set_aside(self, reason: str) -> Path:
        """Put the file out of the way, make a new one, and say so.  Errors: StateError."""
        if hasattr(self, "_connection"):
            with suppress(sqlite3.Error):
                self._connection.close()
        aside = self.path.with_name(f"{self.path.name}.damaged-{self._clock():%Y%m%dT%H%M%SZ}")
        try:
            for suffix in (*_LOGS, ""):  # the logs first: left beside a new file they would be replayed into it
                with suppress(FileNotFoundError):
                    Path(f"{self.path}{suffix}").replace(f"{aside}{suffix}")
            self._drop_old()
        except OSError as exc:
            raise StateError(f"{self.path}: is damaged ({reason}), and cannot be set aside: {exc.strerror}") from exc
        log.warning("%s: is damaged (%s): kept as %s, and a new history begins", self.path, reason, aside.name)
        try:
            self._open(checked=False)
        except Damaged as exc:
            raise StateError(f"{self.path}: cannot be made anew: {exc}") from exc
        return aside

    def _drop_old(self) -> None:
        kept = sorted(path for path in self.path.parent.glob(f"{self.path.name}.damaged-*Z"))
        for path in kept[:-MAX_SET_ASIDE]:
            for suffix in (*_LOGS, ""):
                Path(f"{path}{suffix}").unlink(missing_ok=True)

    def _open(self, *, checked: bool) -> None:
        try:
            self._connection = sqlite3.connect(self.path, timeout=OPEN_TIMEOUT_S, isolation_level=None)
            self.path.chmod(FILE_MODE)
            if checked:
                (said,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
                if said != "ok":
                    raise Damaged(str(said)[:200])
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._migrate()
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")
        except sqlite3.Error as exc:
            raise self._error(exc) from exc
        except OSError as exc:
            raise StateError(f"{self.path}: cannot be opened: {exc.strerror}; check its owner and mode") from exc

    def _migrate(self) -> None:
        """Bring the file to the newest schema, in one step that a kill leaves done or not done."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(self._steps):
                raise StateError(
                    f"{self.path}: has schema {version}, this ntx knows up to {len(self._steps)}: use the ntx that"
                    f" wrote it, or another state folder"
                )
            if version < 0:
                raise Damaged(f"schema {version}")
            for step in self._steps[version:]:
                for sql in step:
                    connection.execute(sql)
            connection.execute(f"PRAGMA user_version = {len(self._steps)}")
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _error(self, cause: sqlite3.Error) -> Damaged | StateError:
        text = str(cause)
        if not isinstance(cause, sqlite3.OperationalError) or text.startswith(_SAYS_DAMAGED):
            return Damaged(text[:200])
        return StateError(f"{self.path}: {text}; check the room, owner and mode of its folder")

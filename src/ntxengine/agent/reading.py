"""The history, read beside whoever writes it: by the agent in a thread of its own, and where no agent runs.

The file is opened read-only for each page, so a reader that is slow keeps nothing from being written: SQLite lets one
that reads and one that writes work side by side (WAL), and only a transaction that is left open would let the log grow.
Nothing is made, brought to another schema, nor set aside here.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import msgspec

from ntxengine.agent.asking import Question, mark_of
from ntxengine.agent.database import STEPS
from ntxengine.agent.records import Run
from ntxengine.agent.state import FILE
from ntxengine.errors import NotFoundError, StateError

_BUSY_TIMEOUT_S = 5.0


def read_runs(folder: Path, question: Question) -> tuple[list[Run], str]:
    """Return a page of the runs in a state folder, and the mark where the next begins, "" if this is the last.

    Errors: NotFoundError (nothing is remembered there), StateError (it cannot be read, or is of another version).
    """
    path = folder / FILE
    if not path.exists():
        raise NotFoundError(f"{folder}: no agent remembers anything there: name its state folder (agent.state)")
    sql, values = question.sql()
    try:
        # No `immutable`: an agent may begin to write at any moment.
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S)) as opened:
            _check_version(opened, path)
            rows = opened.execute(sql, values).fetchall()
    except (sqlite3.Error, OSError) as exc:
        raise StateError(f"{path}: cannot be read: {exc}; read it as the user of the agent, or ask the agent") from exc
    found = [run for (document,) in rows if (run := _decoded(document)) is not None]
    is_last = len(rows) < question.limit or not found
    return found, "" if is_last else mark_of(found[-1])


def _check_version(opened: sqlite3.Connection, path: Path) -> None:
    (version,) = opened.execute("PRAGMA user_version").fetchone()
    if not 1 <= version <= len(STEPS):
        raise StateError(
            f"{path}: has schema {version}, this ntx reads 1 to {len(STEPS)}: use that which wrote it, or ask the agent"
        )


def _decoded(document: object) -> Run | None:
    if not isinstance(document, bytes):
        return None
    try:
        return msgspec.json.decode(document, type=Run)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None

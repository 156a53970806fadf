"""Which runs of the history are asked for: the same question for the agent and for whoever reads its file.

Runs come newest first, a page at a time.  A page ends with a mark, where the next begins: what is added meanwhile
moves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ntxengine.agent.records import Run, RunState
from ntxengine.errors import OptionsError

MAX_PAGE = 200
"""Runs of one page."""

_MARK = re.compile(r"([0-9]{1,12})\.([0-9A-Za-z-]{1,64})", re.ASCII)


@dataclass(frozen=True)
class Question:
    """Runs that are all of what is said.  `vm` is a name or an id; `after` the mark of a page, "" for the first.

    Errors: OptionsError.
    """

    vm: str = ""
    vm_id: str = ""
    job: str = ""
    state: RunState | None = None
    since: datetime | None = None
    after: str = ""
    limit: int = 1000

    def __post_init__(self) -> None:
        if self.after and not _MARK.fullmatch(self.after):
            raise OptionsError(f"{self.after[:80]!r} is no mark of a page")

    def sql(self) -> tuple[str, Sequence[Any]]:
        """Return the statement that finds the documents, and its values."""
        clauses: list[str] = []
        values: list[Any] = []
        if self.vm:
            clauses.append("(vm_id = ? OR vm_name = ?)")
            values += [self.vm, self.vm]
        for clause, value in (
            ("vm_id = ?", self.vm_id),
            ("job = ?", self.job),
            ("state = ?", "" if self.state is None else self.state.value),
        ):
            if value:
                clauses.append(clause)
                values.append(value)
        if self.since is not None:
            clauses.append("started_at >= ?")
            values.append(int(self.since.timestamp()))
        if mark := _MARK.fullmatch(self.after):
            clauses.append("(started_at, id) < (?, ?)")
            values += [int(mark[1]), mark[2]]
        where = f" WHERE {' AND '.join(clauses)}" if clauses else ""
        return f"SELECT document FROM runs{where} ORDER BY started_at DESC, id DESC LIMIT ?", [*values, self.limit]


def mark_of(run: Run) -> str:
    """Return the mark of a page that ends with a run."""
    return f"{int(run.started_at.timestamp())}.{run.id}"

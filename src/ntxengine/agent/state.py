"""What the agent remembers over its end, whatever that is: runs, how VMs stand, what is paused, what was asked for.

What is decided on is held in memory, and written as it changes.  Where it cannot be written (the file system is full)
the agent goes on, says so once, and writes what is missing as soon as it can.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import msgspec

from ntxengine.agent.asking import Question
from ntxengine.agent.database import Damaged, Database, Statement
from ntxengine.agent.records import BEING_MADE, Key, Run, RunState, Standing
from ntxengine.agent.results import killed
from ntxengine.errors import StateError
from ntxengine.units import utc_now

T = TypeVar("T")

log = logging.getLogger(__name__)

FILE = "state.db"
KEEP = timedelta(days=90)
MAX_RUNS = 100_000
"""Runs that are kept: those of KEEP, but no more than this, some 100 MB."""

MAX_UNWRITTEN = 10_000

_PUT_RUN = "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)"
_PUT_STANDING = "INSERT OR REPLACE INTO standings VALUES (?, ?, ?)"


class State:
    """The memory of the agent.  For one thread; `folder` is the agent's alone (its lock is the caller's business)."""

    def __init__(self, folder: Path, *, clock: Callable[[], datetime] = utc_now) -> None:
        """Open it, or make it.  Errors: StateError, TargetError."""
        self._clock = clock
        self._database = Database(folder / FILE, clock=clock)
        self._unwritten: dict[tuple[str, ...], Statement] = {}
        self._running: dict[str, Run] = {}
        self.problem = ""
        """Why what changes cannot be written now, "" if it can."""
        self._standings: dict[Key, Standing] = {}
        self._paused: dict[str, datetime] = {}
        self._asked: dict[Key, datetime] = {}
        self._repositories: dict[str, str] = {}
        if problem := self._load():
            self._database.set_aside(problem)
            self._write_known()

    def close(self) -> None:
        """Write what is missing, and close the file."""
        self.flush()
        self._database.close()

    # ------------------------------------------------------------------------------------------------------ runs

    def begin(self, run: Run, standing: Standing) -> None:
        """Record that a run begins, how the VM stands from then on, and that what was asked for is being done."""
        self._running[run.id] = run
        self._asked.pop(run.key, None)
        self._standings[run.key] = standing
        self._write(_run(run), _standing(run.key, standing), _not_asked(run.key))

    def save(self, run: Run) -> None:
        """Record how far a run is."""
        self._running[run.id] = run
        self._write(_run(run))

    def end(self, run: Run, standing: Standing) -> None:
        """Record how a run ended."""
        self._running.pop(run.id, None)
        self._standings[run.key] = standing
        self._write(_run(run), _standing(run.key, standing))

    def amend(self, run: Run) -> None:
        """Record what came to light of a run after its end."""
        self._write(_run(run))

    def recover(self) -> list[Run]:
        """Return the runs that an earlier agent left running, which are interrupted now, and to be gone on with.

        One whose point was committed by then has succeeded.  A VM whose runs never come to their end, because they end
        the agent perhaps, is waited with as after an error: `attempt` counts.
        """
        now = self._clock()
        found = [run for run in self.runs(state=RunState.RUNNING, limit=MAX_RUNS) if run.id not in self._running]
        ended = []
        for run in found:
            run, standing = killed(run, self.standing(run.key), now)
            self.end(run, standing)
            ended.append(run)
        return ended

    def runs(
        self,
        *,
        vm_id: str = "",
        job: str = "",
        state: RunState | None = None,
        since: datetime | None = None,
        limit: int = 1000,
    ) -> list[Run]:
        """Return runs, newest first, that are all of what is said.  Errors: StateError."""
        self.flush()
        sql, values = Question(vm_id=vm_id, job=job, state=state, since=since, limit=limit).sql()
        try:
            rows = self._database.read(sql, values)
        except Damaged as exc:
            self._begin_anew(exc)
            return []
        found = (_decode(document, Run) for (document,) in rows)
        return [run for run in found if run is not None]

    def prune(self, keep: timedelta = KEEP, max_runs: int = MAX_RUNS, *, in_use: Collection[Key] | None = None) -> None:
        """Forget the runs that are older than `keep` and those that are more than `max_runs`, oldest first.

        And of VMs that no job has had for so long, how they stood, and that they were asked for.  `in_use` are those
        that jobs have now, None if nobody knows: then all of them may be.
        """
        before = _seconds(self._clock() - keep)
        oldest = "SELECT id FROM runs WHERE state != 'running' ORDER BY started_at DESC LIMIT -1 OFFSET ?"
        self._write(
            (("prune", "old"), ("DELETE FROM runs WHERE started_at < ? AND state != 'running'", (before,))),
            (("prune", "many"), (f"DELETE FROM runs WHERE id IN ({oldest})", (max_runs,))),
        )
        if in_use is None:
            return
        for key, standing in list(self._standings.items()):
            if key not in in_use and standing.seen_at is not None and _seconds(standing.seen_at) < before:
                del self._standings[key]
                self._write((("standing", *key), ("DELETE FROM standings WHERE job = ? AND vm_id = ?", key)))
        for key, asked_at in list(self._asked.items()):
            if key not in in_use and _seconds(asked_at) < before:
                self.withdraw(key)

    # ------------------------------------------------------------------------------------------------- how VMs stand

    def standing(self, key: Key) -> Standing:
        """Return how a VM of a job stands."""
        return self._standings.get(key, Standing())

    @property
    def standings(self) -> Mapping[Key, Standing]:
        return self._standings

    def set_standing(self, key: Key, standing: Standing) -> None:
        if self._standings.get(key) != standing:
            self._standings[key] = standing
            self._write(_standing(key, standing))

    # ------------------------------------------------------------------------------------------- what people said

    @property
    def paused(self) -> Mapping[str, datetime]:
        """What is paused, and since when: `all`, `job NAME`, `vm UUID`."""
        return self._paused

    def pause(self, subject: str) -> None:
        self._write(_paused(subject, self._paused.setdefault(subject, self._clock())))

    def resume(self, subject: str) -> bool:
        """Say that it goes on; return whether it was paused."""
        was_paused = self._paused.pop(subject, None) is not None
        self._write((("paused", subject), ("DELETE FROM paused WHERE subject = ?", (subject,))))
        return was_paused

    @property
    def asked(self) -> Mapping[Key, datetime]:
        """The runs that a person asked for, which have not begun."""
        return self._asked

    def ask(self, key: Key) -> None:
        self._write(_asked(key, self._asked.setdefault(key, self._clock())))

    def withdraw(self, key: Key) -> None:
        """Forget that a run was asked for."""
        self._asked.pop(key, None)
        self._write(_not_asked(key))

    def repository_id(self, path: str) -> str:
        """Return the id of the repository that was at a path, "" if none was."""
        found = self._repositories.get(path, "")
        return "" if found == BEING_MADE else found

    def is_being_made(self, path: str) -> bool:
        """Say whether this agent, or one that was killed, is about to make a repository there."""
        return self._repositories.get(path) == BEING_MADE

    def know_repository(self, path: str, repository_id: str) -> None:
        self._repositories[path] = repository_id
        self._write(_repository(path, repository_id))

    # ------------------------------------------------------------------------------------------------------ writing

    def _load(self) -> str:
        """Take what can be read, and return why the rest cannot, "" if it all could.  Errors: StateError."""
        problem = ""
        tables: tuple[tuple[str, Callable[..., None]], ...] = (
            # First what keeps an empty mount point from being written into.
            ("SELECT path, id FROM repositories", self._repositories.__setitem__),
            ("SELECT subject, since FROM paused", lambda subject, at: self._paused.update({subject: _time(at)})),
            ("SELECT job, vm_id, at FROM asked", lambda *row: self._asked.update({row[:2]: _time(row[2])})),
            (
                "SELECT job, vm_id, document FROM standings",
                lambda *row: self._standings.update({row[:2]: _decode(row[2], Standing) or Standing()}),
            ),
        )
        for sql, take in tables:
            try:
                for row in self._database.read(sql):
                    take(*row)
            except Damaged as exc:
                problem = problem or str(exc)
        return problem

    def _write(self, *changes: tuple[tuple[str, ...], Statement]) -> None:
        """Write these changes, and those that could not be written before; of each thing the last one."""
        for key, statement in changes:
            self._unwritten.pop(key, None)
            self._unwritten[key] = statement
        self.flush()

    def flush(self) -> None:
        """Write what could not be written before, if it can be now."""
        if not self._unwritten:
            return
        try:
            self._database.write(self._unwritten.values())
        except Damaged as exc:
            self._begin_anew(exc)
        except StateError as exc:
            self._complain(str(exc))
        else:
            self._unwritten.clear()
            if self.problem:
                log.warning("%s: is written again", self._database.path)
            self.problem = ""

    def _complain(self, problem: str) -> None:
        if not self.problem:
            log.error("%s; the history is not written, runs go on", problem)
        self.problem = problem
        for key in list(self._unwritten)[: len(self._unwritten) - MAX_UNWRITTEN]:
            del self._unwritten[key]

    def _begin_anew(self, cause: Damaged) -> None:
        """Set a damaged file aside while the agent runs, and write what is known into the new one."""
        try:
            self._database.set_aside(str(cause))
        except StateError as exc:
            self._complain(str(exc))
            return
        self._write_known()

    def _write_known(self) -> None:
        """Write all that is known into a new file."""
        known = [_run(run) for run in self._running.values()]
        known += [_standing(key, standing) for key, standing in self._standings.items()]
        known += [_repository(path, repository_id) for path, repository_id in self._repositories.items()]
        known += [_paused(subject, since) for subject, since in self._paused.items()]
        known += [_asked(key, at) for key, at in self._asked.items()]
        self._unwritten = {**dict(known), **self._unwritten}
        self.flush()


def _run(run: Run) -> tuple[tuple[str, ...], Statement]:
    document = msgspec.json.encode(run)
    values = (run.id, run.job, run.vm_id, run.vm_name, run.state.value, _seconds(run.started_at), document)
    return ("run", run.id), (_PUT_RUN, values)


def _standing(key: Key, standing: Standing) -> tuple[tuple[str, ...], Statement]:
    return ("standing", *key), (_PUT_STANDING, (*key, msgspec.json.encode(standing)))


def _repository(path: str, repository_id: str) -> tuple[tuple[str, ...], Statement]:
    return ("repository", path), ("INSERT OR REPLACE INTO repositories VALUES (?, ?)", (path, repository_id))


def _paused(subject: str, since: datetime) -> tuple[tuple[str, ...], Statement]:
    return ("paused", subject), ("INSERT OR REPLACE INTO paused VALUES (?, ?)", (subject, _seconds(since)))


def _asked(key: Key, at: datetime) -> tuple[tuple[str, ...], Statement]:
    return ("asked", *key), ("INSERT OR REPLACE INTO asked VALUES (?, ?, ?)", (*key, _seconds(at)))


def _not_asked(key: Key) -> tuple[tuple[str, ...], Statement]:
    return ("asked", *key), ("DELETE FROM asked WHERE job = ? AND vm_id = ?", key)


def _decode(document: object, kind: type[T]) -> T | None:
    """Return what a row says, None if it says nothing that can be read."""
    if not isinstance(document, bytes):
        return None
    try:
        return msgspec.json.decode(document, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        log.debug("a row of the state cannot be read: %s", exc)
        return None


def _seconds(when: datetime) -> int:
    return int(when.timestamp())


def _time(seconds: object) -> datetime:
    return datetime.fromtimestamp(seconds if isinstance(seconds, int) else 0, UTC)

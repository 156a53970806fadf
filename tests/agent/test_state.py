"""What the agent remembers: over kills, damage, full file systems and other versions."""

from __future__ import annotations

import dataclasses
import logging
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ntxengine.agent import database as module
from ntxengine.agent.database import STEPS, Database
from ntxengine.agent.records import Figures, Kept, Retry, Run, RunState, Standing, Trigger
from ntxengine.agent.state import FILE, State
from ntxengine.errors import StateError

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
KEY = ("hourly", "vm-1")


class Wall:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


def run(number: int = 1, *, hours: int = 0, **more: object) -> Run:
    started = NOW - timedelta(hours=hours)
    return dataclasses.replace(Run(f"{started:%Y%m%dT%H%M%SZ}-{number:06d}", *KEY, "db01", started), **more)


def ended(each: Run, state: RunState = RunState.SUCCEEDED) -> Run:
    return dataclasses.replace(each, state=state, ended_at=NOW)


def test_everything_is_there_again_when_the_file_is_opened_anew(tmp_path: Path) -> None:
    whole = run(
        trigger=Trigger.RETRY,
        due_at=NOW,
        attempt=2,
        stage="copy",
        stages_s={"copy": 1.5},
        figures=Figures(kind="incremental", bytes_sent=3, reduction_percent=94.5, bottleneck="source"),
        kept=Kept(forgotten=1, removed=2, bytes_freed=3),
        warnings=("said",),
        problems=("prune",),
        error_class="PrismTimeout",
        error="no answer",
        exit_code=75,
    )
    standing = Standing(NOW, Retry(2, NOW, NOW, NOW), NOW, 1, NOW)
    state = State(tmp_path, clock=lambda: NOW)
    state.begin(whole, standing)
    state.end(ended(whole), standing)
    state.pause("vm vm-1")
    state.ask(("hourly", "vm-2"))
    state.close()

    again = State(tmp_path, clock=lambda: NOW)

    assert again.runs() == [ended(whole)]
    assert again.standings == {KEY: standing}
    assert again.paused == {"vm vm-1": NOW}
    assert again.asked == {("hourly", "vm-2"): NOW}
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_a_run_that_was_running_is_interrupted_after_a_kill_and_is_to_be_gone_on_with(tmp_path: Path) -> None:
    """The first State is never closed, as after a kill."""
    killed = State(tmp_path, clock=lambda: NOW)
    killed.ask(KEY)
    killed.begin(run(due_at=NOW), Standing(handled=NOW))

    state = State(tmp_path, clock=lambda: NOW)
    (found,) = state.recover()

    assert found.state == RunState.INTERRUPTED
    assert found.error == "the agent ended while it ran; the next run goes on with it"
    assert state.standing(KEY) == Standing(handled=NOW, retry=Retry(2, NOW, NOW, NOW, was_interrupted=True))
    assert state.runs() == [found]
    assert not state.asked
    assert state.recover() == []


def test_a_run_whose_point_was_committed_before_the_kill_has_succeeded(tmp_path: Path) -> None:
    killed = State(tmp_path, clock=lambda: NOW)
    killed.begin(run(), Standing(failures=2))
    killed.save(run(is_committed=True, point_id="p1"))

    state = State(tmp_path, clock=lambda: NOW)
    (found,) = state.recover()

    assert found.state == RunState.SUCCEEDED
    assert "what follows it was left out" in found.problems[0]
    assert state.standing(KEY) == Standing(succeeded_at=NOW, point_at=NOW)


def test_runs_are_found_by_what_they_are(tmp_path: Path) -> None:
    state = State(tmp_path, clock=lambda: NOW)
    failed, good = ended(run(1, hours=3), RunState.FAILED), ended(run(2, hours=1))
    for each in (failed, good):
        state.end(each, Standing())

    assert state.runs() == [good, failed]
    assert state.runs(state=RunState.FAILED) == [failed]
    assert state.runs(since=NOW - timedelta(hours=2)) == [good]
    assert state.runs(vm_id="vm-1", job="hourly", limit=1) == [good]
    assert state.runs(vm_id="vm-2") == []


def test_old_runs_are_forgotten_and_one_that_runs_is_not(tmp_path: Path, wall: Wall) -> None:
    state = State(tmp_path, clock=wall)
    for number in range(6):
        state.end(ended(run(number, hours=24 * number)), Standing(seen_at=NOW))
    state.begin(run(9, hours=24 * 99), Standing(seen_at=NOW))

    state.prune(timedelta(days=4, hours=1), max_runs=3)

    assert [each.started_at for each in state.runs()] == [NOW - timedelta(days=day) for day in (0, 1, 2, 99)]


def test_how_a_vm_stands_is_forgotten_only_where_no_job_has_had_it_for_long(tmp_path: Path, wall: Wall) -> None:
    state = State(tmp_path, clock=wall)
    gone, there = ("hourly", "id-gone"), ("yearly", "id-there")
    for key in (gone, there):
        state.set_standing(key, Standing(seen_at=NOW))
        state.ask(key)
    wall.now += timedelta(days=91)

    state.prune()
    nobody_knows = len(state.standings)
    state.prune(in_use={there})

    assert nobody_knows == 2
    assert set(state.standings) == set(state.asked) == {there}
    assert set(State(tmp_path, clock=wall).standings) == {there}


def flip_header(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[:64] = bytes(64)
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def text(file: Path) -> None:
    file.write_bytes(b"this was a state once\n" * 99)


def no_table(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE runs")
    connection.close()


@pytest.mark.parametrize("damage", [flip_header, cut, text, no_table])
def test_a_damaged_file_is_set_aside_and_said(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    state = State(tmp_path, clock=lambda: NOW)
    for number in range(200):
        state.end(ended(run(number)), Standing())
    state.close()
    damage(tmp_path / FILE)

    again = State(tmp_path, clock=lambda: NOW)
    again.recover()
    again.end(ended(run(1)), Standing())

    assert len(again.runs()) == 1
    assert "is damaged" in caplog.text
    assert [path.name for path in tmp_path.glob("*.damaged-*")] == [f"{FILE}.damaged-20261130T120000Z"]


def test_the_log_of_a_damaged_file_is_set_aside_with_it(tmp_path: Path) -> None:
    """Beside the new file it would be replayed into that."""
    database = Database(tmp_path / FILE)
    database.close()
    (tmp_path / f"{FILE}-wal").write_bytes(b"a log that nobody could close")

    aside = database.set_aside("for a test")

    assert Path(f"{aside}-wal").read_bytes() == b"a log that nobody could close"


def test_what_is_known_goes_on_when_the_file_is_damaged_under_a_running_agent(tmp_path: Path) -> None:
    state = State(tmp_path, clock=lambda: NOW)
    state.pause("all")
    state.begin(run(1), Standing(handled=NOW))
    no_table(tmp_path / FILE)

    state.save(run(1, stage="copy"))

    again = State(tmp_path, clock=lambda: NOW)
    assert [each.stage for each in again.runs()] == ["copy"]
    assert again.standings == {KEY: Standing(handled=NOW)}
    assert again.paused == {"all": NOW}


@pytest.mark.parametrize("lost", ["standings", "asked", "paused", "repositories"])
def test_what_can_still_be_read_of_a_damaged_file_is_kept(tmp_path: Path, lost: str) -> None:
    state = State(tmp_path, clock=lambda: NOW)
    state.set_standing(KEY, Standing(handled=NOW))
    state.ask(KEY)
    state.pause("all")
    state.know_repository("/backups", "id")
    state.close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute(f"DROP TABLE {lost}")
    connection.close()

    State(tmp_path, clock=lambda: NOW + timedelta(hours=1)).close()
    again = State(tmp_path)

    kept = {
        "standings": again.standings == {KEY: Standing(handled=NOW)},
        "asked": again.asked == {KEY: NOW},
        "paused": again.paused == {"all": NOW},
        "repositories": again.repository_id("/backups") == "id",
    }
    assert [name for name, is_kept in kept.items() if not is_kept] == [lost]


def test_a_program_that_holds_the_file_does_not_hold_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_TIMEOUT_S", 200.0)  # what an opening agent would wait for
    state = State(tmp_path, clock=lambda: NOW)
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()

    state.end(ended(run(1)), Standing())

    assert time.monotonic() - began < 100
    assert "locked" in state.problem
    other.execute("ROLLBACK")
    other.close()
    state.flush()
    assert state.problem == ""
    assert len(State(tmp_path).runs()) == 1


def test_what_cannot_be_written_is_said_once_and_written_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(tmp_path, clock=lambda: NOW)

    def full(self: Database, statements: object) -> None:
        raise StateError(f"{self.path}: database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", full)
        state.begin(run(1), Standing())
        state.end(ended(run(1)), Standing(handled=NOW))
        assert "full" in state.problem
    assert [each.levelno for each in caplog.records] == [logging.ERROR]
    state.pause("all")

    assert state.problem == ""
    again = State(tmp_path, clock=lambda: NOW)
    assert len(again.runs()) == 1
    assert again.standing(KEY).handled == NOW


def test_an_older_file_is_brought_to_the_newer_schema_and_a_newer_one_is_refused(tmp_path: Path) -> None:
    state = State(tmp_path, clock=lambda: NOW)
    state.end(ended(run()), Standing())
    state.close()
    newer = (*STEPS, ("ALTER TABLE runs ADD COLUMN note TEXT",))

    database = Database(tmp_path / FILE, steps=newer)

    assert database.read("SELECT note FROM runs") == [(None,)]
    database.close()
    with pytest.raises(StateError, match="has schema 2, this ntx knows up to 1: use the ntx that wrote it"):
        State(tmp_path)
    assert not list(tmp_path.glob("*.damaged-*"))


def test_a_step_that_fails_leaves_the_older_schema(tmp_path: Path) -> None:
    State(tmp_path, clock=lambda: NOW).close()
    broken = (*STEPS, ("ALTER TABLE runs ADD COLUMN note TEXT", "SELECT 1 FROM"))

    with pytest.raises(StateError, match=r"syntax|incomplete"):
        Database(tmp_path / FILE, steps=broken)

    assert Database(tmp_path / FILE).read("PRAGMA user_version") == [(1,)]


def test_no_more_than_three_damaged_files_are_kept(tmp_path: Path, wall: Wall) -> None:
    for _ in range(5):
        State(tmp_path, clock=wall).close()
        text(tmp_path / FILE)
        wall.now += timedelta(minutes=1)

    State(tmp_path, clock=wall)

    assert len(list(tmp_path.glob("*.damaged-*"))) == 3


def test_a_folder_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "state" / FILE).mkdir(parents=True)

    with pytest.raises(StateError, match="unable to open database file; check the room, owner and mode"):
        State(tmp_path / "state")

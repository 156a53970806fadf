"""The history, read beside an agent that writes it, and without one."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ntxengine.agent.asking import Question
from ntxengine.agent.reading import read_runs
from ntxengine.agent.records import Run, RunState, Standing
from ntxengine.agent.state import FILE, State
from ntxengine.errors import NotFoundError, OptionsError, StateError

BEGIN = datetime(2026, 12, 1, tzinfo=UTC)


def run(number: int, **more: object) -> Run:
    fields = {"job": "hourly", "vm_id": f"id-{number % 3}", "vm_name": f"vm{number % 3}", **more}
    return Run(id=f"run-{number:03}", started_at=BEGIN + timedelta(seconds=number // 2), **fields)  # type: ignore[arg-type]


def remembered(folder: Path, *runs: Run) -> State:
    state = State(folder)
    for each in runs:
        state.begin(each, Standing())
    return state


def every(folder: Path, limit: int, **wanted: object) -> list[str]:
    found: list[str] = []
    after = ""
    while True:
        runs, after = read_runs(folder, Question(limit=limit, after=after, **wanted))  # type: ignore[arg-type]
        found += [each.id for each in runs]
        if not after:
            return found


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_of_any_size_hold_each_run_once(tmp_path: Path, limit: int) -> None:
    remembered(tmp_path, *(run(number) for number in range(21))).close()

    assert every(tmp_path, limit) == [f"run-{number:03}" for number in reversed(range(21))]


def test_runs_that_begin_meanwhile_move_no_page(tmp_path: Path) -> None:
    state = remembered(tmp_path, *(run(number) for number in range(10)))
    first, after = read_runs(tmp_path, Question(limit=4))

    state.begin(run(99), Standing())
    second, _ = read_runs(tmp_path, Question(limit=4, after=after))
    state.close()

    assert [each.id for each in [*first, *second]] == [f"run-{number:03}" for number in range(9, 1, -1)]


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    runs = [run(0), run(1, state=RunState.FAILED), run(2, job="nightly"), run(3, vm_name="vm1")]
    remembered(tmp_path, *runs).close()

    assert every(tmp_path, 2, state=RunState.FAILED) == ["run-001"]
    assert every(tmp_path, 2, job="nightly") == ["run-002"]
    assert every(tmp_path, 2, vm="vm1") == ["run-003", "run-001"]
    assert every(tmp_path, 2, vm="id-0") == ["run-003", "run-000"]
    assert every(tmp_path, 2, since=BEGIN + timedelta(seconds=1)) == ["run-003", "run-002"]
    assert every(tmp_path, 2, vm="' OR 1=1 --") == []


def test_a_reader_keeps_nothing_from_being_written_and_changes_nothing(tmp_path: Path) -> None:
    state = remembered(tmp_path, run(0))
    for number in range(1, 50):
        read_runs(tmp_path, Question())
        state.begin(run(number), Standing())
    assert state.problem == ""
    state.close()
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    found, _ = read_runs(tmp_path, Question())

    assert len(found) == 50
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.name in before} == before
    State(tmp_path).close()


def test_what_a_killed_agent_wrote_last_is_read(tmp_path: Path) -> None:
    state = remembered(tmp_path / "state", run(0))
    copied = tmp_path / "copied"
    copied.mkdir()
    for path in (tmp_path / "state").iterdir():  # as it is on the disk at a SIGKILL: the log was not written back
        (copied / path.name).write_bytes(path.read_bytes())

    found, _ = read_runs(copied, Question())
    state.close()

    assert [each.id for each in found] == ["run-000"]


def test_a_folder_without_a_history_is_one_line_and_gets_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no agent remembers anything there"):
        read_runs(tmp_path, Question())

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"no database at all, and longer than a header is" * 100])
def test_a_damaged_file_is_one_line_and_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)

    with pytest.raises(StateError):
        read_runs(tmp_path, Question())

    assert (tmp_path / FILE).read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_file_of_a_newer_version_is_one_line(tmp_path: Path) -> None:
    remembered(tmp_path, run(0)).close()
    with sqlite3.connect(tmp_path / FILE) as opened:
        opened.execute("PRAGMA user_version = 99")
    opened.close()

    with pytest.raises(StateError, match="has schema 99, this ntx reads 1 to"):
        read_runs(tmp_path, Question())


def test_a_path_with_signs_of_a_uri_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "a?mode=rwc#x%41"
    remembered(folder, run(0)).close()

    assert every(folder, 5) == ["run-000"]


@pytest.mark.parametrize("mark", ["x", "1", "1.", ".a", "1.a'b", "1." + "a" * 100, "99999999999999.a"])
def test_a_mark_that_nobody_gave_is_refused(mark: str) -> None:
    with pytest.raises(OptionsError, match="no mark of a page"):
        Question(after=mark)

"""`ntx history` of a state folder: the middle of the runs of each VM, and the runs of one."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from ntxengine.agent.records import Anomaly, Figures, Run, RunState, Standing
from ntxengine.agent.state import State
from ntxengine.units import MIB, utc_now
from tests.cli.ntx import ntx
from tests.cli.test_json import problems


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A full and four increments of db01, of which the last is unlike before; and one run of web01 that failed."""
    begin = utc_now() - timedelta(hours=6)
    with closing(State(tmp_path)) as opened:
        for number in range(5):
            at = begin + timedelta(hours=number)
            figures = Figures(
                kind="incremental" if number else "full",
                bytes_changed=number * MIB,
                bytes_sent=number * MIB,
                reduction_percent=90.0 + number,
                bytes_to_pack=4 * MIB,
                bytes_packed=2 * MIB,
            )
            unlike = (Anomaly("change", "4.0 MiB changed since the point before"),) if number == 4 else ()
            run = Run(f"r{number}", "nightly", "id-db", "db01", at, state=RunState.SUCCEEDED, seconds=60.0 + number)
            opened.end(_with(run, figures, unlike), Standing())
        failed = Run(
            "r9", "nightly", "id-web", "web01", begin, state=RunState.FAILED, error="no", error_class="NbdError"
        )
        opened.end(failed, Standing())
        opened.end(Run("r8", "nightly", "id-web", "web01", begin, state=RunState.INTERRUPTED), Standing())
    return tmp_path


def _with(run: Run, figures: Figures, unlike: tuple[Anomaly, ...]) -> Run:
    return dataclasses.replace(run, figures=figures, anomalies=unlike, ended_at=run.started_at + timedelta(minutes=1))


def test_each_vm_has_a_line_with_the_middle_of_its_runs(state: Path) -> None:
    ran = ntx("history", "--state", state)

    head, db, web = (line.split("  ") for line in ran.out.splitlines())
    assert head[0] == "VM"
    cells = [cell.strip() for cell in db if cell.strip()]
    assert cells[:4] == ["db01", "nightly", "5", "0"]
    assert cells[5:10] == ["1 min 02 s", "2.5 MiB", "2.0 MiB", "92.5 %", "50 %"]
    assert "4.0 MiB changed" in cells[10]
    assert [cell.strip() for cell in web if cell.strip()][:4] == ["web01", "nightly", "1", "1"]


def test_the_runs_of_a_vm_are_listed_newest_first(state: Path) -> None:
    found = ntx("history", "db01", "--state", state, "--json").json
    table = ntx("history", "db01", "--state", state)

    assert problems(found, "history.json") == []
    assert [run["run_id"] for run in found["runs"]] == ["r4", "r3", "r2", "r1", "r0"]
    assert [vm["vm_name"] for vm in found["vms"]] == ["db01"]
    assert (found["vms"][0]["bytes_changed"], found["vms"][0]["packed_share"]) == (2.5 * MIB, 0.5)
    assert [line.split()[3] for line in table.out.splitlines()[-5:]] == ["incremental"] * 4 + ["full"]


def test_of_no_run_nothing_is_known(state: Path) -> None:
    ran = ntx("history", "nobody", "--state", state)
    late = ntx("history", "--state", state, "--since", "1m", "--json")

    assert (ran.code, ran.out.splitlines()[1:]) == (0, [])
    assert "no run has ended since" in ran.err
    assert (late.json["vms"], late.json["runs"]) == ([], [])

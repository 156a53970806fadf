"""SIGKILL at random moments of an agent that captures: its history is whole, and what was interrupted is gone on with.

Ten kills in `make test`; `make soak` sets NTX_AGENT_KILLS and NTX_SOAK_SEED for a hundred.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ntxengine.agent.records import Run, RunState, Trigger
from ntxengine.agent.state import State
from ntxengine.repository.store import PointStore
from ntxengine.sim import Simulator
from tests.agent.killed import describe
from tests.agent.lab import NAMES, write
from tests.capture.lab import MIB, servers

KILLS = int(os.environ.get("NTX_AGENT_KILLS", "10"))
SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))
LONGEST_S = 3.0
LIMIT_S = 900.0
"""Longer than anything takes, however busy the machine is."""
POLL_S = 0.05
JOURNALS = "repository/*/.unfinished-*/*.journal"

_MAIN = "from tests.agent.killed import main; main()"
_ENDED = {RunState.SUCCEEDED.value, RunState.FAILED.value, RunState.INTERRUPTED.value}


class Killed:
    """One agent after another over one state, one repository and one cluster."""

    def __init__(self, sim: Simulator, folder: Path) -> None:
        self._sim = sim
        self._folder = folder
        self._chance = random.Random(SEED)

    def run(self, *, rounds: int = 0, kill_after_s: float | None = None, has_copied: bool = False) -> None:
        """Let one work: to its end, or to its kill.  `has_copied`: not before something is there to go on with."""
        command = [sys.executable, "-c", _MAIN, str(self._folder), describe(self._sim), str(rounds)]
        began = len(self.told())
        temporary = self._folder / "tmp"
        temporary.mkdir(exist_ok=True)
        with open(self._folder / "log", "ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "TMPDIR": str(temporary), "XDG_RUNTIME_DIR": str(temporary)},
            )
        if kill_after_s is None:
            assert process.wait(LIMIT_S) == 0, (self._folder / "log").read_text()[-3000:]
            return
        if has_copied:
            self._wait_for_copy(process)
        else:
            self._wait(process, began)
        time.sleep(kill_after_s)
        assert process.poll() is None, (self._folder / "log").read_text()[-3000:]
        process.kill()
        assert process.wait() == -signal.SIGKILL

    def _wait(self, process: subprocess.Popen[bytes], began: int) -> None:
        """Wait until a run has begun: how long that takes is the machine's business.  One in five is killed before."""
        if self._chance.random() < 0.2:
            return
        end = time.monotonic() + LIMIT_S
        while len(self.told()) <= began:
            assert time.monotonic() < end, (self._folder / "log").read_text()[-3000:]
            assert process.poll() is None, (self._folder / "log").read_text()[-3000:]
            time.sleep(POLL_S)

    def _wait_for_copy(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until a run that has just begun has written down how far its copy got."""
        began, end = time.time(), time.monotonic() + LIMIT_S
        while not any(has_progress(path, began) for path in self._folder.glob(JOURNALS)):
            assert time.monotonic() < end, (self._folder / "log").read_text()[-3000:]
            assert process.poll() is None, (self._folder / "log").read_text()[-3000:]
            time.sleep(POLL_S)

    def guest_writes(self) -> None:
        for vm in range(len(NAMES)):
            write(self._sim, vm, self._chance.randrange(32) * 65536, os.urandom(MIB))

    def kill_after_s(self) -> float:
        return self._chance.uniform(0, LONGEST_S)

    def told(self) -> dict[str, str]:
        """Return the last state that was told of each run, by id."""
        lines = (self._folder / "told").read_text().splitlines() if (self._folder / "told").exists() else []
        return dict(line.split() for line in lines if line.count(" ") == 1)

    def recorded(self) -> dict[str, Run]:
        """Return the runs of the state, as the killed agent left it."""
        state = State(self._folder / "state")
        runs = {run.id: run for run in state.runs(limit=100_000)}
        state.close()
        return runs


def has_progress(journal: Path, since: float) -> bool:
    """Say whether a journal that was written since then has some of the disk."""
    try:
        return journal.stat().st_mtime >= since and b'"stored_to":0' not in journal.read_bytes()
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_the_history_is_whole_after_kills_and_interrupted_captures_are_gone_on_with(
    simulator: Simulator, tmp_path: Path
) -> None:
    agents = Killed(simulator, tmp_path)

    for number in range(KILLS):
        agents.guest_writes()
        is_last = number == KILLS - 1  # however slow the machine is, there is something to go on with
        agents.run(kill_after_s=0 if is_last else agents.kill_after_s(), has_copied=is_last)
        recorded = agents.recorded()
        for run_id, state in agents.told().items():
            assert run_id in recorded
            assert state not in _ENDED or recorded[run_id].state.value == state
    while servers(tmp_path):  # the kernel ends them
        time.sleep(0.01)
    agents.run(rounds=1)

    runs = sorted(agents.recorded().values(), key=lambda run: run.id)
    interrupted = [run for run in runs if run.state == RunState.INTERRUPTED]
    resumed = [run for run in runs if run.trigger == Trigger.RESUME]
    assert {run.state for run in runs} <= {RunState.SUCCEEDED, RunState.INTERRUPTED}
    assert interrupted
    assert resumed
    assert any(run.figures is not None and run.figures.resumed for run in runs)
    assert not list(tmp_path.glob("state/*.damaged*"))
    points = PointStore.open(tmp_path / "repository").points()
    assert {run.point_id for run in runs if run.is_committed and run in runs[-2:]} <= {point.id for point in points}
    assert len(simulator.world.state.points) == len(NAMES)
    assert not simulator.world.state.clones
    assert not servers(tmp_path)
    assert not list(tmp_path.glob("repository/*/.unfinished*"))
    assert not list((tmp_path / "tmp").iterdir())
    assert not PointStore.open(tmp_path / "repository").is_locked(points[0].vm_id)

"""An agent that captures two VMs of a simulator over and over, until somebody kills it, and tells what it has recorded.

python -c "from tests.agent.killed import main; main()" FOLDER SIMULATOR ROUNDS

SIMULATOR is JSON.  What the agent tells of a run is appended to FOLDER/told, `ID STATE`, once it is in the state.
After ROUNDS captures of each VM, if that is not 0, it stops.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from ntxengine.agent.records import Run, RunState
from ntxengine.dataplane import checkpoints
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.sim import Simulator
from tests.agent.lab import NAMES, Agent
from tests.capture.lab import MIB


def describe(sim: Simulator) -> str:
    """Return what main() has to know of a simulator."""
    told = {name: str(getattr(sim, name)) for name in ("central_url", "username", "password", "ca_file", "worker_id")}
    return json.dumps({**told, "devices": str(sim.world.layout.devices)})


class Telling(Agent):
    """Appends what it is told, and asks for each VM again when it is done."""

    told: int
    rounds: int
    done: Counter[str]

    def _tell(self, run: Run) -> None:
        os.write(self.told, f"{run.id} {run.state.value}\n".encode())
        super()._tell(run)
        if run.ended_at is not None:
            self.done[run.vm_name] += run.state == RunState.SUCCEEDED
            if run.state == RunState.SUCCEEDED and self.wants(run.vm_name):
                asyncio.get_running_loop().call_soon(self.scheduler.ask, run.vm_name)

    def wants(self, name: str) -> bool:
        return not self.rounds or self.done[name] < self.rounds


async def work(folder: Path, told: dict[str, Any], rounds: int) -> None:
    layout = SimpleNamespace(devices=Path(told.pop("devices")))
    sim = cast("Simulator", SimpleNamespace(**told, world=SimpleNamespace(layout=layout)))
    Telling.told = os.open(folder / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    Telling.rounds, Telling.done = rounds, Counter()
    running = Telling(sim, folder, copy=CopyOptions(bandwidth=3 * MIB))
    await running.until(lambda: running.scheduler.listing.is_known)
    for name in NAMES:
        running.scheduler.ask(name)
    while any(running.wants(name) for name in NAMES):
        await asyncio.sleep(0.02)
    await running.close()


def main() -> None:
    checkpoints.DUE_S, checkpoints._SELDOMER = 0.05, 0
    folder, told, rounds = sys.argv[1:]
    asyncio.run(work(Path(folder), json.loads(told), int(rounds)))

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

from ntxengine.agent import configured
from ntxengine.agent.configured import Builder
from ntxengine.agent.records import Run, RunState
from ntxengine.agent.service import Service
from ntxengine.config.reading import load
from ntxengine.dataplane import checkpoints
from ntxengine.prism import Cluster, Endpoint
from ntxengine.prism.open import open_cluster
from ntxengine.sim import Simulator
from tests.agent.lab import JOB, NAMES, FastClock
from tests.capture.lab import eager_clock

LIMIT_S = 600.0
"""Longer than anything takes, however busy the machine is."""

FILE = """
nutanix: {{prism_central: "{central_url}", username: {username}, password: "{password}", ca_file: {ca_file}}}
backup: {{repository: {folder}/repository, worker: {worker_id}, device_dir: {devices}}}
performance: {{max_concurrent_vms: 2, bandwidth: 3M}}
agent: {{state: {folder}/state, socket: {folder}/socket}}
jobs: [{{name: {job}, vms: [{vms}], every: 300d, retention: {{keep_last: 2, max_waste: 0%}}}}]
"""


def describe(sim: Simulator) -> str:
    """Return what main() has to know of a simulator."""
    told = {name: str(getattr(sim, name)) for name in ("central_url", "username", "password", "ca_file", "worker_id")}
    return json.dumps({**told, "devices": str(sim.world.layout.devices)})


class Telling:
    """Appends what it is told, and asks for each VM again when it is done."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self._told = os.open(folder / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._rounds = rounds
        self._done: Counter[str] = Counter()
        self.service: Service

    def __call__(self, run: Run) -> None:
        os.write(self._told, f"{run.id} {run.state.value}\n".encode())
        if run.ended_at is not None:
            self._done[run.vm_name] += run.state == RunState.SUCCEEDED
            if run.state == RunState.SUCCEEDED and self.wants(run.vm_name):
                asyncio.get_running_loop().call_soon(self.service.scheduler.ask, run.vm_name)

    def wants(self, name: str) -> bool:
        return not self._rounds or self._done[name] < self._rounds


def sweeps() -> bool:
    """Say whether what the agents before left is still being looked for."""
    return any(task.get_name() == "sweep" for task in asyncio.all_tasks())


async def connect(central: Endpoint | None, element: Endpoint | None) -> Cluster:
    return await open_cluster(central, element, clock=eager_clock())


async def work(folder: Path, told: dict[str, str], rounds: int) -> None:
    file = folder / "agent.yaml"
    file.write_text(FILE.format(**told, folder=folder, job=JOB, vms=", ".join(NAMES)))
    configured.prism.connect = connect  # type: ignore[assignment]
    telling = Telling(folder, rounds)
    service = Service(
        folder / "state", Builder(lambda: load(file).config), drain_s=0, clock=FastClock(), on_run=telling
    )
    telling.service = service
    serving = asyncio.ensure_future(service.run())
    async with asyncio.timeout(LIMIT_S):
        while not hasattr(service, "scheduler") or not service.scheduler.listing.is_known:
            await asyncio.sleep(0.01)
    for name in NAMES:
        service.scheduler.ask(name)
    while any(telling.wants(name) for name in NAMES) or (rounds and (sweeps() or service.scheduler.running)):
        await asyncio.sleep(0.02)
    service.stop()
    await serving


def main() -> None:
    checkpoints.DUE_S, checkpoints._SELDOMER = 0.05, 0
    folder, told, rounds = sys.argv[1:]
    asyncio.run(work(Path(folder), json.loads(told), int(rounds)))

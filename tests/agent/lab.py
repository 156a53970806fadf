"""Two VMs of a simulated cluster, and an agent that captures them, in time that goes faster."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ntxengine.agent.capturing import CaptureJob
from ntxengine.agent.clock import Clock
from ntxengine.agent.connection import Connection
from ntxengine.agent.inventory import Choice, PrismInventory
from ntxengine.agent.jobs import Job, Setup
from ntxengine.agent.queue import Limits
from ntxengine.agent.records import Run
from ntxengine.agent.runner import WorkRunner
from ntxengine.agent.scheduler import Scheduler
from ntxengine.agent.state import State
from ntxengine.attach import AttachOptions
from ntxengine.capture import CaptureOptions
from ntxengine.prism import Cluster, Endpoint, Secret
from ntxengine.prism.open import open_cluster
from ntxengine.prune import PruneOptions
from ntxengine.retention import Policy
from ntxengine.schedule.due import Schedule
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.config import DiskConfig, GuestToolsConfig, VmConfig
from tests.capture.lab import MIB, eager_clock
from tests.support.rates import without_rates

FASTER = 100
LIMIT_S = 120.0

JOB = "hourly"
NAMES = ("db01", "web01")


@dataclass(frozen=True)
class FastClock(Clock):
    """A minute of the agent is over in less than a second."""

    now: Callable[[], datetime] = lambda: datetime.fromtimestamp(time.time() * FASTER % 4e9, UTC)
    monotonic: Callable[[], float] = lambda: time.monotonic() * FASTER

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        await super().wait(event, seconds / FASTER)


def two_vms(folder: Path) -> SimConfig:
    folder.mkdir()
    vms = []
    for name in NAMES:
        disk = folder / f"{name}.raw"
        disk.write_bytes(os.urandom(2 * MIB))
        os.truncate(disk, 8 * MIB)
        vms.append(VmConfig(name, disks=[DiskConfig(disk)], guest_tools=GuestToolsConfig()))
    return without_rates(SimConfig(vms=vms))


def write(sim: Simulator, vm: int, offset: int, data: bytes) -> None:
    """Write to the disk of a running guest."""
    with sim.disk_lock, sim.config.vms[vm].disks[0].path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


class Agent:
    """A scheduler that captures the VMs of a simulator into a repository.

    By a `clock` that is not fast it lists the VMs once: who counts requests then counts those of runs alone.
    """

    def __init__(self, sim: Simulator, folder: Path, *, clock: Clock | None = None, **options: Any) -> None:
        self.sim = sim
        self.repository = folder / "repository"
        self.password = sim.password
        self.ended: list[Run] = []
        self._ended = asyncio.Condition()
        self.state = State(folder / "state")
        self.connection = Connection(self._connect)
        attach = AttachOptions(sim.worker_id or "", sim.world.layout.devices)
        work = CaptureJob(
            self.repository,
            CaptureOptions(**options),
            attach,
            policy=Policy(last=2),
            pruning=PruneOptions(max_waste=0),
        )
        schedule = Schedule(every=timedelta(days=300))  # people ask
        setup = Setup(
            (Job(JOB, schedule, target=str(self.repository)),),
            PrismInventory(self.connection, {JOB: Choice(NAMES)}),
            WorkRunner(self.connection, {JOB: work}, self.state, at_once=2),
            Limits(total=2),
        )
        self.scheduler = Scheduler(self.state, setup, clock=clock or FastClock(), on_run=self._tell)
        self.task = asyncio.ensure_future(self.scheduler.run())

    async def _connect(self) -> Cluster:
        endpoint = Endpoint(
            self.sim.central_url, self.sim.username, Secret(self.password), ca_file=str(self.sim.ca_file)
        )
        return await open_cluster(endpoint, None, clock=eager_clock())

    def _tell(self, run: Run) -> None:
        if run.ended_at is not None:
            self.ended.append(run)

    async def until(self, is_so: Callable[[], object]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(LIMIT_S):
            while not is_so():
                await asyncio.sleep(0.01)

    async def capture(self, *names: str) -> list[Run]:
        """Have these VMs captured; return the runs."""
        await self.until(lambda: self.scheduler.listing.is_known)
        before = len(self.ended)
        for name in names:
            self.scheduler.ask(name)
        await self.until(lambda: len(self.ended) >= before + len(names))
        return self.ended[before:]

    async def close(self) -> None:
        self.scheduler.drain(0)
        await self.task
        await self.connection.aclose()
        self.state.close()


@asynccontextmanager
async def agent(sim: Simulator, folder: Path, **options: Any) -> AsyncIterator[Agent]:
    found = Agent(sim, folder, **options)
    try:
        yield found
    finally:
        await found.close()

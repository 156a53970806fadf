"""Inventories and runners that do as they are told, and a scheduler among them, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ntxengine.agent.jobs import Job, JobVm, Outcome, Setup
from ntxengine.agent.queue import Limits
from ntxengine.agent.records import Run
from ntxengine.agent.scheduler import Scheduler
from ntxengine.agent.state import State
from ntxengine.events import OnEvent, PointCommitted, Stage, StageBegan
from ntxengine.schedule.due import Schedule
from tests.agent.virtual import VirtualLoop

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


class Listed:
    """An inventory.  `error` is raised while it is set."""

    def __init__(self, **vms: Sequence[str | JobVm]) -> None:
        self.jobs = {
            job: [vm if isinstance(vm, JobVm) else JobVm(f"id-{vm}", vm) for vm in names] for job, names in vms.items()
        }
        self.error: Exception | None = None
        self.calls = 0

    async def vms(self) -> Mapping[str, Sequence[JobVm]]:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return dict(self.jobs)


@dataclass
class Acting:
    """A runner.  `errors` of a VM are raised one after another, each by one run; then its runs succeed."""

    takes_s: float = 60.0
    errors: dict[str, list[Exception]] = field(default_factory=dict)
    always: Exception | None = None
    began: list[tuple[str, float]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    cleanup_s: float = 0.0

    async def run(self, job: str, vm: JobVm, on_event: OnEvent) -> Outcome:
        loop = asyncio.get_running_loop()
        self.began.append((vm.name, loop.time()))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            on_event(StageBegan(stage=Stage.FREEZE, vm_id=vm.id))
            if self.always is not None:
                await asyncio.sleep(1)
                raise self.always
            if queue := self.errors.get(vm.name):
                await asyncio.sleep(1)
                raise queue.pop(0)
            await asyncio.sleep(self.takes_s)
            on_event(PointCommitted(vm_id=vm.id, point_id=f"point-{len(self.began)}"))
            return Outcome(point_id=f"point-{len(self.began)}")
        except asyncio.CancelledError:
            await asyncio.sleep(self.cleanup_s)
            raise
        finally:
            self.at_once -= 1

    def times_of(self, vm: str) -> list[float]:
        return [when for name, when in self.began if name == vm]


def job(name: str = "hourly", *, every: timedelta = HOUR, **more: Any) -> Job:
    schedule = more.pop("schedule", None) or Schedule(every=every, spread=False)
    return Job(name, schedule, target="/backups", **more)


class Play:
    """A scheduler that runs, with all that it deals with."""

    def __init__(self, loop: VirtualLoop, folder: Path, setup: Setup) -> None:
        self.loop = loop
        self.state = State(folder, clock=loop.now)
        self.told: list[Run] = []
        self.scheduler = Scheduler(self.state, setup, clock=loop.clock, on_run=self.told.append)
        self.task = asyncio.ensure_future(self.scheduler.run())

    async def sleep(self, **time: float) -> None:
        await asyncio.sleep(timedelta(**time).total_seconds())

    async def sleep_until(self, when: datetime) -> None:
        await asyncio.sleep((when - self.loop.now()).total_seconds())

    async def drain(self, limit_s: float = 0.0) -> None:
        self.scheduler.drain(limit_s)
        await self.task


@asynccontextmanager
async def acting(
    loop: VirtualLoop, folder: Path, *jobs: Job, inventory: Listed, runner: Any, limits: Limits | None = None
) -> AsyncIterator[Play]:
    setup = Setup(tuple(jobs), inventory, runner, limits or Limits())
    stage = Play(loop, folder, setup)
    await asyncio.sleep(0.05)  # the list is there, and everything was looked at
    try:
        yield stage
    finally:
        if not stage.task.done():
            await stage.drain()
        stage.task.result()
        stage.state.close()

"""The real service over a simulated cluster, in time that goes on when nothing runs, and what it says when something is
wrong."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ntxengine.agent import configured
from ntxengine.agent.clock import Clock
from ntxengine.agent.configured import Builder
from ntxengine.agent.records import Run, RunState
from ntxengine.agent.service import Service
from ntxengine.config.reading import load
from ntxengine.prism import Cluster, Endpoint
from ntxengine.prism.http.clock import Clock as PrismClock
from ntxengine.prism.open import open_cluster
from ntxengine.sim import Simulator, run_in_thread
from tests.agent.lab import NAMES, two_vms

LIMIT_S = 300.0
LOOK_S = 0.005
STEP_S = 10.0

FILE = """
nutanix: {{prism_central: "{url}", username: {username}, password_file: {password}, {trust}}}
backup: {{repository: {repository}, worker: {worker}, device_dir: {devices}, {backup}}}
performance: {{max_concurrent_vms: 2}}
agent: {{state: {state}, socket: {folder}/socket}}
jobs: [{{name: often, vms: [{vms}], {when}, {job}}}]
"""


class Said(logging.Handler):
    """What was said at WARNING and above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname}: {record.getMessage()}")

    def of(self, *words: str) -> list[str]:
        """Return the lines that have all of these words."""
        return [line for line in self.lines if all(word in line for word in words)]

    def taken(self) -> list[str]:
        """Return what was said since it was asked for last."""
        found, self.lines = self.lines, []
        return found

    @property
    def errors(self) -> list[str]:
        return [line for line in self.lines if line.startswith("ERROR")]


@contextmanager
def listening() -> Iterator[Said]:
    said, logger = Said(), logging.getLogger("ntxengine")
    logger.addHandler(said)
    try:
        yield said
    finally:
        logger.removeHandler(said)


class Time:
    """Goes as it does, and on by what it is told to.  `set_by` is what people set the clock of the machine by."""

    def __init__(self) -> None:
        self._began, self._at = time.monotonic(), datetime.now(UTC)
        self._more_s = 0.0
        self.set_by = timedelta(0)

    def go_on(self, seconds: float) -> None:
        self._more_s += seconds

    def monotonic(self) -> float:
        return time.monotonic() - self._began + self._more_s

    def now(self) -> datetime:
        return self._at + timedelta(seconds=self.monotonic()) + self.set_by


class _Clock(Clock):
    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        until = self.monotonic() + seconds
        while not event.is_set() and self.monotonic() < until:
            await asyncio.sleep(LOOK_S)


class Troubled:
    """A cluster that may be stopped and started anew, and the agent's file and folders."""

    def __init__(self, folder: Path, said: Said) -> None:
        self.folder, self.said, self.time = folder, said, Time()
        self.repository = folder / "repository"
        self.state = folder / "state"
        self.file = folder / "agent.yaml"
        self.config = two_vms(folder / "disks")
        self.password = folder / "password"
        self.trust = f"ca_file: {folder}/cluster/tls/ca.pem"
        self.backup, self.when, self.vms, self.worker = "parallel: 1", "every: 30m", '"*"', "ntx-worker"
        self.job = "retention: {keep_last: 2, max_waste: 0%}"
        self.sim: Simulator
        self.service: Service
        self.ended: list[Run] = []
        self.host, self.port = "127.0.0.1", 0

    @asynccontextmanager
    async def cluster(self, *, tells_password: bool = True) -> AsyncIterator[Simulator]:
        """Have a cluster until the block ends; the next one is the same cluster, at the same address."""
        running = run_in_thread(self.config, self.folder / "cluster", self.port)
        self.sim = await asyncio.to_thread(running.__enter__)
        try:
            self.port = self.sim.port
            if tells_password:
                self.write_password()
            yield self.sim
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)

    def write_password(self) -> None:
        self.password.write_text(self.sim.password)
        self.password.chmod(0o600)

    def write(self) -> None:
        values = {
            "url": f"https://{self.host}:{self.port}",
            "username": self.sim.username,
            "devices": self.sim.world.layout.devices,
            **{name: getattr(self, name) for name in ("password", "trust", "repository", "worker", "backup")},
            **{name: getattr(self, name) for name in ("folder", "state", "vms", "when", "job")},
        }
        self.file.write_text(FILE.format(**values))

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[Service]:
        """Serve, until the block ends."""
        self.write()
        clock = replace(_Clock(), now=self.time.now, monotonic=self.time.monotonic, chance=lambda: 0.5)
        builder = Builder(lambda: load(self.file).config)
        self.service = Service(self.state, builder, drain_s=0, clock=clock, on_run=self._tell)
        task = asyncio.ensure_future(self.service.run())
        try:
            await self.until(lambda: task.done() or hasattr(self.service, "scheduler"))
            if not task.done():
                yield self.service
        finally:
            if not task.done():
                self.service.stop()
            await task

    def _tell(self, run: Run) -> None:
        if run.ended_at is not None:
            self.ended.append(run)

    async def until(self, is_so: Callable[[], object]) -> None:
        """Let time pass until something is so: quickly while nothing runs, however slow this machine is."""
        end = time.monotonic() + LIMIT_S
        while not is_so():
            if time.monotonic() > end:
                pytest.fail("\n".join(["it never came to this:", *self.said.lines]))
            if hasattr(self.service, "scheduler") and not self.service.scheduler.running:
                self.time.go_on(STEP_S)
            await asyncio.sleep(2 * LOOK_S)

    async def pass_time(self, **amount: float) -> None:
        """Let so much time pass for the agent."""
        end = self.time.monotonic() + timedelta(**amount).total_seconds()
        await self.until(lambda: self.time.monotonic() >= end)

    async def captured(self, times: int = 1, *names: str) -> None:
        """Wait until each VM was captured so often from now on, and nothing runs."""
        before = len(self.ended)
        wanted = names or NAMES

        def is_so() -> bool:
            done = [run.vm_name for run in self.ended[before:] if run.state == RunState.SUCCEEDED]
            return all(done.count(name) >= times for name in wanted) and not self.service.scheduler.running

        await self.until(is_so)

    def runs(self, state: RunState) -> list[Run]:
        return [run for run in self.ended if run.state == state]


@contextmanager
def troubles(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Troubled] = Troubled) -> Iterator[Troubled]:
    """Make one, for a fixture."""

    async def connect(central: Endpoint | None, element: Endpoint | None, **more: Any) -> Cluster:
        clock = PrismClock(sleep=lambda seconds: asyncio.sleep(seconds / 50))
        return await open_cluster(central, element, clock=clock, **more)

    monkeypatch.setattr(configured.prism, "connect", connect)
    with listening() as said:
        yield kind(folder, said)

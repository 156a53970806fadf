"""What the agent watches beside its runs: looked at now and then, said once, and told to whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

from ntxengine.agent.clock import Clock
from ntxengine.agent.levels import Finding, Level
from ntxengine.agent.objectives import Ages, Aim, Objectives, aims, findings
from ntxengine.agent.records import Standing
from ntxengine.agent.replicas import Replicas
from ntxengine.agent.scheduler import Scheduler
from ntxengine.agent.space import INTERVAL_S as SPACE_INTERVAL_S
from ntxengine.agent.space import Asked, Space
from ntxengine.agent.state import State

INTERVAL_S = 30.0
FIRST_ASK_S = 120.0
"""After the start: the runs that are due go first."""
ANOMALY_LASTS = timedelta(days=1)
"""So long it is told that something was unlike before."""


class Watch:
    """Watches how the VMs of a scheduler stand."""

    def __init__(self, scheduler: Scheduler, state: State, clock: Clock) -> None:
        self._scheduler = scheduler
        self._state = state
        self._clock = clock
        self._objectives = Objectives()
        self._ages = Ages(clock.monotonic)
        self.space = Space()
        self.replicas = Replicas()

    async def keep_looking(self) -> None:
        """Look for ever."""
        while True:
            await self._clock.wait(asyncio.Event(), INTERVAL_S)
            self.look()

    async def keep_reading(self) -> None:
        """Read for ever how replicas are: apart, as a folder that does not answer must not keep the rest."""
        while True:
            await self._clock.wait(asyncio.Event(), INTERVAL_S)
            await self.replicas.look(self._scheduler.listing.vms)

    async def keep_asking(self, ask: Asked) -> None:
        """Ask for ever what our recovery points hold."""
        wait_s = FIRST_ASK_S
        while True:
            await self._clock.wait(asyncio.Event(), wait_s)
            await self.ask(ask)
            wait_s = SPACE_INTERVAL_S

    async def ask(self, ask: Asked) -> None:
        """Ask what our recovery points hold, and say what has changed."""
        scheduler = self._scheduler
        vms = {vm.id: vm for job in scheduler.jobs for vm in scheduler.listing.vms(job)}
        rates: dict[str, float] = {}
        for (_, vm_id), standing in self._state.standings.items():
            if standing.changes_per_s is not None:
                rates[vm_id] = max(rates.get(vm_id, 0.0), standing.changes_per_s)
        await self.space.look(ask, vms, rates, self._clock.now())

    def look(self) -> None:
        """Say what has changed since the last look."""
        self._objectives.look(self.aims())

    def aims(self) -> list[Aim]:
        """Return how VMs stand to the objectives of their jobs now."""
        scheduler, now = self._scheduler, self._clock.now()
        return aims(now, scheduler.setup.jobs, scheduler.listing.vms, self._state.standings, self._ages.age)

    def findings(self) -> list[Finding]:
        """Return what is wrong now: for `ntx status`."""
        return [*findings(self.aims()), *self.replicas.findings(), *self.space.findings(), *self._anomalies()]

    def _anomalies(self) -> Iterator[Finding]:
        """Return what was unlike before within ANOMALY_LASTS."""
        now, standings = self._clock.now(), self._state.standings
        for job in self._scheduler.jobs:
            for vm in self._scheduler.listing.vms(job):
                found = standings.get((job, vm.id), Standing())
                if found.anomaly is None or found.anomaly_at is None:
                    continue
                if abs(now - found.anomaly_at) > ANOMALY_LASTS:  # also of a clock that was ahead
                    continue
                text = f"job {job}, {found.anomaly_at:%Y-%m-%d %H:%M}Z, unlike before: {found.anomaly.text}"
                yield Finding(Level.WARNING, f"VM {vm.name}", text)

"""A capture as the calls that it makes, and a Prism that counts them: hours of hundreds of VMs pass in seconds.

What the calls are is taken from a real capture against the simulator (`calls_of`).  They go through the limiter and the
retry policy that real requests go through; this Prism refuses whatever is over its limits.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ntxengine.agent.jobs import JobVm, Outcome
from ntxengine.errors import PrismBusy
from ntxengine.events import OnEvent, Stage, StageBegan
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.limiter import Limiter, api_of
from ntxengine.prism.http.retry import RetryPolicy
from ntxengine.prism.tasks import FIRST_POLL_S, LONGEST_POLL_S
from ntxengine.sim import Simulator
from tests.agent.virtual import VirtualLoop

TASK = "GET /api/prism/v4.0/config/tasks/{}"
LATENCY_S = 0.15

RECORDED = {"GET /api/vmm/v4.1/ahv/config/vms": 2}
TENS = ("/ahv/config/vms/{}", "/clusters", "/clusters/{}", "/hosts", "/storage-containers")
"""nutanix-api.md, fact 7: 2 a second for the list of VMs, 10 for one VM, clusters, hosts and storage containers."""

STRICTEST = 1
"""Of all that no recording tells, the least that was ever seen: 1 a second."""

IN_ALL = 30


def limit_of(api: str) -> int:
    """Return how often an API may be called in a second."""
    return RECORDED.get(api) or (10 if api.startswith("GET ") and api.endswith(TENS) else STRICTEST)


def calls_of(sim: Simulator, before: int) -> list[str]:
    """Return the APIs that were called since there were `before` requests, in order."""
    return [api_of(each.method, each.path) for each in list(sim.requests)[before:]]


class CountingPrism:
    """Answers with the headers of its limits, or 429."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._seen: defaultdict[str, list[float]] = defaultdict(list)
        self.refused = 0
        self.calls: Counter[str] = Counter()

    def answer(self, api: str) -> tuple[int, Mapping[str, str]]:
        now, limit = self._loop.time(), limit_of(api)
        in_all, of_this = self._count("", now), self._count(api, now)
        self.calls[api] += 1
        headers = {
            "x-ratelimit-limit": str(IN_ALL),
            "x-ratelimit-remaining": str(max(0, IN_ALL - in_all)),
            "x-api-ratelimit-limit": str(limit),
            "x-api-ratelimit-remaining": str(max(0, limit - of_this)),
            "x-api-ratelimit-refresh-period-seconds": "1",
        }
        is_over = in_all > IN_ALL or of_this > limit
        self.refused += is_over
        return 429 if is_over else 200, headers

    def _count(self, name: str, now: float) -> int:
        """Count the requests of the last second, this one too: whenever the second begins, no more may be in one."""
        seen = self._seen[name] = [each for each in self._seen[name] if each > now - 1]
        seen.append(now)
        return len(seen)


@dataclass
class Replaying:
    """A runner that makes the calls of a capture, waits for its tasks, and copies for a while."""

    loop: VirtualLoop
    prism: CountingPrism
    calls: Sequence[str]
    task_s: float
    copy_s: float

    def __post_init__(self) -> None:
        clock = Clock(now=self.loop.time, sleep=asyncio.sleep, chance=lambda: 0.5)
        self._limiter = Limiter(clock)
        self._policy = RetryPolicy()
        self.longest_s = 0.0
        self.failed = 0

    async def run(self, job: str, vm: JobVm, on_event: OnEvent) -> Outcome:
        began, frozen_at = self.loop.time(), self.loop.now()
        for number, api in enumerate(self.calls):
            if api != TASK:
                if "$actions/compute" in api:
                    on_event(StageBegan(stage=Stage.COPY, vm_id=vm.id))
                    await asyncio.sleep(self.copy_s)
                await self.call(api)
            elif self.calls[number - 1] != TASK:
                await self._wait_for_task()
        self.longest_s = max(self.longest_s, self.loop.time() - began)
        return Outcome(point_id=f"p-{vm.id}", point_at=frozen_at)

    async def _wait_for_task(self) -> None:
        done_at, wait_s = self.loop.time() + self.task_s, FIRST_POLL_S
        while True:
            await self.call(TASK)
            if self.loop.time() >= done_at:
                return
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 1.5, LONGEST_POLL_S)

    async def call(self, api: str) -> None:
        for retry in range(self._policy.retries + 1):
            async with self._limiter.turn(api):
                await asyncio.sleep(LATENCY_S)
                status, headers = self.prism.answer(api)
                self._limiter.learn(api, status, headers)
            if status == 200:
                return
            wait_s = self._policy.wait_s(retry, headers, 0.5)
            self._limiter.hold(api, wait_s)
            await asyncio.sleep(wait_s)
        self.failed += 1
        raise PrismBusy(f"{api}: refused")

"""Hundreds of VMs within the rate limits that were recorded of Prism: no storm of 429, and no VM comes too late."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter, defaultdict
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from ntxengine.agent.clock import Clock
from ntxengine.agent.queue import Limits
from ntxengine.agent.records import RunState
from ntxengine.agent.watch import Watch
from ntxengine.schedule.due import Schedule
from ntxengine.sim import Simulator
from tests.agent.acting import Listed, acting, job
from tests.agent.lab import agent, write
from tests.agent.rates import TASK, CountingPrism, Replaying, calls_of
from tests.agent.virtual import VirtualLoop, in_virtual_time

DOCS = Path(__file__).parent.parent.parent / "docs" / "agent.md"


def documented() -> dict[str, int]:
    """Return the calls of an incremental capture, by API, as docs/agent.md tells them."""
    rows = re.findall(r"^\| `((?:GET|POST|DELETE) [^`]+)` \| (\d+) \|", DOCS.read_text(), re.MULTILINE)
    return {api: int(count) for api, count in rows}


@pytest.fixture
def calls(simulator: Simulator, tmp_path: Path) -> list[str]:
    """The calls of an incremental capture of one disk by hot-add, in order."""

    async def capture_twice() -> list[str]:
        async with agent(simulator, tmp_path, clock=Clock()) as running:
            await running.capture("db01")
            write(simulator, 0, 0, os.urandom(65536))
            before = len(simulator.requests)
            await running.capture("db01")
            return calls_of(simulator, before)

    return asyncio.run(capture_twice())


def test_the_calls_of_a_capture_are_those_that_the_docs_tell(calls: list[str]) -> None:
    made, told = Counter(calls), documented()
    asked, least = made.pop(TASK), told.pop(TASK)  # more often on a machine that is busy

    assert made == told
    assert asked >= least
    assert f"makes {made.total() + least} calls" in DOCS.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("vms", "minutes", "at_once", "objective"),
    [pytest.param(500, 60, 24, 75, id="500-hourly"), pytest.param(100, 15, 16, 20, id="100-each-quarter")],
)
def test_every_vm_is_captured_in_every_cycle_its_objective_kept_and_nothing_refused(
    vms: int, minutes: int, at_once: int, objective: int, calls: list[str], tmp_path: Path
) -> None:
    cycle, cycles = timedelta(minutes=minutes), 3

    async def main(loop: VirtualLoop) -> None:
        prism = CountingPrism(loop)
        runner = Replaying(loop, prism, calls, task_s=4, copy_s=60)
        all_vms = Listed(cycle=[f"vm{number:03d}" for number in range(vms)])
        schedule = Schedule(every=cycle, jitter=timedelta(seconds=30))
        async with acting(
            loop,
            tmp_path / "virtual",
            job("cycle", schedule=schedule, objective=timedelta(minutes=objective)),
            inventory=all_vms,
            runner=runner,
            limits=Limits(total=at_once),
        ) as play:
            watch = Watch(play.scheduler, play.state, loop.clock)
            looks = []
            for _ in range(cycles * minutes):
                await play.sleep(minutes=1)
                looks.append(watch.aims())
            runs = play.state.runs(limit=10 * vms)

        began = defaultdict(list)
        for run in reversed(runs):
            began[run.vm_id].append(run.started_at)
        gaps = [later - earlier for times in began.values() for earlier, later in pairwise(times)]
        assert {len(aims) for aims in looks} == {vms}
        assert [str(aim) for aims in looks for aim in aims if not aim.is_kept] == []
        assert all(aim.has_point for aim in looks[-1])
        per_vm = sum(prism.calls.values()) / len(runs)
        assert prism.refused == 0, prism.calls
        assert {run.state for run in runs} <= {RunState.SUCCEEDED, RunState.RUNNING}
        assert len(began) == vms
        assert {len(times) for times in began.values()} <= {cycles - 1, cycles}
        assert max(gaps) < cycle + timedelta(minutes=2)
        assert runner.longest_s < 300
        assert per_vm < 2.5 * len(calls), prism.calls

    in_virtual_time(main)


@pytest.mark.slow
def test_all_500_at_once_after_an_outage_are_refused_nothing_either(calls: list[str], tmp_path: Path) -> None:
    """The agent was away for a day: everything is late, and begins as fast as the limits allow."""

    async def main(loop: VirtualLoop) -> None:
        prism = CountingPrism(loop)
        runner = Replaying(loop, prism, calls, task_s=4, copy_s=60)
        hourly = job(schedule=Schedule(every=timedelta(hours=1)))
        inventory = Listed(hourly=[f"vm{number:03d}" for number in range(500)])
        async with acting(loop, tmp_path / "virtual", hourly, inventory=inventory, runner=runner) as play:
            await play.sleep(seconds=1)
        loop.wall += timedelta(days=1)
        async with acting(
            loop, tmp_path / "virtual", hourly, inventory=inventory, runner=runner, limits=Limits(total=32)
        ) as play:
            await play.sleep(hours=1)
            late = {run.vm_id for run in play.state.runs(limit=2000) if run.state == RunState.SUCCEEDED}
        assert prism.refused == 0
        assert runner.failed == 0
        assert len(late) == 500

    in_virtual_time(main)

"""One run among others: what it is told of, what comes after its point, what it holds for others and until when."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ntxengine.agent.jobs import JobVm, Outcome, Setup
from ntxengine.agent.records import Run, RunState
from ntxengine.agent.retries import RepositoryUnusable
from ntxengine.agent.scheduler import Scheduler
from ntxengine.agent.state import State
from ntxengine.errors import TargetError
from ntxengine.events import OnEvent, Stage, StageBegan
from tests.agent.acting import HOUR, MINUTE, Acting, Listed, acting, job
from tests.agent.virtual import VirtualLoop, in_virtual_time


@pytest.mark.parametrize("ends", ["late", "badly"])
def test_what_goes_wrong_after_the_point_was_made_captures_nothing_twice(tmp_path: Path, ends: str) -> None:
    class Prunes(Acting):
        async def run(self, job: str, vm: JobVm, on_event: OnEvent) -> Outcome:
            await super().run(job, vm, on_event)
            await asyncio.sleep(600 if ends == "late" else 1)
            raise OSError(5, "Input/output error")

    async def main(loop: VirtualLoop) -> None:
        runner = Prunes()
        hourly = job(timeout=5 * MINUTE)
        async with acting(loop, tmp_path, hourly, inventory=Listed(hourly=["a"]), runner=runner) as play:
            await play.sleep(hours=1, minutes=50)
            (run,) = play.state.runs()
            standing = play.state.standing(run.key)
        assert (run.state, run.point_id, run.exit_code) == (RunState.SUCCEEDED, "point-1", 0)
        assert ("time limit" if ends == "late" else "Input/output error") in run.problems[0]
        assert (standing.failures, standing.succeeded_at) == (0, run.ended_at)

    in_virtual_time(main)


@pytest.mark.parametrize(("error", "together"), [(RepositoryUnusable("not mounted"), 3), (TargetError("full"), 1)])
def test_a_repository_that_is_back_is_used_before_all_of_a_large_vm_is_there(
    tmp_path: Path, error: Exception, together: int
) -> None:
    class Copies(Acting):
        async def run(self, job: str, vm: JobVm, on_event: OnEvent) -> Outcome:
            if not self.errors.get(vm.name):
                on_event(StageBegan(stage=Stage.COPY, vm_id=vm.id))
            return await super().run(job, vm, on_event)

    async def main(loop: VirtualLoop) -> None:
        runner = Copies(takes_s=10 * 3600, errors={name: [error] for name in "abc"})
        async with acting(
            loop, tmp_path, job(every=24 * HOUR), inventory=Listed(hourly=["a", "b", "c"]), runner=runner
        ) as play:
            for name in "abc":
                play.scheduler.ask(name)
            await play.sleep(minutes=20)
            running = len(play.scheduler.running)
        assert running == together

    in_virtual_time(main)


def test_who_tells_of_runs_does_no_harm_to_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main(loop: VirtualLoop) -> None:
        def tell(run: Run) -> None:
            raise ValueError("cannot be told")

        setup = Setup((job(),), Listed(hourly=["a"]), Acting())
        state = State(tmp_path, clock=loop.now)
        scheduler = Scheduler(state, setup, clock=loop.clock, on_run=tell)
        serving = asyncio.ensure_future(scheduler.run())
        await asyncio.sleep(2.5 * 3600)
        scheduler.drain(0)
        await serving
        assert {run.state for run in state.runs()} == {RunState.SUCCEEDED}
        assert len(state.runs()) == 2

    in_virtual_time(main)
    assert "what is told of runs: ValueError: cannot be told" in caplog.text

"""The loop of the agent, in virtual time: what begins when, what an error leads to, how it stops and goes on."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from ntxengine.agent.jobs import JobVm, Outcome, Setup
from ntxengine.agent.queue import Limits, Needs
from ntxengine.agent.records import RunState, Trigger
from ntxengine.agent.retries import Retries
from ntxengine.errors import (
    CredentialsError,
    NotFoundError,
    OptionsError,
    PrismConnectionError,
    PrismTimeout,
    RepositoryError,
    TargetError,
    ToolError,
)
from ntxengine.events import OnEvent
from ntxengine.schedule.due import Schedule
from ntxengine.schedule.window import parse_window
from tests.agent.acting import HOUR, MINUTE, Acting, Listed, acting, job
from tests.agent.virtual import START, VirtualLoop, in_virtual_time


def test_each_vm_is_run_when_it_is_due_and_the_history_tells_it(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner = Acting()
        async with acting(loop, tmp_path, job(), inventory=Listed(hourly=["a", "b"]), runner=runner) as play:
            await play.sleep(hours=3, minutes=10)

            runs = play.state.runs()
        assert Counter(name for name, _ in runner.began) == {"a": 3, "b": 3}
        assert {run.state for run in runs} == {RunState.SUCCEEDED}
        assert {run.seconds for run in runs} == {60.0}
        assert runs[0].due_at == START + 3 * HOUR
        assert runs[0].started_at - START - 3 * HOUR < timedelta(seconds=1)
        assert [run.stage for run in runs] == ["freeze"] * 6
        assert runs[0].point_id

    in_virtual_time(main)


def test_limits_hold_and_why_a_run_waits_is_told(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        vms = [JobVm(f"id-{n}", f"vm{n}", Needs(host=f"h{n % 2}")) for n in range(12)]
        runner = Acting()
        async with acting(
            loop, tmp_path, job(), inventory=Listed(hourly=vms), runner=runner, limits=Limits(total=5, per_host=2)
        ) as play:
            await play.sleep(hours=1, seconds=30)
            reasons = {each.reason for each in play.scheduler.waiting}
            await play.sleep(minutes=30)
        assert runner.most_at_once == 4
        assert len(runner.began) == 12
        assert reasons == {"host 'h0' has 2 of 2 runs at a time", "host 'h1' has 2 of 2 runs at a time"}

    in_virtual_time(main)


def test_a_vm_of_two_jobs_is_never_in_two_runs(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        jobs = job("hourly"), job("daily", every=2 * HOUR)
        runner = Acting(takes_s=600)
        async with acting(loop, tmp_path, *jobs, inventory=Listed(hourly=["a"], daily=["a"]), runner=runner) as play:
            await play.sleep_until(START + 2 * HOUR + 5 * MINUTE)
            (waiting,) = play.scheduler.waiting
            await play.sleep(minutes=30)
        assert runner.most_at_once == 1
        assert "is in a run of job" in waiting.reason
        assert len(runner.began) == 3

    in_virtual_time(main)


def test_a_run_that_failed_is_tried_again_with_growing_waits_and_then_when_it_is_due(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner = Acting(errors={"a": [ToolError("qemu-nbd: exited")] * 5})
        retries = Retries(attempts=3, first=2 * MINUTE)
        async with acting(loop, tmp_path, job(retries=retries), inventory=Listed(hourly=["a"]), runner=runner) as play:
            await play.sleep(hours=1, minutes=30)
            first = runner.times_of("a")
            failed = play.state.runs()
            await play.sleep(hours=1)
            runs = play.state.runs()
        assert [round(later - earlier) for earlier, later in itertools.pairwise(first)] == [151, 301]
        assert [run.attempt for run in reversed(failed)] == [1, 2, 3]
        assert [run.trigger for run in reversed(failed)] == [Trigger.SCHEDULE, Trigger.RETRY, Trigger.RETRY]
        assert [run.state for run in reversed(runs)] == [RunState.FAILED] * 5 + [RunState.SUCCEEDED]
        assert play.state.standing(("hourly", "id-a")).failures == 0

    in_virtual_time(main)


@pytest.mark.parametrize("error", [NotFoundError("no VM"), RepositoryError("damaged"), OptionsError("wrong")])
def test_what_will_fail_again_is_not_tried_before_it_is_due(tmp_path: Path, error: Exception) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner = Acting(always=error)
        async with acting(loop, tmp_path, job(), inventory=Listed(hourly=["a"]), runner=runner) as play:
            await play.sleep(hours=3, minutes=30)
        assert len(runner.began) == 3

    in_virtual_time(main)


def test_a_refused_account_is_not_hammered_by_500_vms(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner = Acting(always=CredentialsError("Prism pc: user or password refused"))
        inventory = Listed(hourly=[f"vm{n}" for n in range(500)])
        async with acting(loop, tmp_path, job(), inventory=inventory, runner=runner, limits=Limits(total=8)) as play:
            await play.sleep(hours=2)
            refused = len(runner.began)
            reasons = {each.reason.partition(" for ")[0] for each in play.scheduler.waiting}
            runner.always = None
            await play.sleep(hours=3)
            captured = {run.vm_id for run in play.state.runs(state=RunState.SUCCEEDED, limit=2000)}
        assert refused <= 8 + 3
        assert reasons == {"Prism is not used"}
        assert len(captured) == 500
        said = [each for each in caplog.records if each.levelno >= logging.ERROR]
        assert [each.getMessage() for each in said] == [
            "Prism: held, and tried now and then until it is over: Prism pc: user or password refused"
        ]
        assert "Prism: is used again" in caplog.text

    in_virtual_time(main)


def test_an_hour_without_prism_costs_no_attempt_and_all_are_run_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner = Acting(always=PrismConnectionError("no route"))
        inventory = Listed(hourly=[f"vm{n}" for n in range(50)])
        async with acting(loop, tmp_path, job(), inventory=inventory, runner=runner) as play:
            await play.sleep_until(START + HOUR + 30 * MINUTE)
            inventory.error = runner.always
            await play.sleep_until(START + 2 * HOUR - MINUTE)
            tries = len(runner.began)
            runner.always = inventory.error = None
            await play.sleep(minutes=50)
            runs = play.state.runs(state=RunState.SUCCEEDED)
        assert tries <= 4 + 60 / 5 + 6
        assert {run.vm_name for run in runs} == {f"vm{n}" for n in range(50)}
        assert {run.attempt for run in runs} == {1}
        assert len([each for each in caplog.records if each.levelno >= logging.ERROR]) <= 2

    in_virtual_time(main)


def test_a_prism_element_that_is_down_holds_the_vms_of_its_cluster_alone(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        class Down(Acting):
            async def run(self, job: str, vm: JobVm, on_event: OnEvent) -> Outcome:
                if vm.needs.cluster == "north":
                    self.began.append((vm.name, loop.time()))
                    error = PrismConnectionError("Prism 10.0.0.5: no connection")
                    error.is_of_element = True
                    raise error
                return await super().run(job, vm, on_event)

        runner = Down()
        north = [JobVm(f"id-n{n}", f"n{n}", Needs(cluster="north")) for n in range(10)]
        south = [JobVm(f"id-s{n}", f"s{n}", Needs(cluster="south")) for n in range(10)]
        inventory = Listed(hourly=[*north, *south])
        async with acting(loop, tmp_path, job(), inventory=inventory, runner=runner, limits=Limits(total=4)) as play:
            await play.sleep(hours=1, minutes=50)
            captured = {run.vm_name for run in play.state.runs(state=RunState.SUCCEEDED)}
            held = list(play.scheduler.holds.all)
        assert captured == {vm.name for vm in south}
        assert held == ["cluster north"]
        assert len([name for name, _ in runner.began if name.startswith("n")]) < 4 + 60 / 5 + 6

    in_virtual_time(main)


def test_one_silent_answer_holds_nobody_and_three_in_a_row_do(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        errors = {"a": [PrismTimeout("no answer")], "b": [PrismTimeout("no answer")]}
        runner = Acting(errors=errors)
        inventory = Listed(hourly=["a", "b", "c", "d", "e", "f"])
        async with acting(loop, tmp_path, job(), inventory=inventory, runner=runner, limits=Limits(total=2)) as play:
            await play.sleep(hours=1, seconds=5)
            assert not play.scheduler.holds.all
            errors["c"] = [PrismTimeout("no answer")] * 2
            await play.sleep(seconds=70)
            errors["d"] = errors["e"] = [PrismTimeout("no answer")]
            await play.sleep(minutes=40)
        assert {name for name, _ in runner.began} == set("abcdef")

    in_virtual_time(main)


def test_a_full_repository_holds_the_runs_into_it_alone(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        class Full(Acting):
            async def run(self, job, vm, on_event):  # type: ignore[no-untyped-def]
                if job == "hourly":
                    self.began.append((vm.name, loop.time()))
                    raise TargetError("/backups: no space left")
                return await super().run(job, vm, on_event)

        runner = Full()
        jobs = [job(), job("other")]
        jobs[1] = type(jobs[1])("other", jobs[1].schedule, target="/elsewhere")
        inventory = Listed(hourly=[f"vm{n}" for n in range(20)], other=["x", "y"])
        async with acting(loop, tmp_path, *jobs, inventory=inventory, runner=runner) as play:
            await play.sleep(hours=1, minutes=59)
            reasons = [each.reason for each in play.scheduler.waiting]
        assert len([name for name, _ in runner.began if name.startswith("vm")]) < 4 + 12
        assert len(runner.times_of("x")) == 1
        assert any(reason.startswith("repository /backups is not used for") for reason in reasons)

    in_virtual_time(main)


def test_a_run_that_takes_too_long_is_stopped_and_tried_again(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner = Acting(takes_s=7200)
        async with acting(
            loop, tmp_path, job(timeout=10 * MINUTE), inventory=Listed(hourly=["a"]), runner=runner
        ) as play:
            await play.sleep(hours=1, minutes=11)
            (run,) = play.state.runs(state=RunState.FAILED)
            await play.sleep(minutes=5)
        assert run.error == "stopped after 0:10:00, the time limit of job 'hourly'"
        assert run.exit_code == 75
        assert len(runner.began) == 2

    in_virtual_time(main)


def test_draining_starts_nothing_and_what_is_not_done_in_time_is_gone_on_with(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner = Acting(takes_s=300, cleanup_s=5)
        inventory = Listed(hourly=["a", "b"])
        short = Limits(total=1)
        async with acting(loop, tmp_path, job(), inventory=inventory, runner=runner, limits=short) as play:
            await play.sleep_until(START + HOUR + MINUTE)
            began = loop.time()
            await play.drain(120)
            assert loop.time() - began == pytest.approx(125, abs=1)
            (run,) = play.state.runs()
        assert run.state == RunState.INTERRUPTED
        assert len(runner.began) == 1

        async with acting(loop, tmp_path, job(), inventory=inventory, runner=runner) as play:
            await play.sleep(minutes=6)
            runs = play.state.runs()
        assert {run.vm_name: run.trigger for run in runs[:2]} == {"a": Trigger.RESUME, "b": Trigger.SCHEDULE}
        assert {run.attempt for run in runs} == {1}

    in_virtual_time(main)


def test_what_is_paused_waits_also_over_a_restart(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner = Acting()
        inventory = Listed(hourly=["a", "b"])
        async with acting(loop, tmp_path, job(), inventory=inventory, runner=runner) as play:
            play.scheduler.pause("vm id-a")
            with pytest.raises(OptionsError, match="the VM is paused since"):
                play.scheduler.ask("a")
            with pytest.raises(NotFoundError):
                play.scheduler.pause("job nightly")
            await play.sleep(hours=1, minutes=5)
        async with acting(loop, tmp_path, job(), inventory=inventory, runner=runner) as play:
            await play.sleep(minutes=5)
            (waiting,) = play.scheduler.waiting
            play.scheduler.resume("vm id-a")
            await play.sleep(minutes=5)
        assert waiting.reason == "the VM is paused since 2026-11-30 12:00Z"
        assert [name for name, _ in runner.began] == ["b", "a"]

    in_virtual_time(main)


def test_what_a_person_asks_for_begins_at_once_and_survives_a_kill(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner = Acting()
        windows = (parse_window("01:00-02:00"),)
        nightly = job("nightly", schedule=Schedule(cron="0 1 * * *", windows=windows))
        inventory = Listed(nightly=["a"])
        async with acting(loop, tmp_path, nightly, inventory=inventory, runner=runner) as play:
            play.scheduler.ask("id-a")
            play.task.cancel()  # before it could begin
            await asyncio.wait([play.task])
            assert not runner.began
            play.task = asyncio.ensure_future(asyncio.sleep(0))
        async with acting(loop, tmp_path, nightly, inventory=inventory, runner=runner) as play:
            await play.sleep(minutes=2)
            (run,) = play.state.runs()
            with pytest.raises(NotFoundError, match="no job has a VM 'x'"):
                play.scheduler.ask("x")
        assert run.trigger == Trigger.PERSON
        assert run.state == RunState.SUCCEEDED

    in_virtual_time(main)


def test_a_reload_brings_new_jobs_and_disturbs_nothing_that_runs(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner, other = Acting(takes_s=600), Acting()
        async with acting(loop, tmp_path, job(), inventory=Listed(hourly=["a"]), runner=runner) as play:
            await play.sleep(hours=1, minutes=1)
            play.scheduler.apply(Setup((job("often", every=5 * MINUTE),), Listed(often=["b"]), other))
            await play.sleep(minutes=13)
            runs = play.state.runs()
        assert len(other.began) == 2
        assert [run.state for run in runs if run.job == "hourly"] == [RunState.SUCCEEDED]

    in_virtual_time(main)


def test_the_clock_may_be_set_back_a_day_and_forward_a_week(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner = Acting()
        async with acting(loop, tmp_path, job(), inventory=Listed(hourly=["a"]), runner=runner) as play:
            await play.sleep(hours=2, minutes=30)
            loop.wall -= timedelta(days=1)
            await play.sleep(hours=3)
            after_back = len(runner.began)
            loop.wall += timedelta(days=7)
            await play.sleep(minutes=10)
            after_forward = len(runner.began)
            await play.sleep(hours=2)
        assert (after_back, after_forward, len(runner.began)) == (5, 6, 8)
        assert "the clock was set back by 86400 s" in caplog.text
        assert "the clock was set forward by 604800 s" in caplog.text

    in_virtual_time(main)


def test_a_clock_that_was_set_back_while_no_agent_ran_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner = Acting()
        async with acting(loop, tmp_path, job(), inventory=Listed(hourly=["a"]), runner=runner) as play:
            await play.sleep(hours=1, minutes=30)
        loop.wall -= timedelta(days=365)
        async with acting(loop, tmp_path, job(), inventory=Listed(hourly=["a"]), runner=runner) as play:
            await play.sleep(hours=2)
        assert len(runner.began) == 3
        assert caplog.text.count("it is wrong now, or was then") == 1
        loop.wall += timedelta(days=365)
        async with acting(loop, tmp_path, job(), inventory=Listed(hourly=["a"]), runner=runner) as play:
            await play.sleep(minutes=1)
        assert caplog.text.count("it is wrong now, or was then") == 1

    in_virtual_time(main)


def test_the_vms_are_listed_a_few_times_an_hour_whatever_happens(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner = Acting(always=NotFoundError("no VM"))
        inventory = Listed(often=[f"vm{n}" for n in range(30)])
        often = job("often", every=5 * MINUTE)
        async with acting(loop, tmp_path, often, inventory=inventory, runner=runner) as play:
            await play.sleep(hours=1)
            hectic = inventory.calls
            runner.always = None
            await play.sleep(hours=1)
        assert hectic <= 30
        assert inventory.calls - hectic <= 8

    in_virtual_time(main)


def test_an_idle_agent_wakes_twice_a_minute_at_most(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        daily = job("daily", every=24 * HOUR)
        async with acting(loop, tmp_path, daily, inventory=Listed(daily=["a"]), runner=Acting()) as play:
            await play.sleep(minutes=5)
            steps = 0
            step = play.scheduler._step

            def counted() -> None:
                nonlocal steps
                steps += 1
                step()

            play.scheduler._step = counted  # type: ignore[method-assign]
            await play.sleep(hours=1)
        assert steps <= 140

    in_virtual_time(main)

"""When hooks and pings are called, and what they can do to a run.  (What a hook is: test_hooks.py.)"""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from ntxengine.agent import telling
from ntxengine.agent.hooks import HookFailed, Hooks
from ntxengine.agent.pings import Pinger, Pings
from ntxengine.agent.records import Run, RunState
from ntxengine.agent.retries import Retries
from ntxengine.agent.telling import Telling
from ntxengine.errors import NbdError, OptionsError
from ntxengine.prism import Secret
from tests.agent.acting import Acting, Listed, acting, job
from tests.agent.virtual import START, VirtualLoop, in_virtual_time

HOOKS = Hooks(("begin",), ("good",), ("bad",))


class Programs:
    """Takes the place of programs: the events that are told, with the run as it was then."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Run]] = []
        self.fails: set[str] = set()
        self.takes_s = 0.0

    async def run(self, event: str, argv: tuple[str, ...], run: Run, timeout_s: float) -> None:
        self.told.append((event, run))
        await asyncio.sleep(self.takes_s)
        if event in self.fails:
            raise HookFailed(f"hook {event} ({argv[0]}): ended with exit code 1")

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.told]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    found = Programs()
    monkeypatch.setattr(telling, "run_hook", found.run)
    return found


def test_a_run_that_succeeds_is_told_at_its_begin_and_its_end(tmp_path: Path, programs: Programs) -> None:
    async def main(loop: VirtualLoop) -> None:
        async with acting(loop, tmp_path, job(hooks=HOOKS), inventory=Listed(hourly=["a"]), runner=Acting()) as play:
            await play.sleep(hours=1, minutes=5)

            assert programs.events == ["start", "success"]
            assert [run.state for _, run in programs.told] == [RunState.RUNNING, RunState.SUCCEEDED]
            assert programs.told[1][1].ended_at is not None
            assert [run.state for run in play.told if run.ended_at is not None] == [RunState.SUCCEEDED]

    in_virtual_time(main)


def test_a_start_hook_that_fails_keeps_the_run_from_beginning_and_it_is_tried_again(
    tmp_path: Path, programs: Programs
) -> None:
    programs.fails.add("start")

    async def main(loop: VirtualLoop) -> None:
        runner = Acting()
        jobs = job(hooks=HOOKS, retries=Retries(attempts=2))
        async with acting(loop, tmp_path, jobs, inventory=Listed(hourly=["a"]), runner=runner) as play:
            await play.sleep(hours=1, minutes=10)

            assert runner.began == []
            assert programs.events == ["start", "start", "failure"]
            (last, first) = play.state.runs()
            assert (first.state, first.error_class) == (RunState.FAILED, "HookFailed")
            assert first.error == "hook start (begin): ended with exit code 1"
            assert last.attempt == 2

    in_virtual_time(main)


def test_a_failure_is_told_when_it_is_not_tried_again(tmp_path: Path, programs: Programs) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner = Acting(errors={"a": [NbdError("lost"), NbdError("lost")], "b": [OptionsError("wrong")]})
        vms = Listed(hourly=["a", "b"])
        jobs = job(hooks=HOOKS, retries=Retries(attempts=2))
        async with acting(loop, tmp_path, jobs, inventory=vms, runner=runner) as play:
            await play.sleep(hours=1, minutes=30)

            failures = [(run.vm_name, run.attempt, run.error) for event, run in programs.told if event == "failure"]
            assert sorted(failures) == [("a", 2, "lost"), ("b", 1, "wrong")]
            assert "success" not in programs.events

    in_virtual_time(main)


def test_a_hook_that_fails_after_a_run_is_a_problem_of_the_run_and_not_its_failure(
    tmp_path: Path, programs: Programs, caplog: pytest.LogCaptureFixture
) -> None:
    programs.fails.add("success")

    async def main(loop: VirtualLoop) -> None:
        async with acting(loop, tmp_path, job(hooks=HOOKS), inventory=Listed(hourly=["a"]), runner=Acting()) as play:
            await play.sleep(hours=1, minutes=5)

            (run,) = play.state.runs()
            assert (run.state, run.problems) == (RunState.SUCCEEDED, ("hook success (good): ended with exit code 1",))
            assert play.told[-1] == run
            assert play.state.standing(run.key).failures == 0

    in_virtual_time(main)
    assert caplog.text.count("ended with exit code 1") == 1


def test_whatever_goes_wrong_with_telling_the_run_has_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(telling, "run_hook", run)

    async def main(loop: VirtualLoop) -> None:
        jobs = job(hooks=Hooks(success=("good",)))
        async with acting(loop, tmp_path, jobs, inventory=Listed(hourly=["a"]), runner=Acting()) as play:
            await play.sleep(hours=2, minutes=5)

            found = play.state.runs()
            assert [(each.state, each.problems) for each in found] == [
                (RunState.SUCCEEDED, ("[Errno 24] Too many open files",))
            ] * 2
            assert play.scheduler.running == []

    in_virtual_time(main)


def test_what_the_agent_stops_is_not_told_and_its_hook_is_stopped_with_it(tmp_path: Path, programs: Programs) -> None:
    programs.takes_s = 1000

    async def main(loop: VirtualLoop) -> None:
        async with acting(loop, tmp_path, job(hooks=HOOKS), inventory=Listed(hourly=["a"]), runner=Acting()) as play:
            await play.sleep(hours=1, minutes=1)
            assert [run.stage for run in play.scheduler.running] == ["hook"]
            await play.drain(10)

            (run,) = play.state.runs()
            assert (run.state, programs.events) == (RunState.INTERRUPTED, ["start"])

    in_virtual_time(main)


def test_a_run_that_has_ended_is_written_down_before_its_hook_and_the_vm_waits_for_it(
    tmp_path: Path, programs: Programs
) -> None:
    programs.takes_s = 1200

    async def main(loop: VirtualLoop) -> None:
        jobs = job(hooks=Hooks(success=("good",)))
        async with acting(loop, tmp_path, jobs, inventory=Listed(hourly=["a"]), runner=Acting()) as play:
            await play.sleep(hours=1, minutes=5)
            assert [run.state for run in play.state.runs()] == [RunState.SUCCEEDED]
            play.scheduler.ask("a")
            await play.sleep(minutes=5)
            assert len(play.state.runs()) == 1
            await play.drain(10)

            (run,) = play.state.runs()
            assert run.problems == ("the agent was stopped, and its hook with it",)

    in_virtual_time(main)


class Pinged(Pinger):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, str, str]] = []

    def ping(self, job: str, event: str, url: Secret) -> None:
        self.told.append((job, event, url.reveal()))


@pytest.mark.parametrize(
    ("state", "is_final", "events"),
    [
        (RunState.SUCCEEDED, True, ["start", "success"]),
        (RunState.FAILED, True, ["start", "failure"]),
        (RunState.FAILED, False, ["start"]),
        (RunState.INTERRUPTED, False, ["start"]),
    ],
)
async def test_pings_are_told_the_same_as_hooks(state: RunState, is_final: bool, events: list[str]) -> None:
    urls = Pings(*(Secret(f"https://hc/{event}") for event in ("start", "success", "failure")))
    pinger, work = Pinged(), job(pings=urls)
    run = Run("r", "hourly", "id-a", "a", START)

    await Telling(pinger).begins(work, run, lambda: None)
    await Telling(pinger).ended(work, dataclasses.replace(run, state=state), is_final=is_final)

    assert pinger.told == [("hourly", event, f"https://hc/{event}") for event in events]

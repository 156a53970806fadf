"""An agent captures two VMs of a simulated cluster: in full, what changed, and after failures by itself."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from ntxengine.agent.records import RunState, Trigger
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.repository.store import PointStore
from ntxengine.sim import Simulator
from tests.agent.lab import NAMES, agent, write
from tests.capture.lab import MIB


async def test_both_are_captured_in_full_then_what_changed_and_old_points_are_given_back(
    simulator: Simulator, tmp_path: Path
) -> None:
    async with agent(simulator, tmp_path) as running:
        full = await running.capture(*NAMES)
        rounds = []
        for number in range(2):
            for vm in range(len(NAMES)):
                write(simulator, vm, number * MIB, os.urandom(65536))
            rounds.append(await running.capture(*NAMES))

    assert {run.vm_name for run in full} == set(NAMES)
    assert {run.state for run in [*full, *rounds[0], *rounds[1]]} == {RunState.SUCCEEDED}
    for run in full:
        assert run.figures is not None
        assert run.figures.kind == "full"
        assert run.figures.bytes_tracked == 0
        assert run.kept is not None
        assert (run.kept.forgotten, run.kept.removed) == (0, 0)
    for run in rounds[1]:
        assert run.figures is not None
        assert (run.figures.kind, run.figures.bytes_sent) == ("incremental", 65536)
        assert run.figures.reduction_percent > 95
        assert (run.figures.bytes_tracked, run.figures.bytes_tracked_changed) == (8 * MIB, 65536)
        assert run.anomalies == ()
        assert run.kept is not None
        assert run.kept.forgotten == 1
        assert run.stages_s.keys() >= {"freeze", "commit"}
        assert run.trigger == Trigger.PERSON
    points = PointStore.open(tmp_path / "repository").points()
    assert {run.point_id for run in rounds[1]} <= {point.id for point in points}
    assert len(points) == 4


async def test_a_repository_that_is_not_mounted_is_never_made_anew_and_is_used_when_it_is_back(
    simulator: Simulator, tmp_path: Path
) -> None:
    async with agent(simulator, tmp_path) as running:
        await running.capture("db01")
        running.repository.rename(tmp_path / "elsewhere")
        running.repository.mkdir()  # the mount point

        (failed,) = await running.capture("db01")
        held = dict(running.scheduler.holds.all)
        left = list(running.repository.iterdir())
        running.repository.rmdir()
        (tmp_path / "elsewhere").rename(running.repository)
        await running.until(lambda: len(running.ended) == 3)
        again = running.ended[-1]

    assert (failed.state, failed.error_class) == (RunState.FAILED, "RepositoryUnusable")
    assert "is its file system mounted?" in failed.error
    assert list(held) == [f"repository {running.repository}"]
    assert left == []
    assert (again.state, again.trigger, again.attempt) == (RunState.SUCCEEDED, Trigger.RETRY, 1)


async def test_a_run_waits_for_a_vm_that_somebody_else_works_on(simulator: Simulator, tmp_path: Path) -> None:
    async with agent(simulator, tmp_path) as running:
        await running.capture("db01")
        store = PointStore.open(running.repository)
        with store.lock(simulator.vm_id("db01")):
            before = len(simulator.requests)
            running.scheduler.ask("db01")
            await running.until(lambda: running.scheduler.running and len(simulator.requests) > before)
            await asyncio.sleep(0.1)
            assert running.scheduler.running
        await running.until(lambda: len(running.ended) == 2)

    assert running.ended[-1].state == RunState.SUCCEEDED


async def test_a_password_that_was_changed_is_asked_for_once_in_a_while_and_recovers_by_itself(
    simulator: Simulator, tmp_path: Path
) -> None:
    async with agent(simulator, tmp_path) as running:
        await running.capture("db01")
        await running.connection.aclose()  # the session is over
        running.password = "old"
        before = len(simulator.requests)

        runs = await running.capture(*NAMES)
        refused = [one.status for one in list(simulator.requests)[before:]].count(401)
        running.password = simulator.password
        await running.until(lambda: len([run for run in running.ended if run.state == RunState.SUCCEEDED]) == 3)

    assert {run.error_class for run in runs} == {"CredentialsError"}
    assert {run.exit_code for run in runs} == {12}
    assert refused <= 2


async def test_a_run_that_is_stopped_while_it_copies_is_gone_on_with(simulator: Simulator, tmp_path: Path) -> None:
    async with agent(simulator, tmp_path) as running:
        await running.capture("db01")
    write(simulator, 0, 0, os.urandom(6 * MIB))

    async with agent(simulator, tmp_path, copy=CopyOptions(bandwidth=MIB)) as running:
        await running.until(lambda: running.scheduler.listing.is_known)
        running.scheduler.ask("db01")
        await running.until(lambda: [run for run in running.scheduler.running if run.stage == "copy"])
    stopped = running.ended[-1]
    async with agent(simulator, tmp_path) as running:
        await running.until(lambda: running.ended)

    assert stopped.state == RunState.INTERRUPTED
    assert running.ended[-1].trigger == Trigger.RESUME
    assert running.ended[-1].state == RunState.SUCCEEDED

"""Replicas as jobs of the agent: what they become, and what goes wrong with VMs and targets."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ntxengine.agent.records import Run, RunState
from ntxengine.replicate.state import Replica, ReplicaState
from ntxengine.replicate.status import replicas_in
from ntxengine.repository import Repository
from ntxengine.sim import Simulator
from tests.agent.lab import NAMES, write
from tests.agent.troubles import Troubled, troubles
from tests.capture.lab import MIB


class Replicated(Troubled):
    """A job that keeps replicas, in raw files."""

    @property
    def target(self) -> Path:
        return self.folder / "replicas"

    async def replicas(self) -> dict[str, Replica]:
        """Return the whole generations, by the name of the VM."""
        every = await replicas_in(await Repository.open(self.target / ".ntx-replicas"))
        return {each.vm_name: each.replica for each in every if each.replica is not None}

    async def assert_equal(self, *names: str) -> None:
        """Compare replicas with the disks of the guests, which are at rest, by cmp."""
        found = await self.replicas()
        disks = dict(zip(NAMES, (vm.disks[0].path for vm in self.config.vms), strict=False))
        for name in names:
            file = self.target / found[name].name / found[name].disks[0].files[0].name
            subprocess.run(["cmp", file, disks[name]], check=True)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replicated]:
    with troubles(tmp_path, monkeypatch, Replicated) as found:
        assert isinstance(found, Replicated)
        found.target.mkdir()
        (found.target / "README").write_text("replicas\n")
        found.when = "every: 10m"
        found.job = f"objective: 2h, replicate: {{to: 'kvm:{found.target}'}}"
        yield found


def guests_write(sim: Simulator) -> None:
    for vm in range(len(NAMES)):
        write(sim, vm, MIB, os.urandom(65536))


def changed(lab: Troubled) -> list[Run]:
    """Return the runs that wrote what guests_write() does."""
    return [run for run in lab.runs(RunState.SUCCEEDED) if run.figures is not None and run.figures.bytes_sent == 65536]


def last_of(lab: Troubled, name: str) -> Run:
    return [run for run in lab.ended if run.vm_name == name][-1]


async def test_vms_are_replicated_by_the_schedule_and_runs_tell_the_generation(lab: Replicated) -> None:
    async with lab.cluster() as sim, lab.agent() as service:
        await lab.captured()
        first = {name: last_of(lab, name) for name in NAMES}
        guests_write(sim)
        await lab.until(lambda: {run.vm_name for run in changed(lab)} == set(NAMES))
        service.scheduler.pause("all")
        await lab.until(lambda: not service.scheduler.running)
        await service.watch.replicas.look(service.scheduler.listing.vms)
        metrics = service.metrics.text().decode()
        aims = service.watch.aims()

        await lab.assert_equal(*NAMES)
        generations = {name: replica.generation for name, replica in (await lab.replicas()).items()}
        said = lab.said.taken()

    for run in first.values():
        assert (run.kind, run.generation, run.point_id, run.is_committed) == ("replicate", 1, "", True)
        assert run.figures is not None
        assert (run.figures.kind, run.figures.bytes_size) == ("full", 8 * MIB)
    for run in changed(lab):
        assert run.made == str(run.generation)
        assert run.stages_s.keys() >= {"freeze", "copy", "commit"}
        assert run.figures is not None
        assert run.figures.kind == "incremental"
    assert {name: last_of(lab, name).generation for name in NAMES} == generations
    assert 'ntx_agent_replica_generation{job="often",vm_id=' in metrics
    assert "ntx_agent_replica_lag_seconds{" in metrics
    assert all(line.endswith(" 0.0") for line in metrics.splitlines() if line.startswith("ntx_agent_replica_between"))
    assert all(aim.is_kept and aim.makes == "generation" for aim in aims)
    assert said == []


async def test_a_target_that_is_away_is_said_once_nothing_is_written_and_it_goes_on(lab: Replicated) -> None:
    away = lab.folder / "away"
    async with lab.cluster() as sim, lab.agent():
        await lab.captured()
        lab.target.rename(away)
        await lab.pass_time(minutes=14)
        lab.target.mkdir()  # the mount point
        await lab.pass_time(minutes=14)
        during, written = lab.said.taken(), list(lab.target.iterdir())
        lab.target.rmdir()
        away.rename(lab.target)
        guests_write(sim)
        await lab.captured()
        after = lab.said.taken()

        await lab.assert_equal(*NAMES)

    errors = [line for line in during if line.startswith("ERROR")]
    assert errors[0].startswith(f"ERROR: target kvm:{lab.target}: held")
    assert "is no folder: make it, or mount what is to be there" in errors[0]
    assert len(errors) == 1, during
    assert written == []
    assert [line for line in after if "is used again" in line]
    assert {run.generation for run in lab.runs(RunState.SUCCEEDED)} >= {1, 2}


async def test_a_target_that_is_full_is_said_once_and_written_when_there_is_room(
    lab: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab.cluster() as sim, lab.agent():
        await lab.captured()
        guests_write(sim)
        with monkeypatch.context() as full:
            full.setattr("ntxengine.replicate.targets.folder.free_bytes", lambda folder: 0)
            await lab.pass_time(minutes=14)
        during = lab.said.taken()
        await lab.captured()
        after = lab.said.taken()

        await lab.assert_equal(*NAMES)

    errors = [line for line in during if line.startswith("ERROR")]
    assert len(errors) == 1, during
    assert errors[0].startswith(f"ERROR: target kvm:{lab.target}: held")
    assert "free some space, or use another file system" in errors[0]
    assert [line for line in after if "is used again" in line]


async def test_a_vm_that_was_cut_over_is_written_no_more_and_told_in_one_line(lab: Replicated) -> None:
    async with lab.cluster(), lab.agent() as service:
        await lab.captured()
        service.scheduler.pause("all")
        await lab.until(lambda: not service.scheduler.running)
        replica = (await lab.replicas())["db01"]
        state = ReplicaState(lab.target / ".ntx-replicas" / replica.vm_id, replica.id)
        state.write_replica(replace(replica, cut_over_at=replica.committed_at))
        lab.said.taken()
        service.scheduler.resume("all")
        await lab.until(lambda: [run for run in lab.runs(RunState.FAILED) if run.vm_name == "db01"])
        await lab.captured(1, "web01")
        said = lab.said.taken()
        after = (await lab.replicas())["db01"]

    (failed, *_) = lab.runs(RunState.FAILED)
    assert failed.error.startswith(f"replica {replica.id} of VM 'db01' was cut over to at ")
    assert failed.error.endswith("; or take the VM out of the job")
    assert len([line for line in said if line.startswith("ERROR")]) == 1, said
    assert after.generation == replica.generation


async def test_vms_that_are_renamed_moved_and_deleted_keep_what_their_replicas_have(lab: Replicated) -> None:
    async with lab.cluster() as sim, lab.agent() as service:
        await lab.captured()
        before = await lab.replicas()
        moved = sim.vm_id("web01")
        _, second, *others = lab.config.vms
        second.name, second.id = "web02", moved
        lab.config.vms[:] = [second, *others]
        sim.world.vms = {vm.id: vm for vm in sim.world._make_vms()}
        await lab.captured(2, "web02")
        await service.watch.replicas.look(service.scheduler.listing.vms)
        watched = {each.vm.name for each in service.watch.replicas.found}
        after = await lab.replicas()

    assert after["web02"].id == before["web01"].id
    assert (after["web02"].name, after["web02"].vm_id) == (before["web01"].name, moved)
    assert after["web02"].generation > before["web01"].generation
    assert after["db01"].generation >= before["db01"].generation
    assert watched == {"web02"}
    assert {run.vm_name for run in lab.runs(RunState.FAILED)} <= {"db01"}

"""v4 through the simulator: hot-add to a worker VM."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from ntxengine.errors import (
    NotFoundError,
    PrismAnswerError,
    PrismBusy,
    PrismError,
    TaskFailed,
)
from ntxengine.prism.models import DiskPoint
from ntxengine.prism.v4.api import CentralApi
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.faults import ETAG_RULES, AnswerFault, HttpFault
from tests.prism.conftest import Connect, central
from tests.prism.steps import ABSENT, freeze, subject, until


async def test_a_disk_is_hot_added_and_removed(sim: Simulator, connect: Connect) -> None:
    worker = sim.worker_id or ""
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))
        added = [await prism.attach_disk(worker, disk) for disk in point.disks]
        listed = await prism.attached_disks(worker)
        devices = sorted(os.listdir(sim.world.layout.devices))
        for disk in added:
            await prism.detach_disk(disk)
            await prism.detach_disk(disk)

    assert sorted(listed, key=lambda one: one.id) == sorted(added, key=lambda one: one.id)
    assert [one.source for one in added] == [disk.id for disk in point.disks]
    assert len(devices) == 2
    for disk in added:
        assert [name for name in devices if name.endswith(disk.vmdisk_id.replace("-", "_"))]
    assert sim.world.state.clones == {}


async def test_a_hot_added_disk_that_does_not_say_its_type_is_known(sim: Simulator, connect: Connect) -> None:
    worker = sim.worker_id or ""
    untyped = AnswerFault("/disks$", kind="drop", field="data.*.backingInfo.dataSource.reference.$objectType", count=-1)
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))
        sim.faults.answers.append(untyped)
        added = await prism.attach_disk(worker, point.disks[0])

        assert await prism.attached_disks(worker) == [added]


async def test_disks_hot_added_at_once_are_told_apart(sim: Simulator, connect: Connect) -> None:
    worker = sim.worker_id or ""
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))

        added = await asyncio.gather(*(prism.attach_disk(worker, disk) for disk in point.disks * 2))

    assert len({one.id for one in added}) == 4
    assert [one.source for one in added] == [disk.id for disk in point.disks * 2]


async def test_an_attach_that_fails_after_the_work_leaves_nothing(sim: Simulator, connect: Connect) -> None:
    sim.faults.fail_tasks["attach"] = 1
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))

        with pytest.raises(TaskFailed):
            await prism.attach_disk(sim.worker_id or "", point.disks[0])

    assert sim.world.state.clones == {}


@pytest.mark.parametrize(("method", "part"), [("POST", "/disks$"), ("GET", "/tasks/")])
async def test_a_cancelled_attach_leaves_nothing(sim: Simulator, connect: Connect, method: str, part: str) -> None:
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))
        sim.faults.http.append(HttpFault(path=part, method=method, delay_s=0.3))
        running = asyncio.create_task(prism.attach_disk(sim.worker_id or "", point.disks[0]))
        await until(lambda: sim.faults.http[0].count == 0)

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    assert sim.world.state.clones == {}


async def test_a_worker_that_is_not_there_is_not_found(sim: Simulator, connect: Connect) -> None:
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))

        with pytest.raises(NotFoundError):
            await prism.attach_disk(ABSENT, point.disks[0])
        with pytest.raises(NotFoundError):
            await prism.attached_disks(ABSENT)


async def test_a_recovery_point_that_is_gone_is_not_hot_added(sim: Simulator, connect: Connect) -> None:
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))
        sim.lose_recovery_points()

        with pytest.raises((PrismError, NotFoundError)):
            await prism.attach_disk(sim.worker_id or "", point.disks[0])

    assert sim.world.state.clones == {}


async def test_an_etag_under_its_other_name_is_found(sim: Simulator, config: SimConfig, connect: Connect) -> None:
    config.etag_header = "X-Ntnx-Etag"
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))
        added = await prism.attach_disk(sim.worker_id or "", point.disks[0])

        await prism.detach_disk(added)

    assert sim.world.state.clones == {}


def hide_sources(sim: Simulator) -> None:
    sim.faults.answers.append(AnswerFault("/disks$", kind="drop", field="data.*.backingInfo.dataSource", count=-1))


@pytest.mark.parametrize("has_sources", [True, False])
@pytest.mark.parametrize("has_tasks", [True, False])
async def test_a_disk_that_somebody_else_adds_meanwhile_is_never_taken_for_ours(
    sim: Simulator, connect: Connect, monkeypatch: pytest.MonkeyPatch, has_sources: bool, has_tasks: bool
) -> None:
    worker = sim.worker_id or ""
    has_looked, may_ask = asyncio.Event(), asyncio.Event()
    create = CentralApi.create_vm_disk

    async def held(api: CentralApi, worker_id: str, disk: DiskPoint) -> str:
        if not has_looked.is_set():
            has_looked.set()
            await may_ask.wait()
        return await create(api, worker_id, disk)

    monkeypatch.setattr(CentralApi, "create_vm_disk", held)
    async with connect("v4") as prism, connect("v4") as somebody_else:
        ours, theirs = [await freeze(prism, await subject(prism)) for _ in range(2)]
        if not has_sources:
            hide_sources(sim)
        sim.faults.tasks = "" if has_tasks else "wordless"
        attaching = asyncio.create_task(prism.attach_disk(worker, ours.disks[0]))
        await has_looked.wait()
        foreign = await somebody_else.attach_disk(worker, theirs.disks[0])
        may_ask.set()

        if has_sources or has_tasks:
            added = await attaching
            assert added.is_told
            assert sim.world.state.clones[added.vmdisk_id].disk_point == ours.disks[0].id
            sim.faults.answers.clear()
            await prism.detach_disk(added)
        else:
            with pytest.raises(PrismAnswerError, match=r"which one is not clear; none is removed.*by hand in Prism"):
                await attaching

    assert foreign.vmdisk_id in sim.world.state.clones
    assert len(sim.world.state.clones) == (1 if has_sources or has_tasks else 2)


async def test_a_disk_that_nobody_tells_of_is_taken_once_no_other_comes(sim: Simulator, connect: Connect) -> None:
    worker = sim.worker_id or ""
    hide_sources(sim)
    sim.faults.tasks = "wordless"
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))

        added = await prism.attach_disk(worker, point.disks[0])

    assert not added.is_told
    assert sim.world.state.clones[added.vmdisk_id].disk_point == point.disks[0].id


async def test_a_stale_etag_is_read_again(sim: Simulator, connect: Connect) -> None:
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))
        added = await prism.attach_disk(sim.worker_id or "", point.disks[0])
        sim.faults.http.append(HttpFault(path="/disks/", method="DELETE", status=412, count=2))

        await prism.detach_disk(added)

    assert sim.world.state.clones == {}


@pytest.mark.parametrize("rule", sorted(ETAG_RULES))
async def test_a_disk_is_removed_under_each_rule_of_etags(sim: Simulator, connect: Connect, rule: str) -> None:
    sim.faults.etags = rule
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))
        added = await prism.attach_disk(sim.worker_id or "", point.disks[0])

        if rule == "withheld":
            with pytest.raises(
                PrismAnswerError,
                match=r"Prism wants an ETag and tells none.* by hand in Prism: .*PLAT-10005",
            ):
                await prism.detach_disk(added)
        else:
            await prism.detach_disk(added)

    assert len(sim.world.state.clones) == (rule == "withheld")


async def test_an_etag_that_is_always_stale_is_an_error_to_try_again_later(sim: Simulator, connect: Connect) -> None:
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))
        added = await prism.attach_disk(sim.worker_id or "", point.disks[0])
        sim.faults.http.append(HttpFault(path="/disks/", method="DELETE", status=412, count=-1))

        with pytest.raises(PrismBusy, match=r"tried 5 times; try again later: .*HTTP 412"):
            await prism.detach_disk(added)

    assert len([one for one in sim.requests if one.method == "DELETE" and one.status == 412]) == 5


async def test_hot_add_on_vmm_4_0_says_what_is_needed(config: SimConfig, tmp_path: Path) -> None:
    config.revisions["vmm"] = "v4.0"
    async with Simulator(config, tmp_path / "old") as sim, central(sim) as prism:
        point = await freeze(prism, await subject(prism))

        with pytest.raises(PrismError, match=r"it needs v4\.1"):
            await prism.attach_disk(sim.worker_id or "", point.disks[0])

"""v4 through the simulator: VMs and the whole life of a recovery point, also when it goes wrong half-way."""

from __future__ import annotations

import asyncio
from datetime import UTC
from pathlib import Path

import pytest

from ntxengine.errors import (
    NotFoundError,
    OptionsError,
    PrismAnswerError,
    PrismBusy,
    PrismStatusError,
    PrismTimeout,
    TaskFailed,
)
from ntxengine.prism.models import Vm
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.config import VmConfig
from ntxengine.sim.faults import HttpFault
from ntxengine.units import MIB
from tests.prism.conftest import VM_NAME, Connect, central
from tests.prism.steps import ABSENT, EXPIRES, freeze, points, rows, subject, until


def paths(sim: Simulator, part: str) -> list[str]:
    return [one.path for one in sim.requests if part in one.path]


# -- VMs


async def test_vms_come_sorted_with_data_disks_only(sim: Simulator, connect: Connect) -> None:
    async with connect("v4") as prism:
        vms = await prism.vms()
        alone = await prism.vm(vms[0].id)

    vm = vms[0]
    assert [one.name for one in vms] == [VM_NAME, "ntx-worker", "other"]
    assert [disk.label for disk in vm.disks] == ["scsi.0", "scsi.1"]
    assert [disk.size for disk in vm.disks] == [MIB, MIB]
    assert vm.excluded == ("ide.0 (CD-ROM)",)
    assert [group.label for group in vm.groups] == ["scsi.200"]
    assert (vm.power_state, vm.cluster_id) == ("on", sim.world.cluster_id)
    assert vm.host_id in {host.id for host in sim.world.cluster.hosts}
    assert vm.guest_tools.can_quiesce
    assert (vm.config, alone.config["extId"]) == ({}, vm.id)
    assert alone.config["memorySizeBytes"] == 4 * 1024 * MIB


async def test_a_list_of_many_pages_is_whole_and_has_no_doubles(tmp_path: Path, config: SimConfig) -> None:
    config.vms += [VmConfig(f"vm{number:03}") for number in range(250)]
    async with Simulator(config, tmp_path / "many") as sim:
        async with central(sim) as prism:
            names = [vm.name for vm in await prism.vms()]

    assert len(names) == len(set(names)) == 253


async def test_one_vm_is_the_one_of_the_list(sim: Simulator, connect: Connect) -> None:
    async with connect("v4") as prism:
        vm = await subject(prism)

        assert await prism.vm(vm.id) == vm


@pytest.mark.parametrize("vm_id", [ABSENT, "../../clusters", "db01"])
async def test_a_vm_that_is_not_there_is_not_found(sim: Simulator, connect: Connect, vm_id: str) -> None:
    async with connect("v4") as prism:
        with pytest.raises(NotFoundError):
            await prism.vm(vm_id)

    assert ".." not in "".join(one.path for one in sim.requests)


# -- recovery points


async def test_a_recovery_point_holds_the_data_disks_in_their_order(sim: Simulator, connect: Connect) -> None:
    async with connect("v4") as prism:
        vm = await subject(prism)
        point = await freeze(prism, vm)
        again = await prism.recovery_point(point.id, vm)

    assert [disk.disk_id for disk in point.disks] == [disk.id for disk in vm.disks]
    assert all(disk.path is None and disk.recovery_point_id == point.id for disk in point.disks)
    assert (point.name, point.vm_id, point.consistency, point.expires_at) == ("ntx-1", vm.id, "crash", EXPIRES)
    assert point.created_at is not None
    assert point.created_at.tzinfo is UTC
    assert again == point


async def test_disks_missing_from_the_top_level_answer_are_fetched(
    sim: Simulator, config: SimConfig, connect: Connect
) -> None:
    config.disks_in_recovery_point = False
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))

    assert len(point.disks) == 2


@pytest.mark.parametrize(("downgraded", "obtained"), [(False, "application"), (True, "crash")])
async def test_consistency_is_what_prism_made_of_it(
    sim: Simulator, connect: Connect, downgraded: bool, obtained: str
) -> None:
    sim.faults.downgrade_consistency = downgraded
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism), "application")

    assert point.consistency == obtained


async def test_recovery_points_are_listed_and_deleted(sim: Simulator, connect: Connect) -> None:
    async with connect("v4") as prism:
        vm = await subject(prism)
        made = [await freeze(prism, vm, name=f"it's {number}") for number in range(3)]
        listed = await prism.recovery_points()
        for point in made:
            await prism.delete_recovery_point(point.id)
            await prism.delete_recovery_point(point.id)
        left = await prism.recovery_points()

    assert {point.id for point in listed} == {point.id for point in made}
    assert {point.vm_id for point in listed} == {vm.id}
    assert left == []


async def test_a_recovery_point_that_is_gone_is_not_found(sim: Simulator, connect: Connect) -> None:
    async with connect("v4") as prism:
        vm = await subject(prism)
        point = await freeze(prism, vm)
        sim.lose_recovery_points()

        with pytest.raises(NotFoundError, match=point.id):
            await prism.recovery_point(point.id, vm)
        with pytest.raises(NotFoundError):
            await rows(prism, point)


async def test_a_recovery_point_of_another_vm_is_not_found(sim: Simulator, connect: Connect) -> None:
    async with connect("v4") as prism:
        vm = await subject(prism)
        point = await freeze(prism, await prism.vm(sim.vm_id("other")))

        with pytest.raises(NotFoundError, match="does not hold VM"):
            await prism.recovery_point(point.id, vm)


@pytest.mark.parametrize("name", ["", "x" * 257])
async def test_a_name_that_v4_cannot_take_is_refused(sim: Simulator, connect: Connect, name: str) -> None:
    async with connect("v4") as prism:
        with pytest.raises(OptionsError):
            await freeze(prism, await subject(prism), name=name)

    assert points(sim) == 0


# -- nothing is left behind


async def test_a_task_that_fails_after_the_work_leaves_nothing(sim: Simulator, connect: Connect) -> None:
    sim.faults.fail_tasks["create"] = 1
    async with connect("v4") as prism:
        with pytest.raises(TaskFailed, match="FAILED: DP-10000 Simulated failure after the work was done"):
            await freeze(prism, await subject(prism))

    assert points(sim) == 0


async def test_a_task_that_never_ends_leaves_nothing(sim: Simulator, connect: Connect) -> None:
    sim.faults.stuck_tasks["create"] = 1
    async with connect("v4") as prism:
        with pytest.raises(PrismTimeout, match="not finished after 600 s"):
            await freeze(prism, await subject(prism))

    assert points(sim) == 0


async def test_a_recovery_point_without_one_of_the_disks_is_refused_and_removed(
    sim: Simulator, connect: Connect
) -> None:
    async with connect("v4") as prism:
        vm = await subject(prism)
        other = await prism.vm(sim.vm_id("other"))
        wrong = Vm(vm.id, vm.name, vm.power_state, vm.cluster_id, vm.host_id, (*vm.disks, *other.disks))

        with pytest.raises(PrismAnswerError, match=r"does not hold scsi\.0"):
            await freeze(prism, wrong)

    assert points(sim) == 0


async def test_an_answer_that_is_lost_leaves_nothing(sim: Simulator, connect: Connect) -> None:
    sim.faults.http.append(HttpFault(path=r"/vm-recovery-points/", status=409))
    async with connect("v4") as prism:
        with pytest.raises(PrismStatusError):
            await freeze(prism, await subject(prism))

    assert points(sim) == 0


async def test_a_refused_create_asks_nothing_more(sim: Simulator, connect: Connect) -> None:
    sim.faults.http.append(HttpFault(path=r"/config/recovery-points$", method="POST", status=409))
    async with connect("v4") as prism:
        vm = await subject(prism)
        before = len(sim.requests)

        with pytest.raises(PrismStatusError):
            await freeze(prism, vm)

    assert len(sim.requests) == before + 1


async def test_a_busy_create_is_asked_again_and_made_once(sim: Simulator, connect: Connect) -> None:
    sim.faults.http.append(HttpFault(path=r"/config/recovery-points$", method="POST", status=503, count=3))
    async with connect("v4") as prism:
        await freeze(prism, await subject(prism))

    assert points(sim) == 1


async def test_a_delete_whose_task_fails_after_the_work_is_done(sim: Simulator, connect: Connect) -> None:
    sim.faults.fail_tasks["delete"] = 1
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))

        await prism.delete_recovery_point(point.id)

    assert points(sim) == 0


@pytest.mark.parametrize("where", ["POST /recovery-points", "GET /tasks", "GET /recovery-points", "GET /vm-recovery"])
async def test_a_cancelled_create_leaves_nothing(sim: Simulator, connect: Connect, where: str) -> None:
    method, part = where.split(" ")
    part = part + "$" if where.startswith("POST") else part
    sim.faults.http.append(HttpFault(path=part, method=method, delay_s=0.3))
    async with connect("v4") as prism:
        vm = await subject(prism)
        running = asyncio.create_task(freeze(prism, vm))
        await until(lambda: sim.faults.http[0].count == 0)

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    assert points(sim) == 0
    assert paths(sim, "/config/recovery-points")


# -- sessions


async def test_the_password_is_sent_once_per_session(sim: Simulator, connect: Connect) -> None:
    async with connect("v4") as prism:
        for _ in range(3):
            await prism.vms()

    assert not [one for one in sim.requests if one.status == 401]


async def test_rate_limits_are_kept_before_prism_refuses(config: SimConfig, tmp_path: Path) -> None:
    config.limits.enforce_rates = True
    config.limits.api_rates["list_vms"] = 1
    async with Simulator(config, tmp_path / "slow") as sim, central(sim, real_time=True) as prism:
        await asyncio.gather(*(prism.vms() for _ in range(2)))

    assert not [one for one in sim.requests if one.status == 429]


async def test_a_prism_that_stays_busy_is_left(sim: Simulator, connect: Connect) -> None:
    async with connect("v4") as prism:
        sim.faults.http.append(HttpFault(path="/vms", status=503, count=-1))

        with pytest.raises(PrismBusy):
            await prism.vms()

"""v3 and v2 through the simulator: snapshots, disk identity, and what happens when it goes wrong half-way."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from pathlib import Path

import pytest

from ntxengine.errors import (
    NotFoundError,
    OptionsError,
    PrismAnswerError,
    PrismError,
    PrismStatusError,
    PrismTimeout,
    TaskFailed,
)
from ntxengine.prism.models import DiskPoint, Vm
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.faults import HttpFault
from ntxengine.units import KIB
from tests.prism.conftest import VM_NAME, Connect
from tests.prism.steps import ABSENT, EXPIRES, freeze, points, rows, subject, until, write

# -- VMs


async def test_a_disk_has_its_device_id_and_its_file(sim: Simulator, connect: Connect) -> None:
    async with connect("v3") as prism:
        vms = await prism.vms()
        alone = await prism.vm(vms[0].id)

    vm = vms[0]
    files = [file for file in sim.world.vms[vm.id].files if file.kind == "disk"]
    assert [one.name for one in vms] == [VM_NAME, "ntx-worker", "other"]
    assert [(disk.id, disk.vmdisk_id) for disk in alone.disks] == [(file.device, file.vmdisk) for file in files]
    assert [disk.label for disk in vm.disks] == ["scsi.0", "scsi.1"]
    assert {disk.container_name for disk in vm.disks} == {"default"}
    assert [text.partition(":")[0] for text in vm.excluded] == ["ide.0 (CD-ROM)", "scsi.200 (volume group"]
    assert vm.guest_tools.can_quiesce
    assert [disk.vmdisk_id for disk in vm.disks] == [None, None]
    assert dataclasses.replace(alone, disks=()) == dataclasses.replace(vm, disks=())
    assert alone.config["metadata"]["uuid"] == vm.id


async def test_a_list_of_many_pages_is_whole_and_has_no_doubles(
    sim: Simulator, config: SimConfig, connect: Connect
) -> None:
    config.limits.v3_page = 2
    async with connect("v3") as prism:
        names = [vm.name for vm in await prism.vms()]

    assert names == [VM_NAME, "ntx-worker", "other"]


@pytest.mark.parametrize("vm_id", [ABSENT, "../../clusters", "db01"])
async def test_a_vm_that_is_not_there_is_not_found(sim: Simulator, connect: Connect, vm_id: str) -> None:
    async with connect("v3") as prism:
        with pytest.raises(NotFoundError):
            await prism.vm(vm_id)

    assert ".." not in "".join(one.path for one in sim.requests)


async def test_a_vm_of_another_hypervisor_is_refused(config: SimConfig, sim: Simulator, connect: Connect) -> None:
    config.vms[0].hypervisor = "ESX"
    async with connect("v3") as prism:
        with pytest.raises(PrismError, match="runs on ESX"):
            await freeze(prism, await subject(prism))

    assert points(sim) == 0


# -- snapshots


async def test_a_snapshot_holds_the_data_disks_by_the_paths_that_prism_gave(sim: Simulator, connect: Connect) -> None:
    async with connect("v3") as prism:
        vm = await subject(prism)
        point = await freeze(prism, vm)
        again = await prism.recovery_point(point.id, vm)
        listed = await prism.recovery_points()

    assert [disk.disk_id for disk in point.disks] == [disk.id for disk in vm.disks]
    for disk, live in zip(point.disks, vm.disks, strict=True):
        assert disk.path == disk.id
        assert disk.path.startswith("/default/.snapshot/")
        assert disk.path.endswith(str(live.vmdisk_id))
        assert sim.frozen_path(disk.path).read_bytes()[:1] == bytes([live.index + 1])
    assert (point.name, point.vm_id, point.consistency, point.expires_at) == ("ntx-1", vm.id, "crash", EXPIRES)
    assert again == point
    assert [(one.id, one.name, one.vm_id, one.disks) for one in listed] == [(point.id, "ntx-1", vm.id, ())]


@pytest.mark.parametrize(("downgraded", "obtained"), [(False, "application"), (True, "crash")])
async def test_consistency_is_what_prism_made_of_it(
    sim: Simulator, connect: Connect, downgraded: bool, obtained: str
) -> None:
    sim.faults.downgrade_consistency = downgraded
    async with connect("v3") as prism:
        point = await freeze(prism, await subject(prism), "application")

    assert point.consistency == obtained


async def test_deleting_waits_and_may_be_done_twice(sim: Simulator, connect: Connect) -> None:
    async with connect("v3") as prism:
        point = await freeze(prism, await subject(prism))
        await prism.delete_recovery_point(point.id)
        left = points(sim)
        await prism.delete_recovery_point(point.id)

    assert left == 0


async def test_a_snapshot_that_is_gone_is_not_found(sim: Simulator, connect: Connect) -> None:
    async with connect("v3") as prism:
        vm = await subject(prism)
        older, newer = await freeze(prism, vm), await freeze(prism, vm)
        await prism.delete_recovery_point(older.id)

        with pytest.raises(NotFoundError, match=older.id):
            await prism.recovery_point(older.id, vm)
        with pytest.raises(NotFoundError, match="or its reference"):
            await rows(prism, newer, older)


async def test_a_snapshot_of_another_vm_is_not_found(sim: Simulator, connect: Connect) -> None:
    async with connect("v3") as prism:
        vm = await subject(prism)
        point = await freeze(prism, await prism.vm(sim.vm_id("other")))

        with pytest.raises(NotFoundError, match="is not of VM"):
            await prism.recovery_point(point.id, vm)


@pytest.mark.parametrize("name", ["", "x" * 65])
async def test_a_name_that_v3_cannot_take_is_refused(sim: Simulator, connect: Connect, name: str) -> None:
    async with connect("v3") as prism:
        with pytest.raises(OptionsError):
            await freeze(prism, await subject(prism), name=name)

    assert points(sim) == 0


async def test_two_snapshots_of_one_name_are_two(sim: Simulator, connect: Connect) -> None:
    async with connect("v3") as prism:
        vm = await subject(prism)
        made = [await freeze(prism, vm), await freeze(prism, vm)]

    assert made[0].id != made[1].id
    assert points(sim) == 2


async def test_without_idempotence_identifiers_it_works_as_well(sim: Simulator, connect: Connect) -> None:
    sim.faults.http.append(HttpFault(path="idempotence", status=404))
    async with connect("v3") as prism:
        point = await freeze(prism, await subject(prism))

    assert len(point.disks) == 2


# -- nothing is left behind


async def test_a_snapshot_that_fails_after_the_work_leaves_nothing(sim: Simulator, connect: Connect) -> None:
    sim.faults.fail_tasks["create"] = 1
    async with connect("v3") as prism:
        with pytest.raises(TaskFailed, match="ERROR: Simulated failure after the work was done"):
            await freeze(prism, await subject(prism))

    assert points(sim) == 0


async def test_a_snapshot_that_never_ends_leaves_nothing(sim: Simulator, connect: Connect) -> None:
    sim.faults.stuck_tasks["create"] = 1
    async with connect("v3") as prism:
        with pytest.raises(PrismTimeout, match="not finished after 600 s"):
            await freeze(prism, await subject(prism))

    assert points(sim) == 0


async def test_a_snapshot_without_one_of_the_disks_is_refused_and_removed(sim: Simulator, connect: Connect) -> None:
    async with connect("v3") as prism:
        vm = await subject(prism)
        other = await prism.vm(sim.vm_id("other"))
        wrong = Vm(vm.id, vm.name, vm.power_state, vm.cluster_id, vm.host_id, (*vm.disks, *other.disks))

        with pytest.raises(PrismAnswerError, match=r"does not hold scsi\.0"):
            await freeze(prism, wrong)

    assert points(sim) == 0


@pytest.mark.parametrize("with_identifier", [True, False])
@pytest.mark.parametrize("where", ["POST /vm_snapshots$", "GET /vm_snapshots/"])
async def test_a_cancelled_create_leaves_nothing(
    sim: Simulator, connect: Connect, where: str, with_identifier: bool
) -> None:
    method, part = where.split(" ")
    fault = HttpFault(path=part, method=method, delay_s=0.3)
    sim.faults.http.append(fault)
    if not with_identifier:
        sim.faults.http.append(HttpFault(path="idempotence", status=404))
    async with connect("v3") as prism:
        vm = await subject(prism)
        running = asyncio.create_task(freeze(prism, vm))
        await until(lambda: fault.count == 0)

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    assert points(sim) == 0


async def test_a_create_whose_fate_is_unknown_is_looked_for_by_name(sim: Simulator, connect: Connect) -> None:
    sim.faults.http += [
        HttpFault(path="idempotence", status=404),
        HttpFault(path="/vm_snapshots$", method="POST", status=500, plain=True),
    ]
    async with connect("v3") as prism:
        with pytest.raises(PrismStatusError, match="500"):
            await freeze(prism, await subject(prism))

    assert [one for one in sim.requests if one.path.endswith("/vm_snapshots/list")]
    assert points(sim) == 0


# -- changed regions


async def test_a_difference_is_exact_to_the_sector_and_comes_in_pages(
    sim: Simulator, config: SimConfig, connect: Connect, tmp_path: Path
) -> None:
    config.limits.regions_per_page = 1
    async with connect("v3") as prism:
        vm = await subject(prism)
        older = await freeze(prism, vm)
        write(tmp_path / "disk0.raw", 512, bytes(512))
        write(tmp_path / "disk0.raw", 128 * KIB, b"x" * 512)
        newer = await freeze(prism, vm)

        found = await rows(prism, newer, older)

    assert found == [(512, 512, 1), (128 * KIB, 512, 0)]
    assert len([one for one in sim.requests if one.path.endswith("/changed_regions") and one.status == 200]) == 2


async def test_without_a_reference_what_is_allocated_comes(sim: Simulator, connect: Connect) -> None:
    async with connect("v3") as prism:
        point = await freeze(prism, await subject(prism))
        found = await rows(prism, point)

    assert [row for row in found if not row[2]] == [(0, 64 * KIB, 0)]


async def test_a_busy_element_is_asked_again(sim: Simulator, connect: Connect) -> None:
    async with connect("v3") as prism:
        point = await freeze(prism, await subject(prism))
        sim.faults.http.append(HttpFault(path="changed_regions", status=503, count=2))

        assert await rows(prism, point)


async def test_a_disk_point_of_v4_is_refused(sim: Simulator, connect: Connect) -> None:
    async with connect("v3") as prism:
        with pytest.raises(OptionsError, match="no storage path"):
            await anext(aiter(prism.changed_regions(DiskPoint(ABSENT, ABSENT, ABSENT, ABSENT), None)))
        with pytest.raises(OptionsError, match="no storage path"):
            await prism.attach_disk(ABSENT, DiskPoint(ABSENT, ABSENT, ABSENT, ABSENT))


# -- hot-add


async def test_a_disk_is_hot_added_and_removed(sim: Simulator, connect: Connect) -> None:
    worker = sim.worker_id or ""
    async with connect("v3") as prism:
        point = await freeze(prism, await subject(prism))
        added = await asyncio.gather(*(prism.attach_disk(worker, disk) for disk in point.disks))
        listed = await prism.attached_disks(worker)
        devices = sorted(os.listdir(sim.world.layout.devices))
        for disk in added:
            await prism.detach_disk(disk)
            await prism.detach_disk(disk)

    assert sorted(listed, key=lambda one: one.id) == sorted(added, key=lambda one: one.id)
    assert [one.source for one in added] == [disk.id for disk in point.disks]
    for disk in added:
        assert [name for name in devices if name.endswith(disk.vmdisk_id.replace("-", "_"))]
    assert sim.world.state.clones == {}


async def test_an_attach_that_fails_after_the_work_leaves_nothing(sim: Simulator, connect: Connect) -> None:
    sim.faults.fail_tasks["attach"] = 1
    async with connect("v3") as prism:
        point = await freeze(prism, await subject(prism))

        with pytest.raises(TaskFailed, match="ended as failed: Simulated failure"):
            await prism.attach_disk(sim.worker_id or "", point.disks[0])

    assert sim.world.state.clones == {}


@pytest.mark.parametrize(("method", "part"), [("POST", "/attach$"), ("GET", "/tasks/")])
async def test_a_cancelled_attach_leaves_nothing(sim: Simulator, connect: Connect, method: str, part: str) -> None:
    async with connect("v3") as prism:
        point = await freeze(prism, await subject(prism))
        sim.faults.http.append(HttpFault(path=part, method=method, delay_s=0.3))
        running = asyncio.create_task(prism.attach_disk(sim.worker_id or "", point.disks[0]))
        await until(lambda: sim.faults.http[0].count == 0)

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    assert sim.world.state.clones == {}


async def test_a_detach_whose_task_fails_after_the_work_is_done(sim: Simulator, connect: Connect) -> None:
    sim.faults.fail_tasks["detach"] = 1
    async with connect("v3") as prism:
        point = await freeze(prism, await subject(prism))
        added = await prism.attach_disk(sim.worker_id or "", point.disks[0])

        await prism.detach_disk(added)

    assert sim.world.state.clones == {}


async def test_a_worker_that_is_not_there_is_not_found(sim: Simulator, connect: Connect) -> None:
    async with connect("v3") as prism:
        point = await freeze(prism, await subject(prism))

        with pytest.raises(NotFoundError):
            await prism.attach_disk(ABSENT, point.disks[0])
        with pytest.raises(NotFoundError):
            await prism.attached_disks(ABSENT)


async def test_an_answer_of_v2_that_is_no_json_is_refused_by_name(
    sim: Simulator, config: SimConfig, connect: Connect
) -> None:
    async with connect("v3") as prism:
        sim.faults.http.append(HttpFault(path=r"/v2\.0/vms/", status=200, plain=True))

        with pytest.raises(PrismAnswerError, match="GET /PrismGateway"):
            await subject(prism)

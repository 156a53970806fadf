"""A worker VM is captured with its own disks, never with those that captures hot-added to it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ntxengine.capture import CaptureOptions, plan_capture
from ntxengine.capture.groups import with_groups
from ntxengine.prism.models import AttachedDisk, DiskPoint
from ntxengine.repository import Point, cluster_record
from ntxengine.repository.cluster_record import ClusterRecord
from ntxengine.sim import SimConfig
from ntxengine.sim.config import DiskConfig, GroupConfig, VmConfig
from ntxengine.sweep import sweep
from ntxengine.units import utc_now
from tests.capture.lab import MIB, Lab, make_config

POINT_ID = "20260101T000000Z-abcdef"


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    """A cluster whose worker VM has a disk of its own."""
    config = make_config(tmp_path / "disks")
    assert config.worker is not None
    config.vms.append(VmConfig(config.worker, disks=[DiskConfig(tmp_path / "disks" / "worker.raw", size=MIB)]))
    return config


async def hot_add(lab: Lab, name: str) -> AttachedDisk:
    """Do what a capture of the VM db01 does up to the copy; return the disk that the worker has for it."""
    vm = await lab.prism.vm(lab.sim.vm_id("db01"))
    expires = utc_now() + timedelta(days=1)
    point = await lab.prism.create_recovery_point(vm, name=name, consistency="crash", expires_at=expires)
    assert lab.sim.worker_id is not None
    return await lab.prism.attach_disk(lab.sim.worker_id, point.disks[0])


async def capture_worker(lab: Lab) -> Point:
    assert lab.sim.worker_id is not None
    before, lab.vm_id = lab.vm_id, lab.sim.worker_id
    try:
        return await lab.capture()
    finally:
        lab.vm_id = before


def labels(point: Point) -> list[str]:
    return [disk.label for disk in point.disks]


@pytest.mark.parametrize("repository_id", ["", "00c0ffee"])
async def test_a_clone_of_a_recovery_point_with_our_name_is_left_out_and_said(repository_id: str, lab: Lab) -> None:
    name = f"ntx-{repository_id or lab.repository.id}-{POINT_ID}"
    await hot_add(lab, name)

    point = await capture_worker(lab)

    assert labels(point) == ["scsi.0"]
    (said,) = point.report.excluded
    assert said.startswith("scsi.1")
    assert name in said
    assert any(said in warning for warning in lab.witness.warnings)


async def test_a_clone_of_a_group_in_a_point_of_several_vms_is_left_out_too(
    v4_lab: Lab, config: SimConfig, tmp_path: Path
) -> None:
    lab, name = v4_lab, f"ntx-00c0ffee-{POINT_ID}-together"
    config.volume_groups.append(GroupConfig("data", [DiskConfig(tmp_path / "group.raw", size=MIB)], vms=["db01"]))
    vm = (await with_groups(lab.prism, await lab.prism.vm(lab.vm_id), are_wanted=True)).vm
    worker = await lab.prism.vm(lab.sim.worker_id or "")
    points = await lab.prism.create_shared_recovery_point(
        [vm, worker],
        name=name,
        consistency="crash",
        expires_at=utc_now() + timedelta(days=1),
        vss={vm.id: None, worker.id: None},
    )
    await lab.prism.attach_disk(worker.id, points[0].disks[-1])

    point = await capture_worker(lab)

    assert points[0].disks[-1].group_point_id
    assert labels(point) == ["scsi.0"]
    assert name in point.report.excluded[0]


async def test_a_clone_whose_recovery_point_is_gone_is_known_by_its_record(lab: Lab) -> None:
    name = f"ntx-{lab.repository.id}-{POINT_ID}"
    disk = await hot_add(lab, name)
    folder = lab.repository.path / lab.vm_id
    folder.mkdir()
    cluster_record.write(folder, ClusterRecord(POINT_ID, name, disk.worker_id, "gone", (disk.source,)))
    for listed in await lab.prism.recovery_points():
        await lab.prism.delete_recovery_point(listed.id)

    point = await capture_worker(lab)

    assert labels(point) == ["scsi.0"]
    assert name in point.report.excluded[0]


async def test_a_clone_that_no_capture_made_is_a_disk_of_the_vm(lab: Lab) -> None:
    await hot_add(lab, "nightly")

    point = await capture_worker(lab)

    assert labels(point) == ["scsi.0", "scsi.1"]
    assert point.report.excluded == ()


async def test_a_worker_that_is_captured_while_it_reads_another_vm_has_its_own_disks(v4_lab: Lab) -> None:
    lab = v4_lab
    captured: list[Point] = []

    class Reads(type(lab.prism)):  # type: ignore[misc]
        async def detach_disk(self, disk: AttachedDisk) -> None:
            if not captured:
                captured.append(await capture_worker(lab))
            await super().detach_disk(disk)

    lab.prism.__class__ = Reads

    await lab.capture()

    assert labels(captured[0]) == ["scsi.0"]
    assert captured[0].report.excluded
    assert all("hot-added by a capture" in text for text in captured[0].report.excluded)


async def test_a_worker_captures_itself_with_its_own_disks_also_after_clones_were_left_on_it(lab: Lab) -> None:
    own = lab.sim.config.vms[1].disks[0].path
    first = await capture_worker(lab)
    before = own.read_bytes()
    own.write_bytes(b"changed".ljust(MIB, b"\0"))
    await hot_add(lab, f"ntx-{lab.repository.id}-{POINT_ID}")

    second = await capture_worker(lab)

    assert (labels(first), labels(second)) == (["scsi.0"], ["scsi.0"])
    assert lab.stored(first) == [before]
    assert lab.stored(second) == [own.read_bytes()]
    assert second.kind == "incremental"


async def test_a_disk_that_somebody_else_adds_to_the_worker_is_neither_read_nor_removed(v4_lab: Lab) -> None:
    await capture_beside_somebody_else(v4_lab)


async def test_nor_is_it_on_a_prism_element(v3_hot_add_lab: Lab) -> None:
    await capture_beside_somebody_else(v3_hot_add_lab)


async def capture_beside_somebody_else(lab: Lab) -> None:
    began: list[str] = []
    foreign: list[AttachedDisk] = []

    class Busy(type(lab.prism)):  # type: ignore[misc]
        async def attach_disk(self, worker_id: str, disk: DiskPoint) -> AttachedDisk:
            """Somebody else adds a disk of the same size, just before ours comes."""
            if not began:
                began.append(disk.id)
                expires = utc_now() + timedelta(days=1)
                vm = await self.vm(lab.vm_id)
                other = await self.create_recovery_point(vm, name="nightly", consistency="crash", expires_at=expires)
                lab.write(0, 0, b"later than theirs")
                same = next(each for each in other.disks if each.disk_id == disk.disk_id)
                foreign.append(await super().attach_disk(worker_id, same))
            return await super().attach_disk(worker_id, disk)  # type: ignore[no-any-return]

    lab.write(0, 0, b"ours")
    frozen = lab.guest()
    lab.prism.__class__ = Busy

    point = await lab.capture()

    assert lab.stored(point) == frozen
    assert lab.hot_added() == [foreign[0].vmdisk_id]
    await sweep(lab.prism, lab.repository, attach=lab.attach_options)
    assert lab.hot_added() == [foreign[0].vmdisk_id]


async def test_a_vm_that_was_restored_from_a_recovery_point_of_ours_keeps_its_disks(
    v4_lab: Lab, tmp_path: Path
) -> None:
    lab = v4_lab
    lab.sim.config.vms[1].disks.clear()
    lab.reconfigure()
    await hot_add(lab, f"ntx-{lab.repository.id}-{POINT_ID}")
    first = await capture_worker(lab)
    lab.sim.config.vms[1].disks.append(DiskConfig(tmp_path / "disks" / "worker.raw", size=MIB, index=7))
    lab.reconfigure()

    second = await capture_worker(lab)

    assert labels(first) == ["scsi.0"]
    assert sorted(labels(second)) == ["scsi.0", "scsi.7"]
    assert second.report.excluded == ()


async def test_a_dry_run_says_what_is_left_out(v4_lab: Lab) -> None:
    lab = v4_lab
    name = f"ntx-{lab.repository.id}-{POINT_ID}"
    await hot_add(lab, name)
    assert lab.sim.worker_id is not None

    plan = await plan_capture(lab.prism, lab.repository, lab.sim.worker_id, CaptureOptions())

    assert [each.disk.label for each in plan.disks] == ["scsi.0"]
    assert plan.vm.excluded == plan.hot_added
    assert plan.hot_added == (f"scsi.1 (hot-added by a capture, from recovery point {name})",)

"""A VM over its life: what change tracking makes of disks that come, go, move and change their size.

The oracle is always bytes: what a point holds of each disk is what the guest had there when it was frozen.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ntxengine.capture import CaptureOptions, plan_capture
from ntxengine.repository import DiskReport, Point
from ntxengine.sim.config import DiskConfig
from ntxengine.sim.faults import AnswerFault
from tests.capture.lab import DATA_SIZE, MIB, Lab

OTHER_CLUSTER = "11111111-2222-4333-8444-555555555555"


def disks(lab: Lab) -> list[DiskConfig]:
    """Return the disks of the VM, to be changed in place; `settle` makes it so."""
    configs = lab.sim.config.vms[0].disks
    for number, disk in enumerate(configs):
        disk.index = number if disk.index is None else disk.index
    return configs


def guest_by_label(lab: Lab) -> dict[str, bytes]:
    return {f"{disk.bus}.{disk.index}": disk.path.read_bytes() for disk in disks(lab)}


def report(point: Point, label: str) -> DiskReport:
    return next(each for each in point.report.disks.values() if each.label == label)


async def capture_right(lab: Lab, **options: Any) -> Point:
    """Capture, and compare every byte of every disk with the guest's."""
    disks(lab)
    point = await lab.capture(**options)

    stored = dict(zip(sorted(disk.label for disk in point.disks), lab.stored(point), strict=True))
    assert stored == guest_by_label(lab)
    lab.check_images(point)
    return point


def write_everywhere(lab: Lab) -> None:
    for number in range(len(disks(lab))):
        lab.write(number, 512 * (number + 1), os.urandom(700))


def random_file(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(size))
    return path


def make_anew(lab: Lab, number: int, *, path: Path | None = None, device: bool = True) -> None:
    """Put another disk at the address of one: the cluster gives it other ids."""
    disk = disks(lab)[number]
    name = f"anew-{os.urandom(4).hex()}"
    disks(lab)[number] = dataclasses.replace(
        disk, path=path or disk.path, file_name=name, device=name if device else disk.device
    )
    lab.reconfigure()


def say(lab: Lab, v4_field: str, v3_field: str, value: object) -> None:
    """Let the cluster tell another value of the VM."""
    path, field = (r"config/vms/", v4_field) if lab.prism.family == "v4" else (r"v3/vms/", v3_field)
    path += f"{lab.vm_id}$"
    lab.sim.faults.answers.append(AnswerFault(path=path, method="GET", count=-1, field=field, value=value))


async def test_a_disk_that_is_added_is_captured_in_full_and_the_others_are_tracked(lab: Lab, tmp_path: Path) -> None:
    first = await capture_right(lab)
    disks(lab).append(DiskConfig(random_file(tmp_path / "new.raw", MIB + 512), index=7))
    lab.reconfigure()
    write_everywhere(lab)

    point = await capture_right(lab)

    tracked = f"{lab.prism.family}-changed-regions"
    assert [report(point, label).tracking for label in ("scsi.0", "scsi.1", "scsi.7")] == [
        tracked,
        tracked,
        "allocated",
    ]
    assert any(f"not in the previous point {first.id}" in text and "scsi.7" in text for text in lab.witness.warnings)
    write_everywhere(lab)
    assert report(await capture_right(lab), "scsi.7").tracking == tracked


async def test_a_disk_that_is_removed_is_said_and_stays_in_the_older_points(lab: Lab) -> None:
    first = await capture_right(lab)
    before = lab.guest()
    removed = disks(lab).pop(1)
    lab.reconfigure()
    write_everywhere(lab)

    plan = await plan_capture(lab.prism, lab.repository, lab.vm_id, CaptureOptions())
    point = await capture_right(lab)

    assert [name.partition(" ")[0] for name in plan.removed] == ["scsi.1"]
    assert [disk.label for disk in point.disks] == ["scsi.0"]
    assert any("no longer has scsi.1" in text for text in lab.witness.warnings)
    assert lab.stored(first) == before
    disks(lab).append(removed)
    lab.reconfigure()
    again = await capture_right(lab)
    assert report(again, "scsi.1").tracking == "allocated"


async def test_a_disk_that_is_made_anew_at_its_old_address_is_another_disk(lab: Lab, tmp_path: Path) -> None:
    await capture_right(lab)
    make_anew(lab, 1, path=random_file(tmp_path / "anew.raw", DATA_SIZE))

    point = await capture_right(lab)

    assert (report(point, "scsi.1").tracking, report(point, "scsi.1").incremental) == ("allocated", False)
    assert report(point, "scsi.0").incremental
    assert any("scsi.1" in text and "not in the previous point" in text for text in lab.witness.warnings)


@pytest.mark.parametrize("device_moves", [True, False])
async def test_two_disks_of_one_size_that_change_places_are_not_mistaken(
    lab: Lab, tmp_path: Path, device_moves: bool
) -> None:
    for number in range(2):
        disks(lab)[number] = DiskConfig(
            random_file(tmp_path / f"{number}.raw", MIB),
            index=number,
            file_name=f"file-{number}",
            device=f"device-{number}" if device_moves else None,
        )
    lab.reconfigure()
    await capture_right(lab)
    one, two = disks(lab)
    one.index, two.index = two.index, one.index
    lab.reconfigure()
    lab.write(0, 4096, os.urandom(100))

    point = await capture_right(lab)

    if lab.prism.family == "v3" and not device_moves:
        # The device stayed, and another file is behind it: nothing that was known of it holds.
        assert {each.tracking for each in point.report.disks.values()} == {"digest-scan"}
        assert all("file on storage was" in (each.tracking_reason or "") for each in point.report.disks.values())
    else:
        assert all(each.incremental for each in point.report.disks.values())
    lab.write(1, 8192, os.urandom(100))
    await capture_right(lab)


async def test_a_disk_that_is_restored_in_place_has_a_new_id(lab: Lab, tmp_path: Path) -> None:
    await capture_right(lab)
    old = shutil.copy(lab.disk_files[0], tmp_path / "old.raw")
    write_everywhere(lab)
    await capture_right(lab)
    make_anew(lab, 0, path=Path(old))

    point = await capture_right(lab)

    assert report(point, "scsi.0").tracking == "allocated"
    assert report(point, "scsi.1").incremental


async def test_a_file_that_is_exchanged_behind_its_device_is_not_compared(lab: Lab, tmp_path: Path) -> None:
    await capture_right(lab)
    old = shutil.copy(lab.disk_files[0], tmp_path / "old.raw")
    write_everywhere(lab)
    await capture_right(lab)
    make_anew(lab, 0, path=Path(old), device=False)

    point = await capture_right(lab)

    expected = "digest-scan" if lab.prism.family == "v3" else "allocated"
    assert report(point, "scsi.0").tracking == expected
    assert any("scsi.0" in text for text in lab.witness.warnings)


async def test_a_vm_that_is_reverted_with_its_ids_is_tracked_back(lab: Lab) -> None:
    await capture_right(lab)
    before = lab.guest()
    write_everywhere(lab)
    await capture_right(lab)
    for number, data in enumerate(before):
        lab.write(number, 0, data)

    point = await capture_right(lab)

    assert all(each.incremental for each in point.report.disks.values())


@pytest.mark.parametrize("step", [512, -512])
async def test_a_disk_that_changes_by_a_sector_is_right_and_said(lab: Lab, step: int) -> None:
    await capture_right(lab)
    for size in (DATA_SIZE + step, DATA_SIZE, DATA_SIZE + step):
        before = os.path.getsize(lab.disk_files[1])
        lab.resize(1, size)
        lab.write(1, size - 100, os.urandom(100))

        point = await capture_right(lab)

        disk = report(point, "scsi.1")
        assert disk.size == size
        assert disk.incremental == (size > before)
        if size < before:
            assert f"the disk shrank from {before} to {size} bytes" in (disk.tracking_reason or "")
            assert any("shrank" in text and "scsi.1" in text for text in lab.witness.warnings)
        assert report(point, "scsi.0").incremental


async def test_a_clone_of_a_vm_is_a_vm_of_its_own(lab: Lab, tmp_path: Path) -> None:
    await capture_right(lab)
    original = lab.sim.config.vms[0]
    copies = [
        DiskConfig(Path(shutil.copy(disk.path, tmp_path / f"clone-{disk.index}.raw")), index=disk.index)
        for disk in disks(lab)
    ]
    lab.sim.config.vms.append(
        dataclasses.replace(original, name="clone", disks=copies, cdroms=[], nvram=None, volume_groups=0)
    )
    lab.reconfigure()
    write_everywhere(lab)
    original_id, lab.vm_id = lab.vm_id, lab.sim.vm_id("clone")

    point = await lab.capture()

    assert lab.stored(point) == [copy.path.read_bytes() for copy in copies]
    assert (point.kind, point.parent_id) == ("full", None)
    lab.vm_id = original_id
    assert (await capture_right(lab)).kind == "incremental"


async def test_a_vm_that_moved_to_another_cluster_is_scanned(lab: Lab) -> None:
    await capture_right(lab)
    write_everywhere(lab)
    cluster = {"uuid": OTHER_CLUSTER} if lab.prism.family == "v3" else {"extId": OTHER_CLUSTER}
    say(lab, "data.cluster", "status.cluster_reference", cluster)
    if lab.prism.family == "v4":  # the worker VM moved along
        path = f"config/vms/{lab.sim.worker_id}$"
        lab.sim.faults.answers.append(AnswerFault(path=path, count=-1, field="data.cluster", value=cluster))

    point = await capture_right(lab)

    assert point.tracking == "digest-scan"
    assert f"was moved from cluster {lab.sim.world.cluster_id} to {OTHER_CLUSTER}" in point.tracking_reason
    assert all(any(label in text for text in lab.witness.warnings) for label in ("scsi.0", "scsi.1"))
    # The old one is not there to be compared with, and is not left behind either.
    assert lab.recovery_points() == [f"ntx-{lab.repository.id}-{point.id}"]


async def test_a_reference_that_lacks_one_disk_costs_a_scan_of_that_disk(v4_lab: Lab) -> None:
    lab = v4_lab
    await capture_right(lab)
    write_everywhere(lab)
    lab.sim.faults.answers.append(
        AnswerFault(path=r"/vm-recovery-points/", count=1, kind="drop", field="data.diskRecoveryPoints.0")
    )

    point = await capture_right(lab)

    tracked = [report(point, label).tracking for label in ("scsi.0", "scsi.1")]
    assert tracked == ["digest-scan", "v4-changed-regions"]
    assert "no longer holds this disk" in (report(point, "scsi.0").tracking_reason or "")


async def test_a_reference_that_vanished_costs_a_scan(lab: Lab) -> None:
    await capture_right(lab)
    write_everywhere(lab)
    lab.sim.lose_recovery_points()

    point = await capture_right(lab)

    assert point.tracking == "digest-scan"
    assert all(any(label in text for text in lab.witness.warnings) for label in ("scsi.0", "scsi.1"))


async def test_a_secure_reference_is_compared_with_and_its_deletion_is_somebodys_to_approve(v4_lab: Lab) -> None:
    await capture_right(v4_lab)
    write_everywhere(v4_lab)
    v4_lab.sim.faults.secure_points = True

    point = await capture_right(v4_lab)

    assert point.tracking == "v4-changed-regions"
    assert any("approve" in text for text in v4_lab.witness.warnings)


async def test_a_disk_that_is_being_moved_to_another_container_is_scanned(lab: Lab) -> None:
    await capture_right(lab)
    write_everywhere(lab)
    say(
        lab,
        "data.disks.0.backingInfo.isMigrationInProgress",
        "status.resources.disk_list.0.is_migration_in_progress",
        True,
    )

    point = await capture_right(lab)

    moving = [each.label for each in point.report.disks.values() if each.tracking == "digest-scan"]
    assert moving == ["scsi.0"]
    assert any("being moved to another storage container" in text for text in lab.witness.warnings)

"""The volume groups of a VM are captured with it: every point holds what their disks held, or says why it does not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.capture import plan_capture
from ntxengine.capture.options import CaptureOptions
from ntxengine.errors import PrismAnswerError, PrismBusy
from ntxengine.prism.http.retry import RetryPolicy
from ntxengine.repository import Point, Repository
from ntxengine.restore import restore
from ntxengine.sim import SimConfig, Simulator, ids
from ntxengine.sim.config import DiskConfig, GroupConfig
from ntxengine.sim.faults import HttpFault
from ntxengine.sweep import sweep
from ntxengine.verify import verify_point
from tests.capture.lab import MIB, Lab, make_config, open_lab
from tests.capture.test_workflow import manifests

GROUPS = "/volume-groups/"


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    """The VM with two groups: `data` with two disks, `logs` with one that is no multiple of a block."""
    config = make_config(tmp_path / "disks")
    config.vms[0].volume_groups = 0
    disks = [DiskConfig(tmp_path / f"group{number}.raw", size=(2 + number) * MIB + 512 * number) for number in range(3)]
    disks[1].index, disks[1].container = 5, "fast"
    for disk in disks:
        disk.path.write_bytes(os.urandom(MIB) + bytes((disk.size or 0) - MIB))
    config.volume_groups = [
        GroupConfig("data", disks=disks[:2], vms=["db01"]),
        GroupConfig("logs", disks=disks[2:], vms=["db01"]),
    ]
    return config


def disks_of(lab: Lab) -> dict[str, Path]:
    """Return the files of the VM's own disks and of its groups, by label."""
    own = {f"scsi.{number}": path for number, path in enumerate(lab.disk_files)}
    for group in lab.sim.config.volume_groups:
        for place, disk in enumerate(group.disks):
            if "db01" in group.vms:
                own[f"vg:{group.name}.{place if disk.index is None else disk.index}"] = disk.path
    return own


def guest(lab: Lab) -> dict[str, bytes]:
    return {label: path.read_bytes() for label, path in disks_of(lab).items()}


def stored(lab: Lab, point: Point) -> dict[str, bytes]:
    return {disk.label: lab._read(point, disk.file)[: disk.size] for disk in point.disks}


def write(lab: Lab, label: str, offset: int, data: bytes) -> None:
    with lab.sim.disk_lock, disks_of(lab)[label].open("r+b") as file:
        file.seek(offset)
        file.write(data)


async def test_groups_are_captured_in_full_and_then_what_changed(v4_lab: Lab, tmp_path: Path) -> None:
    lab = v4_lab
    first = await lab.capture()
    before = guest(lab)
    for number, label in enumerate(disks_of(lab)):
        write(lab, label, 70_000 * number + 3, os.urandom(5000))

    second = await lab.capture()
    lab.repository = await Repository.create(tmp_path / "other")
    full = await lab.capture()

    assert set(before) == {"scsi.0", "scsi.1", "vg:data.0", "vg:data.5", "vg:logs.0"}
    assert (first.kind, second.kind, second.tracking) == ("full", "incremental", "v4-changed-regions")
    assert stored(lab, first) == before
    assert stored(lab, second) == guest(lab)
    assert all(report.bytes_sent <= 2 * 65536 for report in second.report.disks.values())
    assert manifests(second) == manifests(full)
    assert not any("volume group" in text for text in second.report.excluded)
    assert lab.hot_added() == []


async def test_disks_of_groups_are_read_over_iscsi_too(simulator: Simulator, repository: Repository) -> None:
    lab = await open_lab(simulator, "v4", repository, attach="iscsi")
    await lab.capture()
    for number, label in enumerate(disks_of(lab)):
        write(lab, label, 70_000 * number + 3, os.urandom(5000))

    point = await lab.capture()

    assert point.kind == "incremental"
    assert stored(lab, point) == guest(lab)
    assert lab.sim.world.state.made_groups == {}


async def test_groups_are_verified_and_restored_like_other_disks(v4_lab: Lab, tmp_path: Path) -> None:
    point = await v4_lab.capture()

    verdict = await verify_point(v4_lab.repository, point)
    await restore(v4_lab.repository, point, tmp_path / "restored")

    assert [disk.problem for disk in verdict.disks] == [""] * 5
    assert (tmp_path / "restored" / "vg-data.5.raw").read_bytes() == disks_of(v4_lab)["vg:data.5"].read_bytes()


async def test_a_group_may_grow_and_get_disks_between_captures(v4_lab: Lab, tmp_path: Path) -> None:
    lab = v4_lab
    await lab.capture()
    group = lab.sim.config.volume_groups[0]
    with group.disks[0].path.open("ab") as file:
        file.write(os.urandom(MIB // 2))
    group.disks.append(DiskConfig(tmp_path / "added.raw", size=MIB, index=9))

    point = await lab.capture()

    assert stored(lab, point) == guest(lab)
    reports = {report.label: report for report in point.report.disks.values()}
    assert reports["vg:data.0"].incremental
    assert not reports["vg:data.9"].incremental


async def test_groups_may_be_detached_and_attached_between_captures(v4_lab: Lab, tmp_path: Path) -> None:
    lab = v4_lab
    first = await lab.capture()
    before = guest(lab)
    lab.sim.config.volume_groups[0].vms.clear()
    new = DiskConfig(tmp_path / "new.raw", size=MIB)
    lab.sim.config.volume_groups.append(GroupConfig("new", disks=[new], vms=["db01"]))

    second = await lab.capture()

    assert stored(lab, second) == guest(lab)
    assert set(guest(lab)) == {"scsi.0", "scsi.1", "vg:logs.0", "vg:new.0"}
    assert any("no longer has vg:data.0" in text for text in second.report.warnings)
    assert stored(lab, first) == before


async def test_a_vm_that_has_only_groups_is_captured(v4_lab: Lab) -> None:
    v4_lab.sim.config.vms[0].disks.clear()
    v4_lab.reconfigure()

    point = await v4_lab.capture()

    assert stored(v4_lab, point) == guest(v4_lab)


async def test_two_groups_of_one_name_are_told_apart(v4_lab: Lab) -> None:
    v4_lab.sim.config.volume_groups[1].name = "da/ta"
    v4_lab.sim.config.volume_groups[0].name = "da:ta"

    point = await v4_lab.capture()

    labels = [disk.label for disk in point.disks if disk.label.startswith("vg:")]
    assert len(set(labels)) == 3
    assert all(label.startswith("vg:da_ta-") for label in labels)


async def test_a_group_of_several_machines_is_captured_with_the_vm_and_that_is_said(v4_lab: Lab) -> None:
    v4_lab.sim.config.volume_groups[0].is_shared = True

    point = await v4_lab.capture()

    assert any("volume group data may be attached to other machines" in text for text in point.report.warnings)
    assert stored(v4_lab, point) == guest(v4_lab)


def forbid_the_first(lab: Lab) -> None:
    """Let the account have no right on the group `data`."""
    group_id = ids.fixed(lab.sim.world.cluster_id, "volume group", "data")
    lab.sim.faults.http.append(HttpFault(f"/volume-groups/{group_id}$", status=403, count=-1))


SPOILED: dict[str, tuple[Callable[[Lab], None], str]] = {
    "chap": (lambda lab: setattr(lab.sim.config.volume_groups[0], "chap", True), "CHAP"),
    "external": (lambda lab: setattr(lab.sim.config.volume_groups[0], "external", True), "external storage (volume-0)"),
    "forbidden": (forbid_the_first, "it cannot be read"),
}


@pytest.mark.parametrize("kind", SPOILED)
async def test_a_group_that_cannot_be_captured_is_left_out_with_the_reason(v4_lab: Lab, kind: str) -> None:
    spoil, reason = SPOILED[kind]
    spoil(v4_lab)

    point = await v4_lab.capture()

    (left_out,) = [text for text in point.report.excluded if "volume group" in text]
    assert reason in left_out
    assert any(reason in text and "is left out" in text for text in point.report.warnings)
    assert {disk.label for disk in point.disks} == {"scsi.0", "scsi.1", "vg:logs.0"}


async def test_a_busy_prism_does_not_make_a_group_be_left_out(simulator: Simulator, repository: Repository) -> None:
    short = RetryPolicy(retries=1, first_wait_s=0.05)
    lab = await open_lab(simulator, "v4", repository, attach="hot-add", retry=short)
    lab.sim.faults.http.append(HttpFault(GROUPS, status=503, count=-1))

    with pytest.raises(PrismBusy):
        await lab.capture()

    assert lab.points() == []


async def test_groups_of_which_no_disk_is_told_are_left_out_after_the_freeze(v4_lab: Lab) -> None:
    first = await v4_lab.capture()
    v4_lab.sim.config.group_disks_in_recovery_point = False

    second = await v4_lab.capture()

    assert len(first.disks) == 5
    assert [disk.label for disk in second.disks] == ["scsi.0", "scsi.1"]
    assert any("tells none of its disks" in text for text in second.report.warnings)
    v4_lab.assert_clean(points=2)


async def test_a_vm_of_groups_alone_of_which_no_disk_is_told_fails_with_that(v4_lab: Lab) -> None:
    v4_lab.sim.config.group_disks_in_recovery_point = False
    v4_lab.sim.config.vms[0].disks.clear()
    v4_lab.reconfigure()

    with pytest.raises(PrismAnswerError, match="only volume groups, and the recovery point tells none of its disks"):
        await v4_lab.capture()

    v4_lab.assert_clean(points=0)


async def test_groups_are_left_out_if_that_is_asked_for(v4_lab: Lab) -> None:
    await v4_lab.capture()

    point = await v4_lab.capture(volume_groups=False)

    assert [disk.label for disk in point.disks] == ["scsi.0", "scsi.1"]
    assert sum("not asked for" in text for text in point.report.excluded) == 2
    assert point.report.warnings == ()


async def test_more_groups_than_a_recovery_point_holds_are_refused_with_the_number(v4_lab: Lab, tmp_path: Path) -> None:
    for number in range(30):
        disk = DiskConfig(tmp_path / f"many{number}.raw", size=MIB)
        v4_lab.sim.config.volume_groups.append(GroupConfig(f"many{number}", disks=[disk], vms=["db01"]))
    options = CaptureOptions()

    with pytest.raises(Exception, match="1 VM and 32 volume groups are 33, and one recovery point holds 32 at most"):
        await plan_capture(v4_lab.prism, v4_lab.repository, v4_lab.vm_id, options)


async def test_a_clone_of_a_group_that_a_capture_left_is_swept(v4_lab: Lab) -> None:
    v4_lab.sim.faults.http.append(HttpFault("/disks/", method="DELETE", status=403, count=-1))
    point = await v4_lab.capture()
    left = v4_lab.hot_added()
    v4_lab.sim.faults.http.clear()

    report = await sweep(v4_lab.prism, v4_lab.repository, attach=v4_lab.attach_options)

    assert len(left) == len(point.disks) == 5
    assert {found.kind for found in report.removed} == {"disk"}
    v4_lab.assert_clean(points=1)


async def test_groups_are_read_over_iscsi_too(iscsi_lab: Lab) -> None:
    lab = iscsi_lab
    await lab.capture()
    for label in disks_of(lab):
        write(lab, label, 4096, os.urandom(5000))

    point = await lab.capture()

    assert (point.kind, point.report.source) == ("incremental", "iscsi")
    assert stored(lab, point) == guest(lab)
    assert lab.sim.world.state.made_groups == {}


async def test_v3_leaves_groups_out_and_says_what_does_not(v3_hot_add_lab: Lab) -> None:
    point = await v3_hot_add_lab.capture()

    assert [disk.label for disk in point.disks] == ["scsi.0", "scsi.1"]
    assert sum("a recovery point of v4 does" in text for text in point.report.excluded) == 2

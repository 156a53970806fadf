"""A VM is captured in full, then what changed, and every point holds what the guest held."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ntxengine.dataplane.buffers import TOTAL_BUFFER_BYTES
from ntxengine.dataplane.manifest import Manifest
from ntxengine.events import Stage
from ntxengine.repository import Point, Repository
from ntxengine.sim.config import DiskConfig
from ntxengine.sim.faults import RegionFault
from tests.capture.lab import DATA_SIZE, MIB, SYSTEM_SIZE, Lab, Witness


def manifests(point: Point) -> list[bytes]:
    """Return what the manifests of a point say, without the header."""
    found = []
    for disk in sorted(point.disks, key=lambda disk: disk.label):
        with Manifest.open(point.path / disk.manifest) as manifest:
            assert manifest.disk_digest == disk.digest
            found.append(manifest.digests(0, manifest.blocks).tobytes())
    return found


def change(lab: Lab) -> None:
    """Let the guest rewrite, trim, append, and touch single sectors, in both disks."""
    lab.write(0, 100_000, os.urandom(300_000))
    lab.zero(0, 4 * MIB + 4096, MIB)
    lab.write(0, SYSTEM_SIZE - 512, os.urandom(512))
    for sector in (3, 130, 131, 4097):
        lab.write(1, sector * 512, os.urandom(512))
    lab.write(1, DATA_SIZE - 512, os.urandom(512))


async def test_a_first_capture_holds_every_disk_of_the_guest(lab: Lab) -> None:
    lab.write(1, DATA_SIZE - 512, b"last sector".ljust(512))

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    assert (point.kind, point.parent_id, point.tracking) == ("full", None, "allocated")
    assert [disk.label for disk in point.disks] == ["scsi.0", "scsi.1"]
    assert lab.witness.warnings == []
    lab.check_images(point)
    lab.assert_clean(points=1)


async def test_an_increment_holds_what_changed_and_masks_what_became_zero(lab: Lab) -> None:
    first = await lab.capture()
    before = lab.guest()
    change(lab)

    second = await lab.capture()

    assert lab.stored(second) == lab.guest()
    assert lab.stored(first) == before
    assert (second.kind, second.parent_id) == ("incremental", first.id)
    assert second.tracking == f"{lab.prism.family}-changed-regions"
    for report in second.report.disks.values():
        assert report.bytes_sent < report.size / 4
    assert sum(report.bytes_zeroed for report in second.report.disks.values()) >= MIB - 2 * 65536
    lab.check_images(second)
    lab.assert_clean(points=2)


async def test_the_manifest_of_an_increment_is_that_of_a_full_capture(lab: Lab, tmp_path: Path) -> None:
    await lab.capture()
    change(lab)
    increment = await lab.capture()
    lab.repository = await Repository.create(tmp_path / "other")

    full = await lab.capture()

    assert (increment.kind, full.kind) == ("incremental", "full")
    assert manifests(increment) == manifests(full)


async def test_where_nothing_changed_nothing_is_attached_or_written(lab: Lab) -> None:
    await lab.capture()

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    assert not {Stage.ATTACH, Stage.COPY} & set(lab.witness.stages)
    assert {report.bytes_sent for report in point.report.disks.values()} == {0}
    lab.assert_clean(points=2)


async def test_a_chain_of_increments_holds_every_moment(lab: Lab) -> None:
    moments = []
    for number in range(4):
        lab.write(0, number * MIB, os.urandom(70_000))
        lab.write(1, number * 1024, os.urandom(512))
        moments.append((await lab.capture(), lab.guest()))

    for point, guest in moments:
        assert lab.stored(point) == guest
    lab.assert_clean(points=4)


async def test_v3_snapshots_can_be_hot_added(v3_hot_add_lab: Lab) -> None:
    lab = v3_hot_add_lab
    await lab.capture()
    change(lab)

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    assert point.tracking == "v3-changed-regions"
    lab.assert_clean(points=2)


async def test_the_report_says_where_everything_went(v4_lab: Lab) -> None:
    point = await v4_lab.capture()

    report = point.report.disks[next(disk.disk_id for disk in point.disks if disk.label == "scsi.0")]
    assert report.size == SYSTEM_SIZE
    assert report.bytes_changed == report.bytes_sent == report.bytes_verified - 5 * MIB == 3 * MIB
    assert report.bytes_skipped == 5 * MIB
    assert report.reduction_percent == 62.5
    assert report.bytes_allocated >= 3 * MIB
    assert set(report.stages_s) == {"changes", "attach", "copy", "verify"}
    assert set(point.report.stages_s) == {"freeze", "commit", "release"}
    assert any("CD-ROM" in text for text in point.report.excluded)
    assert any("volume group" in text for text in point.report.excluded)
    assert point.consistency_obtained == "application"
    assert (await v4_lab.repository.point(point.id)).report.disks == point.report.disks


async def test_the_configuration_of_the_vm_is_kept_with_the_point(v4_lab: Lab) -> None:
    point = await v4_lab.capture()

    assert '"db01"' in (point.path / "vm.json").read_text(encoding="utf-8")


async def test_a_disk_that_grew_is_captured_with_its_tail(lab: Lab) -> None:
    await lab.capture()
    lab.resize(1, DATA_SIZE + MIB + 1024)
    lab.write(1, DATA_SIZE + 100, os.urandom(200_000))
    lab.write(1, DATA_SIZE - 512, os.urandom(512))

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    assert point.kind == "incremental"
    lab.check_images(point)


async def test_a_disk_that_shrank_is_captured_in_full_and_that_is_said(lab: Lab) -> None:
    await lab.capture()
    lab.write(0, 0, os.urandom(4096))
    lab.resize(1, DATA_SIZE - MIB)

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    backing = {disk.label: bool(disk.backing) for disk in point.disks}
    assert backing == {"scsi.0": True, "scsi.1": False}
    assert any("shrank" in text for text in lab.witness.warnings)


async def test_a_new_disk_is_full_while_the_others_are_incremental(v4_lab: Lab, tmp_path: Path) -> None:
    lab = v4_lab
    first = await lab.capture()
    disks = lab.sim.config.vms[0].disks
    disks.append(DiskConfig(tmp_path / "disks/new.raw", size=MIB, index=7))
    lab.reconfigure()
    lab.write(2, 4096, os.urandom(4096))

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    assert {disk.label: bool(disk.backing) for disk in point.disks} == {
        "scsi.0": True,
        "scsi.1": True,
        "scsi.7": False,
    }
    assert any("scsi.7" in text and first.id in text for text in lab.witness.warnings)


async def test_a_removed_disk_is_not_in_the_point(v4_lab: Lab) -> None:
    lab = v4_lab
    await lab.capture()
    lab.sim.config.vms[0].disks.pop()
    lab.reconfigure()

    point = await lab.capture()

    assert [disk.label for disk in point.disks] == ["scsi.0"]
    assert lab.stored(point) == lab.guest()


@pytest.mark.parametrize("fault", ["shuffle", "overlap", "unknown_type"])
async def test_regions_out_of_order_overlapping_or_of_an_unknown_type_give_the_right_bytes(
    fault: RegionFault, lab: Lab
) -> None:
    lab.sim.config.limits.regions_per_page = 2
    lab.sim.faults.regions = fault
    await lab.capture()
    change(lab)

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    lab.check_images(point)


class Resizer(Witness):
    """Lets a disk grow in the moment before the VM is frozen."""

    def __init__(self, lab: Lab) -> None:
        super().__init__()
        self.lab = lab

    def began(self, stage: Stage) -> None:
        if stage is Stage.FREEZE:
            self.lab.resize(1, DATA_SIZE + MIB)
            self.lab.write(1, DATA_SIZE + 1000, b"new tail")


@pytest.mark.parametrize("captures_before", [0, 1])
async def test_a_disk_that_grows_while_it_is_frozen_has_the_size_that_was_frozen(
    captures_before: int, lab: Lab
) -> None:
    for _ in range(captures_before):
        await lab.capture()
    lab.make_witness = lambda: Resizer(lab)

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    assert point.disk("scsi.1").size == DATA_SIZE + MIB


async def test_captures_at_once_share_one_budget_of_buffers(v4_lab: Lab) -> None:
    captures = 2 * TOTAL_BUFFER_BYTES // MIB

    point = await v4_lab.capture(captures_at_once=captures, parallel=1)

    sizes = {report.request_size for report in point.report.disks.values() if report.bytes_sent}
    assert sizes == {MIB // 2}

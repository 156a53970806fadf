"""When change tracking cannot answer: what is done instead, how loudly, and what the point says of it."""

from __future__ import annotations

import os

import pytest

from ntxengine.errors import NtxError, PrismAnswerError, PrismBusy
from ntxengine.prism.http.retry import RetryPolicy
from ntxengine.repository import Repository
from ntxengine.sim import Simulator
from ntxengine.sim.faults import HttpFault
from tests.capture.lab import MIB, SYSTEM_SIZE, Lab, open_lab
from tests.repository.builders import write_sums_anew


async def test_a_lost_reference_means_a_scan_that_stores_only_what_differs(lab: Lab) -> None:
    first = await lab.capture()
    lab.sim.lose_recovery_points()
    lab.write(0, 200_000, os.urandom(1000))
    lab.zero(0, 5 * MIB, 65536)

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    assert (point.kind, point.parent_id, point.tracking) == ("incremental", first.id, "digest-scan")
    assert first.recovery_point_id in point.tracking_reason
    assert any("scsi.0" in text and "8.0 MiB" in text and first.id in text for text in lab.witness.warnings)
    assert point.report.warnings == tuple(lab.witness.warnings)
    system = next(report for report in point.report.disks.values() if report.label == "scsi.0")
    assert (system.bytes_sent, system.bytes_zeroed) == (65536, 65536)
    assert system.bytes_unchanged == SYSTEM_SIZE - 2 * 65536
    assert system.trusted_point_id == first.id
    assert any(f"7.9 MiB have the digests that they have in point {first.id}" in text for text in lab.witness.warnings)
    assert system.bytes_verified == 2 * 65536
    lab.check_images(point)
    lab.assert_clean(points=2)


async def test_the_capture_after_a_scan_is_tracked_again(lab: Lab) -> None:
    await lab.capture()
    lab.sim.lose_recovery_points()
    await lab.capture()
    lab.write(0, 0, os.urandom(512))

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    assert point.tracking == f"{lab.prism.family}-changed-regions"
    assert lab.witness.warnings == []


async def test_full_on_lost_tracking_makes_a_point_that_stands_alone(lab: Lab) -> None:
    await lab.capture()
    lab.sim.lose_recovery_points()

    point = await lab.capture(on_lost_tracking="full")

    assert lab.stored(point) == lab.guest()
    assert (point.kind, point.parent_id, point.tracking) == ("full", None, "allocated")
    assert {disk.backing for disk in point.disks} == {""}
    assert all("no longer has recovery point" in text for text in lab.witness.warnings)
    lab.assert_clean(points=2)


async def test_fail_on_lost_tracking_leaves_everything_as_it_was(lab: Lab) -> None:
    await lab.capture()
    lab.sim.lose_recovery_points()

    with pytest.raises(NtxError, match="--on-lost-tracking"):
        await lab.capture(on_lost_tracking="fail")

    assert lab.recovery_points() == []
    assert len(lab.points(lab.vm_id)) == 1
    assert lab.unfinished() == []


async def test_a_cluster_that_cannot_compute_regions_is_read_whole(v4_lab: Lab) -> None:
    lab = v4_lab
    lab.sim.faults.http.append(HttpFault("discover-cluster", status=501, count=-1))

    first = await lab.capture()
    lab.write(0, 0, os.urandom(512))
    second = await lab.capture()

    assert lab.stored(second) == lab.guest()
    assert (first.tracking, second.tracking) == ("full", "digest-scan")
    assert "501" in first.tracking_reason
    assert "501" in second.tracking_reason


async def test_a_busy_cluster_ends_the_capture_instead_of_reading_everything(
    simulator: Simulator, repository: Repository
) -> None:
    short = RetryPolicy(retries=1, first_wait_s=0.05)
    lab = await open_lab(simulator, "v4", repository, attach="hot-add", retry=short)
    await lab.capture()
    lab.sim.faults.http.append(HttpFault("compute-changed-regions", status=503, count=-1))

    with pytest.raises(PrismBusy):
        await lab.capture()

    lab.sim.faults.http.clear()
    lab.assert_clean(points=1)


async def test_regions_past_the_end_of_the_disk_are_refused(lab: Lab) -> None:
    await lab.capture()
    lab.write(0, 0, os.urandom(512))
    lab.sim.faults.regions = "past_end"

    with pytest.raises(PrismAnswerError, match=f"{127 * 512} bytes past the end of the disk"):
        await lab.capture()

    lab.assert_clean(points=1)


async def test_a_disk_whose_file_is_another_one_is_not_compared_with_the_old(v3_hot_add_lab: Lab) -> None:
    lab = v3_hot_add_lab
    await lab.capture()
    other = await lab.repository.newest(lab.vm_id)
    assert other is not None
    system = next(disk for disk in other.disks if disk.label == "scsi.0")
    path = other.path / "point.json"
    on_storage = other.recovery_point_disks[system.disk_id].path
    assert on_storage is not None
    name = on_storage.rsplit("/", 1)[1]
    text = path.read_text(encoding="utf-8").replace(name, "11111111-2222-3333-4444-555555555555")
    path.write_text(text, encoding="utf-8")
    write_sums_anew(other)
    lab.write(0, 0, os.urandom(512))

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    assert point.tracking == "digest-scan"
    assert "the disk's file on storage was 11111111" in point.tracking_reason

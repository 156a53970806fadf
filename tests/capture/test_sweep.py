"""Sweep removes what killed captures of this repository left, and nothing else."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ntxengine.errors import PrismAnswerError, PrismStatusError
from ntxengine.prism.models import AttachedDisk, DiskPoint, RecoveryPoint, Vm
from ntxengine.repository import Repository, cluster_record
from ntxengine.repository.cluster_record import ClusterRecord
from ntxengine.repository.stored import encode_checked
from ntxengine.sim.faults import HttpFault
from ntxengine.sweep import SweepReport, sweep
from ntxengine.units import utc_now
from tests.capture.lab import Lab

POINT_ID = "20260101T000000Z-abcdef"


async def leave_behind(lab: Lab, name: str = "") -> RecoveryPoint:
    """Do what a capture does until it is killed: a record, a recovery point, a hot-added disk, an unfinished point.

    With a name that is not ours: without the record.
    """
    vm = await lab.prism.vm(lab.vm_id)
    is_ours, name = not name, name or f"ntx-{lab.repository.id}-{POINT_ID}"
    point = await lab.prism.create_recovery_point(
        vm, name=name, consistency="crash", expires_at=utc_now() + timedelta(days=1)
    )
    assert lab.sim.worker_id is not None
    await lab.prism.attach_disk(lab.sim.worker_id, point.disks[0])
    folder = lab.repository.path / lab.vm_id
    (folder / f".unfinished-{POINT_ID}").mkdir(parents=True)
    if is_ours:
        sources = tuple(disk.id for disk in point.disks)
        cluster_record.write(folder, ClusterRecord(POINT_ID, name, lab.sim.worker_id, point.id, sources))
    return point


def records(lab: Lab) -> list[str]:
    """Return the points whose traces on the cluster are recorded."""
    return [each.point_id for each in cluster_record.read(lab.repository.path / lab.vm_id).own]


def kinds(report: SweepReport) -> list[str]:
    return sorted(each.kind for each in report.removed)


async def sweep_all(lab: Lab, *, dry_run: bool = False) -> SweepReport:
    return await sweep(lab.prism, lab.repository, attach=lab.attach_options, dry_run=dry_run)


async def test_what_a_killed_capture_left_is_removed_and_the_reference_stays(lab: Lab) -> None:
    await lab.capture()
    await leave_behind(lab)

    report = await sweep_all(lab)

    assert kinds(report) == ["disk", "recovery-point", "unfinished-point"]
    assert report.problems == []
    lab.assert_clean(points=1)
    assert kinds(await sweep_all(lab)) == []


async def test_a_dry_run_says_the_same_and_removes_nothing(v4_lab: Lab) -> None:
    lab = v4_lab
    await leave_behind(lab)

    report = await sweep_all(lab, dry_run=True)

    assert kinds(report) == ["disk", "recovery-point", "unfinished-point"]
    assert (len(lab.hot_added()), len(lab.recovery_points()), len(lab.unfinished())) == (1, 1, 1)


async def test_what_others_made_is_never_touched(v4_lab: Lab, tmp_path: Path) -> None:
    lab = v4_lab
    other = await Repository.create(tmp_path / "other")
    for name in ("nightly", f"ntx-{other.id}-20260101T000000Z-abcdef", f"ntx-{lab.repository.id}x-1"):
        await leave_behind(lab, name)
        shutil.rmtree(lab.repository.path / lab.vm_id)

    report = await sweep_all(lab)

    assert report.removed == []
    assert (len(lab.hot_added()), len(lab.recovery_points())) == (3, 3)


async def test_what_merely_has_our_name_is_told_of_and_left_alone(v4_lab: Lab) -> None:
    lab = v4_lab
    point = await leave_behind(lab, f"ntx-{lab.repository.id}-20260101T000000Z-123456")

    report = await sweep_all(lab)

    assert kinds(report) == ["unfinished-point"]
    assert [(each.kind, each.id) for each in report.not_recorded] == [("recovery-point", point.id)]
    assert (len(lab.hot_added()), len(lab.recovery_points())) == (1, 1)


async def test_a_vm_that_is_being_captured_is_left_alone(v4_lab: Lab) -> None:
    lab = v4_lab
    await leave_behind(lab)

    async with lab.repository.lock(lab.vm_id):
        report = await sweep_all(lab)

    assert (report.removed, report.locked_vms) == ([], [lab.vm_id])
    assert (len(lab.hot_added()), len(lab.recovery_points()), len(lab.unfinished())) == (1, 1, 1)


async def test_what_cannot_be_removed_does_not_keep_the_rest(v4_lab: Lab) -> None:
    lab = v4_lab
    stuck = await leave_behind(lab)
    lab.sim.faults.http.append(HttpFault(stuck.id, method="DELETE", status=400, count=-1))

    report = await sweep_all(lab)

    assert kinds(report) == ["disk", "unfinished-point"]
    assert len(report.problems) == 1
    assert stuck.id in report.problems[0]


async def test_a_disk_that_cannot_be_removed_does_not_keep_the_recovery_point(v4_lab: Lab) -> None:
    lab = v4_lab
    await leave_behind(lab)
    (disk_id,) = lab.sim.world.state.clones
    lab.sim.faults.http.append(HttpFault(disk_id, method="DELETE", status=400, count=-1))

    point = await lab.capture()

    assert lab.recovery_points() == [f"ntx-{lab.repository.id}-{point.id}"]
    assert any(disk_id in warning and "ntx sweep" in warning for warning in lab.witness.warnings)
    assert records(lab) == [POINT_ID, point.id]
    lab.sim.faults.http.clear()
    assert kinds(await sweep_all(lab)) == ["disk"]
    assert records(lab) == [point.id]


async def test_without_a_cluster_only_the_repository_is_swept(v4_lab: Lab) -> None:
    lab = v4_lab
    await leave_behind(lab)

    report = await sweep(None, lab.repository)
    later = await sweep(lab.prism, lab.repository)

    assert kinds(report) == ["unfinished-point"]
    assert kinds(later) == ["disk", "recovery-point"]
    lab.assert_clean(points=0)
    assert records(lab) == []


async def test_what_a_killed_capture_left_is_removed_by_the_next_capture_of_the_vm(lab: Lab) -> None:
    await lab.capture()
    await leave_behind(lab)

    await lab.capture()

    lab.assert_clean(points=2)
    assert lab.witness.warnings == []
    assert records(lab) == [lab.points()[-1].id]


async def test_what_is_about_to_be_made_is_recorded_before_it_is_asked_for(v4_lab: Lab) -> None:
    lab = v4_lab
    at_the_request: list[str] = []

    class Sees(type(lab.prism)):  # type: ignore[misc]
        async def create_recovery_point(self, vm: Vm, *, name: str, **how: Any) -> RecoveryPoint:
            at_the_request.extend(f"ntx-{lab.repository.id}-{point_id}" for point_id in records(lab))
            assert at_the_request == [name]
            return await super().create_recovery_point(vm, name=name, **how)  # type: ignore[no-any-return]

    lab.prism.__class__ = Sees

    await lab.capture()

    assert len(at_the_request) == 1


async def test_a_record_without_an_id_stays_until_what_it_tells_of_can_be_seen(v4_lab: Lab) -> None:
    lab = v4_lab
    folder = lab.repository.path / lab.vm_id
    folder.mkdir()
    old, new = POINT_ID, f"{utc_now():%Y%m%dT%H%M%SZ}-abcdef"
    for point_id in (old, new):
        cluster_record.write(folder, ClusterRecord(point_id, f"ntx-{lab.repository.id}-{point_id}", ""))

    report = await sweep_all(lab)

    assert (report.removed, records(lab)) == ([], [new])


async def test_a_record_stays_while_a_clone_that_was_asked_for_may_come_yet(v4_lab: Lab) -> None:
    lab = v4_lab
    point = await leave_behind(lab)
    folder = lab.repository.path / lab.vm_id
    (record,) = cluster_record.read(folder).own
    cluster_record.write(folder, replace(record, attached_at=utc_now()))

    await sweep_all(lab)
    assert (records(lab), lab.recovery_points(), lab.hot_added()) == ([POINT_ID], [], [])
    cluster_record.write(folder, replace(record, attached_at=utc_now() - 2 * cluster_record.SETTLED_AFTER))
    await sweep_all(lab)

    assert records(lab) == []
    assert point.disks


@pytest.mark.parametrize("kind", ["answer", "cancelled"])
async def test_a_hot_add_of_which_nobody_knows_keeps_the_record(v4_lab: Lab, kind: str) -> None:
    lab = v4_lab

    class Lost(type(lab.prism)):  # type: ignore[misc]
        async def attach_disk(self, worker_id: str, disk: DiskPoint) -> AttachedDisk:
            raise PrismAnswerError("lost") if kind == "answer" else asyncio.CancelledError

    lab.prism.__class__ = Lost

    with pytest.raises((PrismAnswerError, asyncio.CancelledError)):
        await lab.capture()

    assert len(records(lab)) == 1
    assert lab.recovery_points() == []


async def test_the_record_of_a_committed_point_is_settled(v4_lab: Lab) -> None:
    await v4_lab.capture()

    (record,) = cluster_record.read(v4_lab.repository.path / v4_lab.vm_id).own

    assert record.attached_at is None


async def test_a_failed_capture_leaves_no_record(v4_lab: Lab) -> None:
    lab = v4_lab
    lab.sim.faults.http.append(HttpFault("/disks$", method="POST", status=400, count=-1))

    with pytest.raises(PrismStatusError):
        await lab.capture(parallel=1)

    lab.assert_clean(points=0)
    assert records(lab) == []


async def test_the_record_of_what_could_not_be_undone_stays(v4_lab: Lab) -> None:
    lab = v4_lab
    lab.sim.faults.http.append(HttpFault("/disks$", method="POST", status=400, count=-1))
    lab.sim.faults.http.append(HttpFault("recovery-points", method="DELETE", status=400, count=-1))
    with pytest.raises(PrismStatusError):
        await lab.capture(parallel=1)
    lab.sim.faults.http.clear()

    report = await sweep_all(lab)

    assert kinds(report) == ["recovery-point"]
    assert records(lab) == []


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"format":"ntxengine-cluster-record","version":9,"record":{}}'])
async def test_a_record_that_cannot_be_read_is_named_and_removes_nothing(damage: bytes, v4_lab: Lab) -> None:
    lab = v4_lab
    await leave_behind(lab)
    path = next(lab.repository.path.glob("*/.cluster-*"))
    path.write_bytes(damage)

    report = await sweep_all(lab)

    assert str(path) in report.problems[0]
    assert kinds(report) == ["unfinished-point"]
    assert len(lab.recovery_points()) == 1


async def test_a_point_of_an_older_version_is_swept_without_a_record(lab: Lab) -> None:
    first = await lab.capture()
    lab.sim.faults.http.append(HttpFault(first.recovery_point_id, method="DELETE", status=400, count=-1))
    second = await lab.capture()
    lab.sim.faults.http.clear()
    for path in lab.repository.path.glob("*/.cluster-*"):
        path.unlink()

    report = await sweep_all(lab)

    assert [each.id for each in report.removed if each.kind == "recovery-point"] == [first.recovery_point_id]
    assert [point.id for point in lab.sim.world.state.points.values()] == [second.recovery_point_id]


async def test_the_reference_of_an_older_version_is_released_without_a_record(lab: Lab) -> None:
    await lab.capture()
    for path in lab.repository.path.glob("*/.cluster-*"):
        path.unlink()

    await lab.capture()

    lab.assert_clean(points=2)


async def test_the_disks_of_a_worker_that_was_restored_from_a_recovery_point_are_not_removed(v4_lab: Lab) -> None:
    lab = v4_lab
    await leave_behind(lab)
    path = next(lab.repository.path.glob("*/.cluster-*"))
    document = json.loads(path.read_text().replace(lab.sim.worker_id, lab.vm_id))
    del document["check"]
    path.write_bytes(encode_checked(document))

    report = await sweep_all(lab)

    assert "restored from one" in report.problems[0]
    assert len(lab.hot_added()) == 1

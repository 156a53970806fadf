"""Sweep removes what killed captures of this repository left, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from ntxengine.prism.models import RecoveryPoint
from ntxengine.repository import Repository
from ntxengine.sim.faults import HttpFault
from ntxengine.sweep import SweepReport, sweep
from ntxengine.units import utc_now
from tests.capture.lab import Lab


async def leave_behind(lab: Lab, name: str) -> RecoveryPoint:
    """Do what a capture does until it is killed: a recovery point, a hot-added disk, an unfinished point."""
    vm = await lab.prism.vm(lab.vm_id)
    point = await lab.prism.create_recovery_point(
        vm, name=name, consistency="crash", expires_at=utc_now() + timedelta(days=1)
    )
    assert lab.sim.worker_id is not None
    await lab.prism.attach_disk(lab.sim.worker_id, point.disks[0])
    (lab.repository.path / lab.vm_id / ".unfinished-20260101T000000Z-abcdef").mkdir(parents=True)
    return point


def kinds(report: SweepReport) -> list[str]:
    return sorted(each.kind for each in report.removed)


async def sweep_all(lab: Lab, *, dry_run: bool = False) -> SweepReport:
    return await sweep(lab.prism, lab.repository, worker_id=lab.sim.worker_id, dry_run=dry_run)


async def test_what_a_killed_capture_left_is_removed_and_the_reference_stays(lab: Lab) -> None:
    await lab.capture()
    await leave_behind(lab, f"ntx-{lab.repository.id}-20260101T000000Z-abcdef")

    report = await sweep_all(lab)

    assert kinds(report) == ["disk", "recovery-point", "unfinished-point"]
    assert report.problems == []
    lab.assert_clean(points=1)
    assert kinds(await sweep_all(lab)) == []


async def test_a_dry_run_says_the_same_and_removes_nothing(v4_lab: Lab) -> None:
    lab = v4_lab
    await leave_behind(lab, f"ntx-{lab.repository.id}-20260101T000000Z-abcdef")

    report = await sweep_all(lab, dry_run=True)

    assert kinds(report) == ["disk", "recovery-point", "unfinished-point"]
    assert (len(lab.hot_added()), len(lab.recovery_points()), len(lab.unfinished())) == (1, 1, 1)


async def test_what_others_made_is_never_touched(v4_lab: Lab, tmp_path: Path) -> None:
    lab = v4_lab
    other = Repository.create(tmp_path / "other")
    for name in ("nightly", f"ntx-{other.id}-20260101T000000Z-abcdef", f"ntx-{lab.repository.id}x-1"):
        await leave_behind(lab, name)
        lab.unfinished()[0].rmdir()

    report = await sweep_all(lab)

    assert report.removed == []
    assert (len(lab.hot_added()), len(lab.recovery_points())) == (3, 3)


async def test_a_vm_that_is_being_captured_is_left_alone(v4_lab: Lab) -> None:
    lab = v4_lab
    await leave_behind(lab, f"ntx-{lab.repository.id}-20260101T000000Z-abcdef")
    mine = Repository.open(lab.repository.path)

    with mine.lock(lab.vm_id):
        report = await sweep_all(lab)

    assert (report.removed, report.locked_vms) == ([], [lab.vm_id])
    assert (len(lab.hot_added()), len(lab.recovery_points()), len(lab.unfinished())) == (1, 1, 1)


async def test_what_cannot_be_removed_does_not_keep_the_rest(v4_lab: Lab) -> None:
    lab = v4_lab
    stuck = await leave_behind(lab, f"ntx-{lab.repository.id}-20260101T000000Z-abcdef")
    lab.sim.faults.http.append(HttpFault(stuck.id, method="DELETE", status=400, count=-1))

    report = await sweep_all(lab)

    assert kinds(report) == ["disk", "unfinished-point"]
    assert len(report.problems) == 1
    assert stuck.id in report.problems[0]


async def test_without_a_cluster_only_the_repository_is_swept(v4_lab: Lab) -> None:
    lab = v4_lab
    await leave_behind(lab, f"ntx-{lab.repository.id}-20260101T000000Z-abcdef")

    report = await sweep(None, lab.repository)

    assert kinds(report) == ["unfinished-point"]
    assert len(lab.recovery_points()) == 1

"""What a point says of itself once all of its disks are captured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ntxengine.capture.disk import CapturedDisk
from ntxengine.capture.freeze import Frozen
from ntxengine.capture.options import ConsistencyChoice
from ntxengine.capture.plan import CapturePlan, stored_disk_point
from ntxengine.capture.report import point_tracking, stored_cluster, stored_guest_tools
from ntxengine.repository import CaptureReport, PointRecord, StoredMember, StoredResume
from ntxengine.units import utc_now


def point_record(
    plan: CapturePlan,
    point_id: str,
    frozen: Frozen,
    disks: Mapping[str, CapturedDisk],
    *,
    consistency_requested: ConsistencyChoice,
    source: str,
    together: Sequence[StoredMember],
    resume: StoredResume | None,
    warnings: tuple[str, ...],
    stages_s: dict[str, float],
    seconds: float,
) -> PointRecord:
    """Return the record of a point.  `resume` is that of an interrupted capture that was gone on with, if any was."""
    reports = {disk_id: captured.report for disk_id, captured in disks.items()}
    is_incremental = any(report.incremental for report in reports.values())
    tracking, tracking_reason = point_tracking(reports.values())
    report = CaptureReport(
        disks=reports,
        excluded=plan.vm.excluded,
        consistency_reason=frozen.consistency_reason,
        warnings=warnings,
        stages_s=stages_s,
        seconds=seconds,
        quiescing=plan.quiescing if frozen.point.consistency == "application" else "",
        guest_tools=resume.guest_tools if resume else stored_guest_tools(plan.vm.guest_tools),
        cluster=stored_cluster(plan.cluster, plan.way),
        source=source,
        resumed=resume.times if resume else 0,
    )
    return PointRecord(
        id=point_id,
        vm_id=plan.vm.id,
        vm_name=plan.vm.name,
        created_at=frozen.point.created_at or utc_now(),
        parent_id=plan.parent.id if plan.parent is not None and is_incremental else None,
        kind="incremental" if is_incremental else "full",
        consistency_requested=consistency_requested,
        consistency_obtained=frozen.point.consistency,
        tracking=tracking,
        tracking_reason=tracking_reason,
        recovery_point_id=frozen.point.id,
        recovery_point_disks={disk_id.lower(): stored_disk_point(disk) for disk_id, disk in frozen.disks.items()},
        disks=tuple(captured.disk for captured in disks.values()),
        report=report,
        together=tuple(together),
    )

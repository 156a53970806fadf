"""Unfinished points in a repository, what is left of points that were removed, and folders of VMs that hold nothing."""

from __future__ import annotations

from ntxengine.repository import Repository
from ntxengine.sweep.report import SweepReport, Swept
from ntxengine.units import utc_now


async def sweep_repository(repository: Repository, report: SweepReport, *, gives_up: bool) -> None:
    """Remove what no running capture needs, and no next one; `gives_up`: also what that could go on with.

    A VM that is being captured is left alone.
    """
    now = utc_now()
    found = await repository.sweep(
        dry_run=report.dry_run, is_kept=lambda each: not gives_up and (each.can_be_resumed(now) or each.is_of_sync)
    )
    report.resumable += [Swept("unfinished-point", each.point_id, str(each.path), each.vm_id) for each in found.kept]
    for vm_id, point_id in found.unfinished:
        report.removed.append(Swept("unfinished-point", point_id, f"{vm_id}/{point_id}", vm_id))
    for vm_id, point_id in found.removed:
        report.removed.append(Swept("removed-point", point_id, f"{vm_id}/{point_id}", vm_id))
    report.removed += [Swept("unfinished-file", str(path), path.name, path.parent.parent.name) for path in found.maps]
    report.removed += [Swept("unfinished-file", str(path), path.name, "") for path in found.files]
    report.removed += [Swept("empty-folder", str(path), path.name, path.name) for path in found.empty_folders]
    report.problems += found.problems

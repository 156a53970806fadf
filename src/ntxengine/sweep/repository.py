"""Unfinished points in a repository, and folders of VMs that hold nothing."""

from __future__ import annotations

from ntxengine.repository import Repository
from ntxengine.sweep.report import SweepReport, Swept


async def sweep_repository(repository: Repository, report: SweepReport) -> None:
    """Remove what no running capture needs.  A VM that is being captured is left alone."""
    found = await repository.sweep(dry_run=report.dry_run)
    for vm_id, point_id in found.unfinished:
        report.removed.append(Swept("unfinished-point", point_id, f"{vm_id}/{point_id}", vm_id))
    report.removed += [Swept("unfinished-file", str(path), path.name, "") for path in found.files]
    report.removed += [Swept("empty-folder", str(path), path.name, path.name) for path in found.empty_folders]
    report.problems += found.problems

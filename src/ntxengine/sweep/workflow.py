"""Removing what a killed capture left: on the cluster and on the worker VM first, then here."""

from __future__ import annotations

from ntxengine.attach import AttachOptions
from ntxengine.prism.cluster import Prism
from ntxengine.repository import Repository
from ntxengine.sweep.cluster import ClusterSweep
from ntxengine.sweep.report import SweepReport
from ntxengine.sweep.repository import sweep_repository


async def sweep(
    prism: Prism | None, repository: Repository, *, attach: AttachOptions | None = None, dry_run: bool = False
) -> SweepReport:
    """Remove what no running capture and no next capture needs.

    Without `prism` only the repository is swept.  What was left attached is looked for where it is recorded, and
    where `attach` says.  A thing that cannot be removed is reported in `problems` and does not keep the others from
    being removed.
    Errors: PrismError (the cluster cannot even be listed), RepositoryError (also: it is a copy, see site.py).
    """
    report = SweepReport(dry_run)
    if prism is not None:
        await ClusterSweep(prism, repository, attach or AttachOptions(), report).run()
    sweep_repository(repository, report)
    return report

"""Removing what a killed capture left: on the cluster and on the worker VM first, then here."""

from __future__ import annotations

from collections.abc import Sequence

from ntxengine.attach import AttachOptions
from ntxengine.events import OnEvent, Removed, Stage, StageBegan, log_event
from ntxengine.prism.cluster import Prism
from ntxengine.repository import Repository
from ntxengine.sweep.cluster import ClusterSweep
from ntxengine.sweep.report import SweepReport, Swept
from ntxengine.sweep.repository import sweep_repository


async def sweep(
    prism: Prism | None,
    repository: Repository,
    *,
    attach: AttachOptions | None = None,
    gives_up: bool = False,
    dry_run: bool = False,
    on_event: OnEvent = log_event,
) -> SweepReport:
    """Remove what no running capture and no next capture needs.

    An interrupted capture that the next one can go on with is needed, until its recovery point expires or, with
    `gives_up`, it is not wanted any more.
    Without `prism` only the repository is swept.  What was left attached is looked for where it is recorded, and
    where `attach` says.  A thing that cannot be removed is reported in `problems` and does not keep the others from
    being removed.
    Errors: PrismError (the cluster cannot even be listed), RepositoryError (also: it is a copy, see site.py); what
            `on_event` raises: the rest is left to the next sweep.
    """
    report = SweepReport(dry_run)
    on_event(StageBegan(stage=Stage.SWEEP))
    if prism is not None:
        await ClusterSweep(prism, repository, attach or AttachOptions(), report, gives_up=gives_up).run()
    on_cluster = len(report.removed)
    _tell(report.removed, report, on_event)
    await sweep_repository(repository, report, gives_up=gives_up)
    _tell(report.removed[on_cluster:], report, on_event)
    return report


def _tell(removed: Sequence[Swept], report: SweepReport, on_event: OnEvent) -> None:
    for swept in removed:
        on_event(Removed(vm_id=swept.vm_id, kind=swept.kind, id=swept.id, name=swept.name, dry_run=report.dry_run))

"""Jobs that capture: a run captures, then forgets what no rule keeps, then gives its space back.

What goes wrong after the capture is told as a problem of the run: the point is there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ntxengine.agent.jobs import JobVm, Outcome
from ntxengine.agent.kinds import CAPTURE
from ntxengine.agent.records import Figures, Kept
from ntxengine.agent.work import Site, Work, vm_of
from ntxengine.attach import AttachOptions
from ntxengine.capture import CaptureOptions, capture
from ntxengine.config import meaning
from ntxengine.config.file import Config
from ntxengine.config.jobs import Job
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.errors import NtxError, OptionsError
from ntxengine.events import OnEvent
from ntxengine.prune import PruneOptions, prune
from ntxengine.repository import Point, Repository
from ntxengine.retention import Policy, forget_by_policy


@dataclass(frozen=True)
class CaptureJob(Work):
    """How the VMs of a job are captured.

    `policy` says what is to stay, None: everything; `pruning`, how space is given back after forgetting, None: not at
    all.
    """

    kind = CAPTURE

    repository: Path
    options: CaptureOptions = field(default_factory=CaptureOptions)
    attach: AttachOptions = field(default_factory=AttachOptions)
    worker: str = ""
    policy: Policy | None = None
    pruning: PruneOptions | None = None

    @classmethod
    def of(cls, config: Config, job: Job, limit: Bandwidth) -> CaptureJob:
        """Return what a job of the configuration means; it keeps to `limit`.  Errors: OptionsError."""
        backup = config.backup_of(job)
        repository = meaning.repository_of(config, job)
        if repository is None:
            raise OptionsError(f"job {job.name!r} has no repository: give it one, or backup.repository")
        policy = pruning = None
        if job.retention is not None:
            policy = meaning.policy_of(job.retention, job.timezone)
            pruning = meaning.prune_options(job.retention, limit)
        return cls(
            repository,
            meaning.capture_options(backup, limit, at_once=config.performance.max_concurrent_vms),
            meaning.attach_options(backup),
            worker=backup.worker or "",
            policy=policy,
            pruning=pruning,
        )

    @property
    def folder(self) -> Path:
        """As Work.folder."""
        return self.repository

    async def run(self, site: Site, vm: JobVm, on_event: OnEvent) -> Outcome:
        """As Work.run.  Errors: as capture."""
        point = await capture(
            site.prism,
            site.repository,
            vm_of(vm),
            options=dataclasses.replace(self.options, captures_at_once=site.at_once),
            attacher=site.attacher,
            on_event=on_event,
        )
        return Outcome(point.id, point.created_at, figures_of(point), dict(point.report.stages_s))

    async def follow_up(self, repository: Repository, vm: JobVm, outcome: Outcome, on_event: OnEvent) -> Outcome:
        """As Work.follow_up: forget and prune."""
        kept, problems = await _keep(repository, self, vm.id, on_event)
        return dataclasses.replace(outcome, kept=kept, problems=problems)


async def _keep(
    repository: Repository, work: CaptureJob, vm_id: str, on_event: OnEvent
) -> tuple[Kept | None, tuple[str, ...]]:
    """Forget and prune; return what that did, and what went wrong."""
    if work.policy is None:
        return None, ()
    try:
        decision = await forget_by_policy(repository, vm_id, work.policy)
    except NtxError as error:
        return None, (f"forgetting: {error}",)
    forgotten = len(decision.forgotten)
    if work.pruning is None:
        return Kept(forgotten), ()
    try:
        report = await prune(repository, [vm_id], options=work.pruning, on_event=on_event)
    except NtxError as error:
        return Kept(forgotten), (f"pruning: {error}",)
    removed = sum(len(each.removed) for each in report.vms)
    problems = tuple(f"pruning: {problem}" for each in report.vms for problem in each.problems)
    return Kept(forgotten, removed, max(0, report.bytes_freed)), problems


def figures_of(point: Point) -> Figures:
    """Return what the history keeps of a point's report."""
    disks = list(point.report.disks.values())
    tracked = [disk for disk in disks if disk.incremental or disk.tracking == "digest-scan"]
    packed = [disk for disk in disks if disk.compression]
    size, sent = point.size, _sum(disk.bytes_sent for disk in disks)
    slowest = max(disks, key=lambda disk: disk.seconds or 0.0, default=None)
    return Figures(
        kind=point.kind,
        tracking=point.tracking,
        consistency=point.consistency_obtained,
        bytes_size=size,
        bytes_changed=_sum(disk.bytes_changed for disk in disks),
        bytes_read=_sum(disk.bytes_read for disk in disks),
        bytes_sent=sent,
        bytes_stored=_sum(disk.bytes_stored for disk in disks),
        reduction_percent=round(max(0.0, 100.0 * (1 - sent / size)), 2) if size else 0.0,
        bottleneck="" if slowest is None else slowest.bottleneck or "",
        resumed=point.report.resumed or 0,
        bytes_tracked=_sum(disk.size for disk in tracked),
        bytes_tracked_changed=_sum(disk.bytes_changed for disk in tracked),
        bytes_to_pack=_sum(disk.bytes_sent for disk in packed),
        bytes_packed=_sum(disk.bytes_stored for disk in packed),
    )


def _sum(amounts: Iterable[int | None]) -> int:
    return sum(each or 0 for each in amounts)

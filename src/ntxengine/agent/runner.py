"""One run by the use cases: capture, then forget what no rule keeps, then give its space back.

What goes wrong after the capture is told as a problem of the run: the point is there.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ntxengine.agent.connection import Connection
from ntxengine.agent.jobs import JobVm, Outcome
from ntxengine.agent.records import Figures, Kept
from ntxengine.agent.repositories import KnownRepositories, Repositories
from ntxengine.agent.retries import WorkerUnusable
from ntxengine.api.cluster import find_vm
from ntxengine.attach import Attachers, AttachOptions, choose_attacher
from ntxengine.capture import CaptureOptions, capture
from ntxengine.errors import (
    AttachError,
    LockedError,
    NotFoundError,
    NtxError,
    PrismStatusError,
    RepositoryError,
    TargetError,
    TaskFailed,
)
from ntxengine.events import OnEvent
from ntxengine.prism import Cluster, Vm
from ntxengine.prune import PruneOptions, prune
from ntxengine.repository import Point, Repository
from ntxengine.retention import Policy, forget_by_policy

LOCKED_FOR_S = 120.0
"""How long a run waits for a VM that somebody else works on."""

LOOK_S = 0.5


@dataclass(frozen=True)
class CaptureJob:
    """How the VMs of a job are captured.

    `worker` names this machine as a VM, "" if it is none.  `policy` says what is to stay, None: everything; `pruning`,
    how space is given back after forgetting, None: not at all.
    """

    repository: Path
    options: CaptureOptions = field(default_factory=CaptureOptions)
    attach: AttachOptions = field(default_factory=AttachOptions)
    worker: str = ""
    policy: Policy | None = None
    pruning: PruneOptions | None = None


class CaptureRunner:
    """Does runs of these jobs, by name, over one connection."""

    def __init__(
        self, connection: Connection, jobs: Mapping[str, CaptureJob], known: KnownRepositories, *, at_once: int = 1
    ) -> None:
        """`at_once` runs share one budget of buffers."""
        self._connection = connection
        self._jobs = jobs
        self._repositories = Repositories(known)
        self._at_once = at_once
        self._attachers: dict[str, tuple[Cluster, Attachers]] = {}
        self._workers: dict[str, str] = {}

    async def run(self, job: str, vm: JobVm, on_event: OnEvent) -> Outcome:
        """Do one run.  Errors: RepositoryUnusable, WorkerUnusable; as prism.connect, choose_attacher and capture."""
        work = self._jobs[job]
        async with self._connection.use() as cluster:
            attacher = await self._attacher(job, work, cluster)
            # After Prism: a mistyped password leaves no empty repository.
            repository = await self._repositories.open(work.repository)
            try:
                point = await self._capture(cluster, repository, work, attacher, vm, on_event)
            except (AttachError, NotFoundError, PrismStatusError, TaskFailed) as error:
                await self._check_worker(job, cluster, error)
                raise
            except (RepositoryError, TargetError, OSError):
                await self._repositories.open(work.repository)  # it may have gone meanwhile
                raise
        kept, problems = await _keep(repository, work, vm.id, on_event)
        return Outcome(point.id, point.created_at, figures_of(point), dict(point.report.stages_s), kept, problems)

    async def _capture(
        self,
        cluster: Cluster,
        repository: Repository,
        work: CaptureJob,
        attacher: Attachers,
        vm: JobVm,
        on_event: OnEvent,
    ) -> Point:
        """Capture the VM, once nobody else works on it: the sweep after a start does, or a person, for a while."""
        options = dataclasses.replace(work.options, captures_at_once=self._at_once)
        until_s = asyncio.get_running_loop().time() + LOCKED_FOR_S
        while True:
            try:
                return await capture(
                    cluster.prism, repository, _vm(vm), options=options, attacher=attacher, on_event=on_event
                )
            except LockedError:
                if asyncio.get_running_loop().time() >= until_s:
                    raise
                await asyncio.sleep(LOOK_S)

    async def _attacher(self, job: str, work: CaptureJob, cluster: Cluster) -> Attachers:
        """Return the attacher of a job, found once for each connection."""
        known = self._attachers.get(job)
        if known is not None and known[0] is cluster:
            return known[1]
        worker_id = work.attach.worker_id
        if work.worker:
            try:
                worker_id = (await find_vm(cluster, work.worker)).id
            except NotFoundError as exc:
                raise WorkerUnusable(f"the worker VM, this machine: {exc}") from exc
        options = dataclasses.replace(work.attach, worker_id=worker_id)
        attacher = await choose_attacher(cluster.prism, cluster.findings, options)
        self._attachers[job] = cluster, attacher
        self._workers[job] = worker_id
        return attacher

    async def _check_worker(self, job: str, cluster: Cluster, error: NtxError) -> None:
        """Say that it is the worker VM that is gone, if it is.  Errors: WorkerUnusable."""
        worker_id = self._workers.get(job)
        if not worker_id:
            return
        try:
            await cluster.prism.vm(worker_id)
        except NotFoundError as exc:
            self._attachers.pop(job, None)  # there may be another one of its name
            raise WorkerUnusable(f"the worker VM, this machine: {exc}") from error
        except NtxError:
            return


def _vm(vm: JobVm) -> Vm:
    """Return a VM as capture takes it, which reads all but id and name anew."""
    return Vm(vm.id, vm.name, "unknown", "", None, ())


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

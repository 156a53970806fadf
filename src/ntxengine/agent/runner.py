"""Runs of jobs, over one connection to the cluster: what a run does is the work of its job (work.py)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping

from ntxengine.agent.connection import Connection
from ntxengine.agent.jobs import JobVm, Outcome
from ntxengine.agent.repositories import KnownRepositories, Repositories
from ntxengine.agent.retries import WorkerUnusable
from ntxengine.agent.work import Site, Work
from ntxengine.api.cluster import find_vm
from ntxengine.attach import Attachers, choose_attacher
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
from ntxengine.prism import Cluster
from ntxengine.repository import Repository

LOCKED_FOR_S = 120.0
"""How long a run waits for a VM that somebody else works on."""

LOOK_S = 0.5


class WorkRunner:
    """Does runs of these jobs, by name, over one connection."""

    def __init__(
        self, connection: Connection, works: Mapping[str, Work], known: KnownRepositories, *, at_once: int = 1
    ) -> None:
        """`at_once` runs share one budget of buffers."""
        self._connection = connection
        self._works = works
        self._repositories = Repositories(known)
        self._at_once = at_once
        self._attachers: dict[str, tuple[Cluster, Attachers]] = {}
        self._workers: dict[str, str] = {}

    async def run(self, job: str, vm: JobVm, on_event: OnEvent) -> Outcome:
        """Do one run.  Errors: RepositoryUnusable, WorkerUnusable; as prism.connect, choose_attacher, Work.run."""
        work = self._works[job]
        async with self._connection.use() as cluster:
            attacher = await self._attacher(job, work, cluster)
            # After Prism: a mistyped password leaves no empty repository.
            repository = await self._open(work)
            try:
                site = Site(cluster.prism, repository, attacher, self._at_once)
                outcome = await _run_alone(work, site, vm, on_event)
            except (AttachError, NotFoundError, PrismStatusError, TaskFailed) as error:
                await self._check_worker(job, cluster, error)
                raise
            except (RepositoryError, TargetError, OSError):
                await self._open(work)  # it may have gone meanwhile: then no run comes to anything
                raise
        return await work.follow_up(repository, vm, outcome, on_event)

    async def _open(self, work: Work) -> Repository:
        await work.check_place()
        return await self._repositories.open(work.folder, holds=work.holds)

    async def _attacher(self, job: str, work: Work, cluster: Cluster) -> Attachers:
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


async def _run_alone(work: Work, site: Site, vm: JobVm, on_event: OnEvent) -> Outcome:
    """Do it once nobody else works on the VM: the sweep after a start does, or a person, for a while."""
    until_s = asyncio.get_running_loop().time() + LOCKED_FOR_S
    while True:
        try:
            return await work.run(site, vm, on_event)
        except LockedError:
            if asyncio.get_running_loop().time() >= until_s:
                raise
            await asyncio.sleep(LOOK_S)

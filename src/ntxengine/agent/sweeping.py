"""Removing what an agent that was killed left, once after each start, beside the runs.

What an interrupted capture needs to be gone on with stays, and so does all of a VM that is being captured (sweep).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from ntxengine.agent.connection import Connection
from ntxengine.agent.once import Once
from ntxengine.agent.repositories import KnownRepositories
from ntxengine.agent.results import line_of
from ntxengine.agent.retries import PRISM, judge
from ntxengine.agent.work import Work
from ntxengine.api.cluster import find_vm
from ntxengine.attach import AttachOptions
from ntxengine.errors import CredentialsError, NotFoundError, NtxError
from ntxengine.prism import Cluster
from ntxengine.repository import Repository
from ntxengine.sweep import sweep

log = logging.getLogger(__name__)

FIRST_WAIT_S = 60.0
LONGEST_WAIT_S = 3600.0
REFUSED_WAIT_S = 600.0
"""After an account was refused: it must not be locked."""


Current = Callable[[], tuple[Connection, Iterable[Work]]]
"""The connection and the work of the configuration that holds now."""


async def sweep_after_start(current: Current, known: KnownRepositories) -> None:
    """Sweep each repository and state of replicas, and what it recorded on the cluster; until that has worked once."""
    done: set[Path] = set()
    once = Once()
    wait_s = FIRST_WAIT_S
    while True:
        connection, jobs = current()
        left = {job.folder: job for job in jobs if job.folder not in done}
        for path, job in left.items():
            try:
                await _sweep(connection, path, job)
            except NotFoundError as error:
                if known.repository_id(str(path)):  # it is not mounted, perhaps
                    _tell(once, path, error)
                    continue
            except (NtxError, OSError) as error:
                if isinstance(error, CredentialsError):
                    wait_s = max(wait_s, REFUSED_WAIT_S)
                _tell(once, path, error)
                if judge(error).scope == PRISM:
                    break  # it would be the same for the next, and each try is a login
                continue
            done.add(path)
        if done.issuperset(left):
            return
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def _tell(once: Once, path: Path, error: NtxError | OSError) -> None:
    """Say at WARNING what is new; while Prism cannot be used, runs say so."""
    is_told = once.is_new(path, str(error)) and judge(error).scope != PRISM
    level = logging.WARNING if is_told else logging.INFO
    log.log(level, "%s: what was left could not be looked for, and is a while later: %s", path, line_of(error))


async def _sweep(connection: Connection, path: Path, job: Work) -> None:
    repository = await Repository.open(path)
    async with connection.use() as cluster:
        attach = await _attach(cluster, job)
        report = await sweep(cluster.prism, repository, attach=attach)
    for each in report.removed:
        log.warning("%s: removed what was left: %s %s", path, each.kind, each.name or each.id)
    for problem in report.problems:
        log.warning("%s: %s", path, problem)


async def _attach(cluster: Cluster, job: Work) -> AttachOptions:
    """Return where to look for disks that were left attached."""
    if not job.worker:
        return job.attach
    try:
        return dataclasses.replace(job.attach, worker_id=(await find_vm(cluster, job.worker)).id)
    except NotFoundError:
        return job.attach

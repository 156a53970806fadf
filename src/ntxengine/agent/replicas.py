"""How the replicas of the jobs are: read from their states now and then, said once, and told to whoever asks.

A cycle that runs is no news: between two generations is worth a word where nothing brings the replica to its end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ntxengine.agent.jobs import JobVm
from ntxengine.agent.levels import Finding, Level
from ntxengine.agent.once import Once
from ntxengine.agent.work import Work
from ntxengine.errors import NotFoundError, NtxError
from ntxengine.replicate.status import ReplicaStatus, replicas_in
from ntxengine.repository import Repository

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Followed:
    """A VM of a job that replicates, and its replica."""

    job: str
    vm: JobVm
    status: ReplicaStatus


class Replicas:
    """The replicas of VMs that jobs have, as they were at the last look."""

    def __init__(self) -> None:
        self.works: Mapping[str, Work] = {}
        """By job; of these, those that keep replicas are looked at."""
        self.found: tuple[Followed, ...] = ()
        self._once = Once()

    async def look(self, vms: Callable[[str], Sequence[JobVm]]) -> None:
        """Read the states of all replicas, and say what is new; what cannot be read now stays as it was."""
        keeping = {job: work for job, work in self.works.items() if work.replica_id}
        states = {folder: await self._read(folder) for folder in {work.folder for work in keeping.values()}}
        found = []
        for job, work in keeping.items():
            of_work = states[work.folder]
            if of_work is None:
                found += [each for each in self.found if each.job == job]
                continue
            known = {each.vm_id: each for each in of_work if each.id == work.replica_id}
            found += [Followed(job, vm, known[vm.id.lower()]) for vm in vms(job) if vm.id.lower() in known]
        self.found = tuple(found)

    async def _read(self, folder: Path) -> list[ReplicaStatus] | None:
        try:
            every = await replicas_in(await Repository.open(folder))
        except NotFoundError:
            return []  # nothing was replicated yet; or it is not mounted, which runs say
        except (NtxError, OSError) as error:
            if self._once.is_new(folder, str(error)):
                log.warning("%s: how replicas are cannot be read: %s", folder, " ".join(str(error).split()))
            return None
        self._once.is_over(folder)
        return every

    def findings(self) -> list[Finding]:
        """Return what is wrong now."""
        told = []
        for each in self.found:
            status = each.status
            known = "" if status.known is None else f" at {status.known.target}"
            subject = f"replica of VM {each.vm.name}{known}"
            if status.problem:
                told.append(Finding(Level.WARNING, subject, f"its state cannot be read: {status.problem}"))
            elif status.is_doubted:
                text = "gave back something else than what was written: the next cycle reads it, and mends it"
                told.append(Finding(Level.CRITICAL, subject, text))
            elif status.is_between and not status.is_running:
                assert status.pending is not None
                number = status.pending.generation
                text = f"is between generation {number - 1} and {number} until the next cycle comes to its end"
                told.append(Finding(Level.WARNING, subject, text))
        return told

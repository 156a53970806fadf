"""How far replicas are behind: read from their state alone, nobody is asked.

    whole      the target shows generation N, as the VM was at `frozen_at`
    between    a cycle that writes in place is not over: neither N nor N + 1
    nothing    no cycle came to its end yet

What has changed on the cluster since is not known without a recovery point: `bytes_behind` is what a cycle that is not
over said that it is about to write, None where none is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import NotFoundError, OptionsError, RepositoryError
from ntxengine.replicate.state import Intent, Replica, ReplicaState, states_in
from ntxengine.repository import Repository


@dataclass(frozen=True)
class ReplicaStatus:
    """A replica.  `problem` is why its state cannot be read.  `is_running`: a cycle of the VM runs now."""

    id: str
    vm_id: str
    folder: Path
    replica: Replica | None = None
    pending: Intent | None = None
    is_running: bool = False
    problem: str = ""

    @property
    def known(self) -> Replica | Intent | None:
        """What tells whose it is."""
        return self.replica or self.pending

    @property
    def vm_name(self) -> str:
        """What the VM is called, as far as that is known."""
        return self.vm_id if self.known is None else self.known.vm_name

    @property
    def is_between(self) -> bool:
        """Whether the target shows no generation: one was left, and the next is not whole."""
        return self.pending is not None and not self.pending.keeps

    @property
    def is_whole(self) -> bool:
        """Whether the target shows a generation."""
        return self.replica is not None and not self.is_between

    @property
    def is_doubted(self) -> bool:
        """Whether the target gave back something else than what was written."""
        return self.replica is not None and any(disk.is_doubted for disk in self.replica.disks)

    @property
    def bytes_behind(self) -> int | None:
        """See above."""
        return None if self.pending is None else sum(disk.bytes for disk in self.pending.disks)

    def lag(self, now: datetime) -> timedelta | None:
        """Return how old the last whole generation is; None if there was none."""
        return None if self.replica is None else max(timedelta(0), now - self.replica.frozen_at)


async def open_state(path: Path) -> Repository:
    """Open a folder of the state of replicas.  Errors: NotFoundError (there is none); as Repository.open."""
    try:
        return await Repository.open(path)
    except NotFoundError as error:
        raise NotFoundError(
            f"{path}: there is no state of replicas: mount what belongs there, or name the target, or --state, that "
            f"`ntx replicate` was given"
        ) from error


async def replicas_in(state: Repository) -> list[ReplicaStatus]:
    """Return the replicas whose state a folder holds, by the names of their VMs.  One that is damaged has a problem."""
    found = []
    for vm_id in await state.vm_ids():
        is_running = await state.is_locked(vm_id)
        found += await to_thread_joined(_read_all, state.path / vm_id, vm_id, is_running)
    return sorted(found, key=lambda each: (each.vm_name, each.id))


def _read_all(folder: Path, vm_id: str, is_running: bool) -> list[ReplicaStatus]:
    return [_read(each, vm_id, is_running) for each in states_in(folder)]


def _read(state: ReplicaState, vm_id: str, is_running: bool) -> ReplicaStatus:
    replica, pending, problem = None, None, ""
    try:
        replica = state.replica()
        pending = state.pending(replica)
    except RepositoryError as error:
        problem = str(error)
    return ReplicaStatus(state.id, vm_id, state.path, replica, pending, is_running, problem)


async def find_replica(state: Repository, name: str) -> ReplicaStatus:
    """Return the replica that a name means: of a VM, by its name or UUID, or the replica's own id.

    Errors: NotFoundError; OptionsError (several).
    """
    every = await replicas_in(state)
    wanted = name.lower()
    found = [each for each in every if wanted in (each.id, each.vm_id) or name == each.vm_name]
    if not found:
        unread = [each.problem for each in every if each.problem and each.known is None]
        but = f"; whose this is cannot be read: {unread[0]}" if unread else ""
        raise NotFoundError(f"{state.path} has no replica {name[:80]!r}: `ntx replicas` lists what there is{but}")
    if len(found) > 1:
        ids = ", ".join(f"{each.id} ({each.known.target if each.known else each.problem})" for each in found)
        raise OptionsError(f"{name[:80]!r} has several replicas: name one by its id: {ids}")
    return found[0]

"""Other replicas with the same state: their places are not written to, and what they are compared with stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import RepositoryError
from ntxengine.replicate.state import Intent, Replica, ReplicaState, states_in
from ntxengine.replicate.targets.base import Named, Target, TargetDisk
from ntxengine.repository import Repository


async def check_others(state: Repository, target: Target, named: Named, disks: Sequence[TargetDisk]) -> None:
    """Refuse places that another replica is written to, of this VM or of another.  Errors: OptionsError.

    LIMIT: one whose state is in another folder, or is damaged, is not seen.
    """
    if target.has_marks:
        return
    for vm_id in await state.vm_ids():
        for each in states_in(state.path / vm_id):
            if (vm_id, each.id) != (named.vm_id, target.id):
                for other in await to_thread_joined(_known, each):
                    target.check_other(disks, other)


def needed_by_others(state: ReplicaState, warn: Callable[[str], None]) -> frozenset[str]:
    """Return the records of recovery points that other replicas of the VM are compared with."""
    needed = set()
    for each in states_in(state.path.parent):
        if each.id == state.id:
            continue
        try:
            replica = each.replica()
        except RepositoryError as error:
            warn(f"{error}; what it has on the cluster stays there until it expires")
            records = state.path.parent.glob(".cluster-*.json")
            return frozenset(path.name.removeprefix(".cluster-").removesuffix(".json") for path in records)
        if replica is not None:
            needed.add(replica.record_id)
    return frozenset(needed)


def _known(state: ReplicaState) -> list[Replica | Intent]:
    try:
        replica = state.replica()
        return [found for found in (replica, state.pending(replica)) if found is not None]
    except RepositoryError:
        return []

"""Disks of a VM that are not its own: captures attached them to it.  What is known of them is in the repository."""

from __future__ import annotations

from ntxengine.attach import History, find_added_disks
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import Vm
from ntxengine.repository import Point, Repository, cluster_record
from ntxengine.repository.cluster_record import NAME_PREFIX
from ntxengine.repository.scan import vm_folders


async def find_clones(prism: Prism, repository: Repository, vm: Vm, previous: Point | None) -> dict[str, str]:
    """Return what to say of each disk that a capture added to the VM, by disk id.  Errors: PrismError."""
    if all(disk.cloned_from is None for disk in vm.disks):
        return {}  # without reading every record
    history = History(
        recorded=await to_thread_joined(_recorded, repository, vm.id),
        own_disk_ids=frozenset(disk.disk_id for disk in previous.disks) if previous is not None else frozenset(),
        name_prefix=NAME_PREFIX,
    )
    return await find_added_disks(prism, vm, history)


def _recorded(repository: Repository, worker_id: str) -> dict[str, str]:
    """Return what clones on this worker VM come from, with the name of the recovery point."""
    records = [cluster_record.read(folder) for folder in vm_folders(repository.path)]
    return {
        source: record.name
        for each in records
        for record in (*each.own, *each.foreign)
        if record.worker_id == worker_id
        for source in record.sources
    }

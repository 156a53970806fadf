"""Disks of a VM that are not its own: captures attached them to it.  What is known of them is in the repository."""

from __future__ import annotations

from ntxengine.attach import History, find_added_disks
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import Vm
from ntxengine.repository import NAME_PREFIX, Point, Repository


async def find_clones(prism: Prism, repository: Repository, vm: Vm, previous: Point | None) -> dict[str, str]:
    """Return what to say of each disk that a capture added to the VM, by disk id.  Errors: PrismError."""
    if all(disk.cloned_from is None for disk in vm.disks):
        return {}  # without reading every record
    history = History(
        recorded=await _recorded(repository, vm.id),
        own_disk_ids=frozenset(disk.disk_id for disk in previous.disks) if previous is not None else frozenset(),
        name_prefix=NAME_PREFIX,
    )
    return await find_added_disks(prism, vm, history)


async def _recorded(repository: Repository, worker_id: str) -> dict[str, str]:
    """Return what clones on this worker VM come from, with the name of the recovery point."""
    records = [await repository.cluster_records(vm_id) for vm_id in await repository.vm_ids()]
    return {
        source: record.name
        for each in records
        for record in (*each.own, *each.foreign)
        if record.worker_id == worker_id
        for source in record.sources
    }

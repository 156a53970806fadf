"""Disks of a VM that are not its own: clones that captures hot-added to it, because it is a worker VM.

  a record of this repository names the VM as the worker VM, and what the disk comes from   a clone of ours
  the disk comes from a recovery point on the cluster whose name is one of ours             the same, of any repository

A VM that somebody restored from a recovery point of ours has such disks too, and they are its own: a disk that is known
by the second way alone stays where the VM has no other disks, or where its previous point holds it.

LIMIT: a clone whose recovery point is gone, left by a capture into another repository, is taken for a disk of the VM.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import NotFoundError
from ntxengine.prism.models import Disk, Prism, RecoveryPoint, Vm
from ntxengine.repository import Point, Repository, cluster_record
from ntxengine.repository.cluster_record import NAME_PREFIX
from ntxengine.repository.scan import vm_folders


async def find_clones(prism: Prism, repository: Repository, vm: Vm, previous: Point | None) -> dict[str, str]:
    """Return what to say of each disk that a capture added to the VM, by disk id.  Errors: PrismError."""
    clones = [disk for disk in vm.disks if disk.cloned_from is not None]
    if not clones:
        return {}
    recorded = await to_thread_joined(_recorded, repository, vm.id)
    found = {disk.id: recorded[disk.cloned_from] for disk in clones if disk.cloned_from in recorded}
    own = {disk.disk_id for disk in previous.disks} if previous is not None else set()
    doubtful = [disk for disk in clones if disk.id not in found and disk.id.lower() not in own]
    if doubtful and len(clones) < len(vm.disks):
        found |= await _named_like_ours(prism, doubtful)
    return {
        disk.id: f"{disk.label} (hot-added by a capture, from recovery point {found[disk.id]})"
        for disk in clones
        if disk.id in found
    }


def _recorded(repository: Repository, worker_id: str) -> dict[str | None, str]:
    """Return what clones on this worker VM come from, with the name of the recovery point."""
    records = [cluster_record.read(folder) for folder in vm_folders(repository.path)]
    return {
        source: record.name
        for each in records
        for record in (*each.own, *each.foreign)
        if record.worker_id == worker_id
        for source in record.sources
    }


async def _named_like_ours(prism: Prism, clones: list[Disk]) -> dict[str, str]:
    """Return which of the clones come from a recovery point with a name of ours, and that name."""
    wanted = {disk.cloned_from: disk.id for disk in clones}
    found: dict[str, str] = {}
    async for point in _points_of_ours(prism):
        found |= {wanted[disk.id]: point.name for disk in point.disks if disk.id in wanted}
        if len(found) == len(wanted):
            break
    return found


async def _points_of_ours(prism: Prism) -> AsyncIterator[RecoveryPoint]:
    for point in await prism.recovery_points():
        if point.name.startswith(NAME_PREFIX) and point.vm_id:
            try:
                yield await prism.recovery_point(point.id, await prism.vm(point.vm_id))
            except NotFoundError:  # the VM, or by now the recovery point, is gone
                continue

"""Disks of a VM that are clones which captures hot-added to it, because it is a worker VM: found again.

  a record of this repository names the VM as the worker VM, and what the disk comes from   a clone of ours
  the disk comes from a recovery point on the cluster whose name is one of ours             the same, of any repository

Only a clone of the first kind is ever removed.  A VM that somebody restored from a recovery point of ours has such
disks too, and they are its own: a disk that is known by the second way alone stays where the VM has no other disks, or
where its previous point holds it.

LIMIT: a clone whose recovery point is gone, left by a capture into another repository, is taken for a disk of the VM.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

from ntxengine.attach.base import History, Leftover, Leftovers, Trace
from ntxengine.errors import NotFoundError, NtxError
from ntxengine.prism.cluster import HotAddDisks, Prism
from ntxengine.prism.models import AttachedDisk, Disk, RecoveryPoint, Vm


async def leftovers(prism: Prism, trace: Trace, *, also_on: str) -> Leftovers:
    """Return the clones of the recorded disk points on the recorded worker VM, and on the VM `also_on`."""
    found: list[Leftover] = []
    unseen: list[tuple[str, NtxError]] = []
    for worker_id in sorted({trace.worker_id, also_on} - {""}):
        try:
            disks = await _recorded_clones(prism, worker_id, trace)
            if disks and worker_id != trace.worker_id:
                await _check_not_restored(prism, worker_id)
        except NtxError as error:
            unseen.append((f"worker VM {worker_id}", error))
            continue
        found += [Leftover("disk", disk.id, disk.source, partial(prism.detach_disk, disk)) for disk in disks]
    return Leftovers(tuple(found), tuple(unseen))


async def _recorded_clones(prism: HotAddDisks, worker_id: str, trace: Trace) -> list[AttachedDisk]:
    """Return the disks of a worker VM that come from what is recorded; none if that VM is gone."""
    if not trace.sources:
        return []
    try:
        return [disk for disk in await prism.attached_disks(worker_id) if disk.source in trace.sources]
    except NotFoundError:
        return []


async def _check_not_restored(prism: Prism, worker_id: str) -> None:
    """Refuse a VM that only its name makes a worker VM, and all of which comes from recovery points.

    A VM that somebody restored from a recovery point of ours looks like that: its disks are its own.
    """
    clones = {disk.vmdisk_id for disk in await prism.attached_disks(worker_id)}
    if all((disk.vmdisk_id or disk.id) in clones for disk in (await prism.vm(worker_id)).disks):
        raise NtxError(
            "every disk of it comes from a recovery point, so it seems to have been restored from one, and nothing "
            "records that disks were hot-added to it: none is removed; one that was hot-added is removed by hand"
        )


async def added_disks(prism: Prism, vm: Vm, history: History) -> dict[str, str]:
    """Return what to say of each disk that a capture added to the VM, by disk id.  Errors: PrismError."""
    clones = {disk.id: disk.cloned_from for disk in vm.disks if disk.cloned_from is not None}
    found = {disk_id: history.recorded[source] for disk_id, source in clones.items() if source in history.recorded}
    doubtful = [
        disk
        for disk in vm.disks
        if disk.id in clones and disk.id not in found and disk.id.lower() not in history.own_disk_ids
    ]
    if doubtful and len(clones) < len(vm.disks):
        found |= await _named_like_ours(prism, doubtful, history.name_prefix)
    return {
        disk.id: f"{disk.label} (hot-added by a capture, from recovery point {found[disk.id]})"
        for disk in vm.disks
        if disk.id in found
    }


async def _named_like_ours(prism: Prism, clones: list[Disk], name_prefix: str) -> dict[str, str]:
    """Return which of the clones come from a recovery point with a name of ours, and that name."""
    wanted = {disk.cloned_from: disk.id for disk in clones}
    found: dict[str, str] = {}
    async for point in _points_of_ours(prism, name_prefix):
        found |= {wanted[disk.id]: point.name for disk in point.disks if disk.id in wanted}
        if len(found) == len(wanted):
            break
    return found


async def _points_of_ours(prism: Prism, name_prefix: str) -> AsyncIterator[RecoveryPoint]:
    for point in await prism.recovery_points(name_prefix=name_prefix):
        for vm_id in sorted(point.held_vm_ids):
            try:
                yield await prism.recovery_point(point.id, await _with_groups(prism, vm_id))
            except NotFoundError:  # the VM, or by now the recovery point, is gone
                continue


async def _with_groups(prism: Prism, vm_id: str) -> Vm:
    """Return a VM with the disks of its volume groups: the recovery point may hold those too."""
    vm = await prism.vm(vm_id)
    groups = [disk for group in await prism.attached_groups(vm) for disk in group.disks]
    return replace(vm, disks=(*vm.disks, *groups))

"""What callers do to the cluster: make, keep and delete recovery points, hot-add and remove disks.

Each action answers at once with a task; the work runs in the background.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from ntxengine.sim import groups, ids, storage
from ntxengine.sim.config import Family, Power
from ntxengine.sim.groups import Group
from ntxengine.sim.model import Clone, Entity, FrozenFile, GroupPoint, LiveFile, Point, Task, Vm, VmPoint
from ntxengine.sim.tasks import TaskFailure
from ntxengine.sim.world import World

SCSI_SLOTS = 256
"""Disks that one VM can have on its SCSI bus."""

CRASH = "CRASH_CONSISTENT"
APPLICATION = "APPLICATION_CONSISTENT"


@dataclass(frozen=True)
class PointSpec:
    """What is asked of a new recovery point."""

    family: Family
    name: str
    consistency: str
    expires: float | None
    vms: tuple[Vm, ...]
    groups: tuple[Group, ...] = ()
    id: str = ""


@dataclass(frozen=True)
class CloneSource:
    """What a hot-added disk is a clone of, and how the caller named it."""

    file: FrozenFile
    vm_point: str = ""
    group_point: str = ""
    disk_point: str = ""
    path: str = ""


def create_point(world: World, spec: PointSpec) -> tuple[Point, Task]:
    """Freeze all disks of all VMs and volume groups of `spec` at one moment."""
    serial = world.state.next_snapshot
    world.state.next_snapshot += 1
    cluster = ids.number(world.config.cluster_name, "cluster")
    incarnation = 1_500_000_000_000_000 + ids.number(world.config.cluster_name, "incarnation") % 10**14
    triple = f"{cluster}-{incarnation}-{serial}"
    point = Point(
        id=spec.id or ids.fresh(),
        family=spec.family,
        name=spec.name,
        requested=spec.consistency,
        obtained=_consistency(world, spec),
        created=world.clock(),
        expires=spec.expires,
        triple=triple,
        task="",
    )

    async def work(task: Task) -> None:
        if point.obtained == "":
            raise TaskFailure("Failed to quiesce the guest: Nutanix Guest Tools cannot be used", code="DP-10409")
        if point.obtained != spec.consistency:
            task.warnings.append("Guest could not be quiesced: the recovery point is crash consistent")
        try:
            vms = [(vm, world.files_of(vm)) for vm in spec.vms]
            await asyncio.to_thread(_freeze, world, point, vms, spec.groups)
        except OSError:
            world.drop(point)
            raise
        point.created = world.clock()
        point.is_frozen = True
        task.details["recoveryPointExtId"] = point.id
        world.save()

    entities = [Entity("vmm:ahv:config:vm", "vm", vm.id, vm.name) for vm in spec.vms]
    entities += [
        Entity("volumes:config:volume-group", "volume_group", group.id, group.config.name) for group in spec.groups
    ]
    entities.append(Entity("dataprotection:config:recovery-point", "vm_snapshot", point.id, spec.name))
    world.state.points[point.id] = point
    task = world.tasks.start("create", "CreateRecoveryPoint", work, entities)
    point.task = task.id
    return point, task


def _consistency(world: World, spec: PointSpec) -> str:
    """Return what the point becomes; empty if it cannot be made."""
    if spec.consistency != APPLICATION:
        return CRASH
    if world.config.faults.downgrade_consistency:
        return CRASH
    if all(vm.can_quiesce for vm in spec.vms):
        return APPLICATION
    return {"downgrade": CRASH, "claim": APPLICATION, "fail": ""}[world.config.cannot_quiesce]


def _freeze(world: World, point: Point, vms: list[tuple[Vm, list[LiveFile]]], volume_groups: tuple[Group, ...]) -> None:
    """Copy every file of every VM and group; runs in a thread, and nobody who takes the lock writes meanwhile."""
    with world.disk_lock:
        for vm, files in vms:
            vm_point = VmPoint(ids.fresh(), vm.id)
            point.vms.append(vm_point)
            for file in files:
                vm_point.files.append(_freeze_file(world, point, file))
        for group in volume_groups:
            group_point = GroupPoint(ids.fresh(), group.id)
            point.groups.append(group_point)
            for file in groups.files(group):
                group_point.files.append(_freeze_file(world, point, file))


def _freeze_file(world: World, point: Point, file: LiveFile) -> FrozenFile:
    layout = world.layout
    path = layout.snapshot_path(file.container, point.triple, file.vmdisk)
    name = ids.fresh()
    target = layout.file(path) if point.family == "v3" else layout.recovery_points / point.id / name
    live = layout.live_path(file.container, file.vmdisk)
    relative = str(target.relative_to(layout.state))
    storage.copy_file(file.path, target, writable=False)
    return FrozenFile(name, file.kind, file.vmdisk, file.device, file.container, relative, live, path)


def delete_point(world: World, point: Point) -> Task:
    """Delete a recovery point and its bytes."""

    async def work(_task: Task) -> None:
        if world.config.faults.secure_points and point.family == "v4":
            await asyncio.Event().wait()
        world.drop(point)

    entities = [Entity("dataprotection:config:recovery-point", "vm_snapshot", point.id, point.name)]
    return world.tasks.start("delete", "DeleteRecoveryPoint", work, entities)


def set_expiry(world: World, point: Point, expires: float | None) -> Task:
    """Move the end of life of a recovery point."""

    async def work(_task: Task) -> None:
        point.expires = expires
        world.save()

    entities = [Entity("dataprotection:config:recovery-point", "vm_snapshot", point.id, point.name)]
    return world.tasks.start("expire", "SetExpirationTimeRecoveryPoint", work, entities)


def attach(world: World, vm: Vm, source: CloneSource, bus: str = "scsi", index: int | None = None) -> Task:
    """Hot-add a writable clone of frozen bytes to a VM."""
    used = {file.index for file in vm.files if file.bus == bus and file.kind != "nvram"}
    used |= {clone.index for clone in world.state.clones.values() if (clone.vm_id, clone.bus) == (vm.id, bus)}
    slot = index if index is not None else next((n for n in range(SCSI_SLOTS) if n not in used), None)
    serial = world.state.next_serial
    world.state.next_serial += 1
    clone = Clone(vm.id, ids.fresh(), ids.fresh(), bus, slot or 0, source.file.container, serial)
    clone.vm_point, clone.group_point = source.vm_point, source.group_point
    clone.disk_point, clone.source_path = source.disk_point, source.path
    is_free = slot is not None and slot < SCSI_SLOTS and slot not in used
    if is_free:
        world.state.clones[clone.vmdisk] = clone
    frozen = world.frozen_file(source.file)

    async def work(task: Task) -> None:
        if not is_free:
            raise TaskFailure(f"No free slot on the {bus.upper()} bus of the VM", code="VMM-30110")
        target = world.layout.clones / clone.vmdisk
        try:
            await asyncio.to_thread(storage.copy_file, frozen, target, writable=True)
        except OSError as exc:
            world.state.clones.pop(clone.vmdisk, None)
            target.unlink(missing_ok=True)
            if isinstance(exc, FileNotFoundError):
                raise TaskFailure("The recovery point of the disk was not found", code="VMM-32810") from exc
            raise
        storage.link(target, world.layout.device(clone.vmdisk, serial))
        clone.is_ready = True
        task.entities.append(Entity("vmm:ahv:config:vm:disk", "vm_disk", clone.vmdisk))
        world.save()

    return world.tasks.start("attach", "CreateDisk", work, [Entity("vmm:ahv:config:vm", "vm", vm.id, vm.name)])


def detach(world: World, vm: Vm, clone: Clone) -> Task:
    """Remove a hot-added disk and its bytes."""

    async def work(_task: Task) -> None:
        world.state.clones.pop(clone.vmdisk, None)
        world.layout.device(clone.vmdisk, clone.serial).unlink(missing_ok=True)
        (world.layout.clones / clone.vmdisk).unlink(missing_ok=True)
        world.save()

    return world.tasks.start("detach", "DeleteDisk", work, [Entity("vmm:ahv:config:vm", "vm", vm.id, vm.name)])


def set_power(world: World, vm: Vm, power: Power) -> Task:
    """Let a VM run, or ask its guest to shut down, which it does unless it `ignores_shutdown`."""

    async def work(_task: Task) -> None:
        if power == "on" or not vm.config.ignores_shutdown:
            vm.config.power = power

    entities = [Entity("vmm:ahv:config:vm", "vm", vm.id, vm.name)]
    return world.tasks.start("power", "VmChangePowerState", work, entities)


def known(world: World, key: str) -> Task | None:
    """Return the task of the first time that `key` was seen, None if it was not."""
    return world.state.tasks.get(world.state.requests.get(key, ""))


def once(world: World, key: str, action: Callable[[], Task]) -> Task:
    """Do `action` only the first time that `key` is seen; later return the task of the first time."""
    first = known(world, key)
    if first is not None:
        return first
    task = action()
    world.state.requests[key] = task.id
    world.save()
    return task


def hot_added(world: World, vm: Vm, disk_id: str) -> Clone | None:
    """Return the hot-added disk of this vmdisk or device uuid."""
    return next((clone for clone in world.clones_of(vm.id) if disk_id in (clone.vmdisk, clone.device)), None)


def live_disk(world: World, vm: Vm, disk_id: str) -> LiveFile | None:
    """Return the disk of this vmdisk uuid, hot-added or not."""
    return next((file for file in world.disks_of(vm) if file.vmdisk == disk_id), None)

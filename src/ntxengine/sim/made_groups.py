"""Volume groups that callers make of disks of recovery points: made, opened to initiators, deleted."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from ntxengine.sim import ids, storage
from ntxengine.sim.clusters import Cluster
from ntxengine.sim.model import Entity, FrozenFile, GroupDisk, Initiator, MadeGroup, Task
from ntxengine.sim.target import FIRST_LUN
from ntxengine.sim.tasks import TaskFailure
from ntxengine.sim.world import World

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiskSource:
    """What a disk of a volume group is a clone of, and how the caller named it; `index` None takes the next one."""

    file: FrozenFile
    name: str
    index: int | None = None


@dataclass(frozen=True)
class GroupSpec:
    """What is asked of a new volume group.  `prefix` begins the name of its target, `target` is all of it."""

    name: str
    cluster: Cluster
    sources: tuple[DiskSource, ...]
    id: str = ""
    prefix: str = ""
    target: str = ""
    secret: str = ""
    usage: str = "USER"
    is_hidden: bool = False
    is_shared: bool = False


def entity(group: MadeGroup) -> Entity:
    """Return a volume group as something that a task touched."""
    return Entity("volumes:config:volume-group", "volume_group", group.id, group.name)


def create(world: World, spec: GroupSpec) -> Task:
    """Make a volume group of clones of frozen bytes, and serve it."""
    group_id = spec.id or ids.fresh()
    group = MadeGroup(
        id=group_id,
        name=spec.name,
        cluster=spec.cluster.id,
        serial=world.state.next_serial,
        target=spec.target or f"{spec.prefix or 'vg'}-{group_id}",
        secret=spec.secret,
        usage=spec.usage,
        is_hidden=spec.is_hidden,
        is_shared=spec.is_shared,
    )
    world.state.next_serial += 1
    index = FIRST_LUN
    for source in spec.sources:
        index = index if source.index is None else source.index
        disk_id = ids.fresh()
        group.disks.append(GroupDisk(disk_id, index, source.file.container, source.name))
        index += 1
    world.state.made_groups[group.id] = group

    async def work(_task: Task) -> None:
        try:
            for source, disk in zip(spec.sources, group.disks, strict=True):
                frozen, target = world.frozen_file(source.file), world.group_file(group, disk)
                await asyncio.to_thread(storage.copy_file, frozen, target, writable=True)
        except OSError as exc:
            world.drop_group(group)
            if isinstance(exc, FileNotFoundError):
                raise TaskFailure("The recovery point of the disk was not found", code="VOL-10404") from exc
            raise
        group.is_ready = True
        world.save()
        await _serve(world, group)

    return world.tasks.start("create_group", "VolumeGroupCreate", work, [entity(group)])


async def _serve(world: World, group: MadeGroup) -> None:
    late_s = world.volume_rules.late_s
    if late_s == 0:
        await world.serve_group(group)
    else:
        world.tasks.later(late_s, lambda: world.serve_group(group))


async def serve_again(world: World) -> None:
    """Serve the volume groups of an earlier start, as far as that can be."""
    for group in world.made_groups():
        try:
            await world.serve_group(group)
        except TaskFailure as exc:
            _log.warning("volume group %s is not served: %s", group.id, exc)


def delete(world: World, group: MadeGroup) -> Task:
    """Delete a volume group and its bytes."""

    async def work(_task: Task) -> None:
        if world.volume_rules.refuses_deletion:
            raise TaskFailure("The volume group may not be deleted", code="VOL-10403")
        await world.target.withdraw(group)
        world.drop_group(group)

    return world.tasks.start("delete_group", "VolumeGroupDelete", work, [entity(group)])


def initiator_of(world: World, name: str, secret: str) -> Initiator:
    """Return the initiator of a name, as every volume group knows it."""
    return Initiator(ids.fixed(world.config.cluster_name, "iscsi client", name), name, secret)


def why_not_admitted(world: World, group: MadeGroup, initiator: Initiator) -> str:
    """Return why an initiator is not let in, "" if it is: it has one secret for the whole cluster."""
    if group.initiators and not group.is_shared:
        return "The volume group is not shared and has an attachment already"
    known = [one for other in world.made_groups() for one in other.initiators if one.name == initiator.name]
    if any(one.secret != initiator.secret for one in known):
        return "The iSCSI client is known with another secret"
    return ""


async def admit(world: World, group: MadeGroup, initiator: Initiator) -> None:
    """Let an initiator log in.  Errors: TaskFailure."""
    if problem := why_not_admitted(world, group, initiator):
        raise TaskFailure(problem, code="VOL-10409")
    group.initiators.append(initiator)
    world.save()
    await world.target.admit(group, initiator, world.volume_rules.given_secret(initiator.secret))


async def expel(world: World, group: MadeGroup, initiator: Initiator) -> None:
    """Let an initiator in no longer."""
    group.initiators.remove(initiator)
    world.save()
    is_last = all(one.name != initiator.name for other in world.made_groups() for one in other.initiators)
    await world.target.expel(group, initiator, is_last=is_last)


def start_admit(world: World, group: MadeGroup, initiator: Initiator) -> Task:
    """Let an initiator in, in the background."""

    async def work(_task: Task) -> None:
        await admit(world, group, initiator)

    client = Entity("volumes:config:iscsi-client", "iscsi_client", initiator.id)
    return world.tasks.start("admit", "VolumeGroupAttachExternal", work, [client, entity(group)])


def start_expel(world: World, group: MadeGroup, initiator: Initiator) -> Task:
    """Let an initiator in no longer, in the background."""

    async def work(_task: Task) -> None:
        if initiator in group.initiators:
            await expel(world, group, initiator)

    client = Entity("volumes:config:iscsi-client", "iscsi_client", initiator.id)
    return world.tasks.start("expel", "VolumeGroupDetachExternal", work, [client, entity(group)])

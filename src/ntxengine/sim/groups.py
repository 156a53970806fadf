"""Volume groups that a person made and attached to VMs: real disk files, as configured.

They are read from the configuration each time, so that a test may attach, detach and grow them while the simulator
runs.  Their ids come from their names, those of their disks from the index in the group.
"""

from __future__ import annotations

from dataclasses import dataclass

from ntxengine.sim import ids, storage
from ntxengine.sim.config import GroupConfig
from ntxengine.sim.model import LiveFile, Vm
from ntxengine.sim.world import World

FIRST_SLOT = 200
"""Where on the SCSI bus of a VM the first group appears."""


@dataclass(frozen=True)
class Group:
    """A volume group with its id."""

    id: str
    config: GroupConfig


def configured(world: World) -> list[Group]:
    """Return every group of the configuration, and those without disks that VMs only count."""
    return _named(world) + [group for vm in world.vms.values() for group in _counted(vm)]


def find(world: World, group_id: str) -> Group | None:
    """Return the group of this id."""
    return next((group for group in configured(world) if group.id == group_id), None)


def attached(world: World, vm: Vm) -> list[tuple[int, Group]]:
    """Return the groups that are attached to a VM, each with its slot."""
    named = [group for group in _named(world) if vm.name in group.config.vms]
    return list(enumerate(_counted(vm) + named, FIRST_SLOT))


def _named(world: World) -> list[Group]:
    return [Group(ids.fixed(world.cluster_id, "volume group", one.name), one) for one in world.config.volume_groups]


def _counted(vm: Vm) -> list[Group]:
    return [
        Group(ids.fixed(vm.id, "volume group", number), GroupConfig(f"vg-{vm.id[:8]}-{number}"))
        for number in range(vm.config.volume_groups)
    ]


def files(group: Group) -> list[LiveFile]:
    """Return the disks of a group; a file that is missing is made."""
    result = []
    for place, disk in enumerate(group.config.disks):
        index = place if disk.index is None else disk.index
        storage.open_disk(disk, f"volume group {group.config.name!r}")
        disk_id = ids.fixed(group.id, "disk", index)
        result.append(LiveFile("disk", disk_id, disk_id, "scsi", index, disk.container, disk.path))
    return result

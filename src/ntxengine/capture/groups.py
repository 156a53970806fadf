"""The volume groups of a VM: captured with it, as further disks, or left out with the reason.

A group that is attached to several VMs is captured with each of them: a point is whole without another VM's.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ntxengine.prism.cluster import AttachedGroups
from ntxengine.prism.models import Vm


@dataclass(frozen=True)
class WithGroups:
    """A VM with the disks of its groups; what is left out, with the reason; and what is to be warned of."""

    vm: Vm
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


async def with_groups(prism: AttachedGroups, vm: Vm, *, are_wanted: bool) -> WithGroups:
    """Add the disks of the groups that are attached to a VM, as far as they can be captured.

    Errors: PrismError that may pass: a group must not be left out because Prism is busy.
    """
    if not are_wanted:
        return WithGroups(vm, tuple(f"{slot.label} (volume group {slot.id}: not asked for)" for slot in vm.groups))
    disks, left_out, warnings = list(vm.disks), [], []
    for group in await prism.attached_groups(vm):
        subject = f"VM {vm.name!r}: volume group {group.name}"
        if group.obstacle:
            warnings.append(f"{subject} is left out: {group.obstacle}")
        if not group.disks:
            left_out.append(f"{group.slot.label} (volume group {group.name}: {group.obstacle or 'it has no disk'})")
        elif group.is_shared:
            warnings.append(f"{subject} may be attached to other machines too: each VM is captured with its own copy")
        disks += group.disks
    return WithGroups(dataclasses.replace(vm, disks=tuple(disks)), tuple(left_out), tuple(warnings))

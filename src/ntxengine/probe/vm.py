"""The VM that was named: whether it is there, can be captured, and can be made consistent."""

from __future__ import annotations

from collections.abc import Mapping

from ntxengine.errors import NotFoundError, OptionsError
from ntxengine.prism.cluster import vm_named
from ntxengine.prism.guest import Obstacle
from ntxengine.probe.check import Check, Context
from ntxengine.probe.model import Facts, Result, failed, ok, warning
from ntxengine.units import format_size

_TOOLS_REMEDIES: Mapping[Obstacle, str] = {
    "Guest Tools are not installed": "Prism > VM > Manage Guest Tools > Enable and mount, then install in the guest",
    "Guest Tools are not enabled": "Prism > VM > Manage Guest Tools > Enable Nutanix Guest Tools",
    "Guest Tools do not answer": (
        "see that the service ngt_guest_agent (Nutanix Guest Agent) runs in the guest, and that TCP 2074 to the"
        " cluster's address is open"
    ),
    "Guest Tools cannot quiesce (no VSS snapshot capability)": (
        "Prism > VM > Manage Guest Tools > tick Volume Snapshot Service"
    ),
}


class Found(Check):
    """There is exactly one VM of this name, and nothing that is known keeps it from being captured."""

    name = "found"

    async def run(self, context: Context) -> Result:
        assert context.prism is not None
        if denied := context.denied("see-vms"):
            return denied
        try:
            vm = await vm_named(context.prism, context.options.vm)
        except NotFoundError as exc:
            return failed(str(exc), "list those that this account may see: ntx vms")
        except OptionsError as exc:
            return failed(str(exc), "name it by its UUID")
        context.met(vm)
        if problem := context.prism.obstacle(vm):
            return failed(f"VM {vm.name!r}: {problem}", "it cannot be captured as it is")
        context.vm = vm
        size = sum(disk.size for disk in vm.disks)
        told = f"{vm.name!r} ({vm.id}) is {vm.power_state}, {len(vm.disks)} disks, {format_size(size)}"
        facts: Facts = {
            "vm_id": vm.id,
            "vm_name": vm.name,
            "power_state": vm.power_state,
            "bytes": size,
            "not_captured": list(vm.excluded),
        }
        if vm.is_moving:
            return failed(f"{told}; it is being moved to another cluster", "wait until it has been moved", **facts)
        if not vm.disks and not vm.groups:
            return failed(f"{told}: there is nothing to capture", "is it the VM that you mean?", **facts)
        return ok(told, **facts)


class Groups(Check):
    """The volume groups that are attached to the VM can be captured with it."""

    name = "volume-groups"

    def applies(self, context: Context) -> bool:
        """Say whether it has any that a recovery point can hold."""
        return context.vm is not None and bool(context.vm.groups)

    async def run(self, context: Context) -> Result:
        vm, prism = context.vm, context.prism
        assert vm is not None
        assert prism is not None
        groups = await prism.attached_groups(vm)
        left_out = [f"{group.name}: {group.obstacle}" for group in groups if group.obstacle]
        facts: Facts = {
            "bytes": sum(disk.size for group in groups for disk in group.disks),
            "groups": [
                {"name": group.name, "disks": len(group.disks), "obstacle": group.obstacle or None} for group in groups
            ],
        }
        if left_out:
            return warning(
                f"volume groups are left out of points: {'; '.join(left_out)}",
                "give the account the right View Volume Group, or protect them in another way; --no-volume-groups"
                " leaves all out without a word",
                **facts,
            )
        count = sum(len(group.disks) for group in groups)
        return ok(f"{len(groups)} volume groups, {count} disks: captured with the VM", **facts)


class Tools(Check):
    """Guest Tools can make an application-consistent point."""

    name = "guest-tools"

    async def run(self, context: Context) -> Result:
        vm = context.vm
        assert vm is not None
        tools = vm.guest_tools
        facts: Facts = {
            "installed": tools.installed,
            "enabled": tools.enabled,
            "reachable": tools.reachable,
            "can_quiesce": tools.can_quiesce,
            "version": tools.version,
            "guest_system": tools.os_name,
        }
        if vm.power_state in ("off", "paused"):
            return ok(f"the VM is {vm.power_state}: what is on its disks is at rest", **facts)
        if tools.obstacle:
            remedy = _TOOLS_REMEDIES[tools.obstacle]
            return warning(f"{tools.obstacle}: points of it are crash-consistent", remedy, **facts)
        unknown = [name for name in ("installed", "enabled", "reachable", "can_quiesce") if facts[name] is None]
        said = f"; not told: {', '.join(unknown)}" if unknown else ""
        system = f", {tools.os_name}" if tools.os_name else ""
        version = f" {tools.version}" if tools.version else ""
        return ok(f"Guest Tools{version}{system}: application-consistent points can be asked for{said}", **facts)


class Worker(Check):
    """The worker VM is there, is on, is on the right cluster, and is this machine."""

    name = "found"

    async def run(self, context: Context) -> Result:
        assert context.prism is not None
        if denied := context.denied("see-vms"):
            return denied
        try:
            worker = await vm_named(context.prism, context.options.worker)
        except (NotFoundError, OptionsError) as exc:
            return failed(str(exc), "give the name or UUID of this machine as Prism has it (--worker)")
        context.worker = worker
        context.met(worker)
        told = f"{worker.name!r} ({worker.id})"
        facts: Facts = {"worker_name": worker.name, "worker_id": worker.id, "power_state": worker.power_state}
        remedy = "give the name or UUID of this machine as Prism has it (--worker)"
        if worker.power_state in ("off", "paused"):
            return failed(f"{told} is {worker.power_state}, so it is not this machine", remedy, **facts)
        vm = context.vm
        if vm is not None and vm.cluster_id and worker.cluster_id and vm.cluster_id != worker.cluster_id:
            return failed(
                f"{told} is on cluster {worker.cluster_id}, the VM {vm.name!r} on {vm.cluster_id}",
                "disks are hot-added within a cluster: run ntx in a VM of that one",
                **facts,
            )
        ours = context.machine.vm_id()
        if ours and ours != worker.id.lower():
            return failed(f"{told} is not this machine, which is VM {ours}", f"--worker {ours}", **facts)
        if vm is not None and vm.id == worker.id:
            return warning(f"{told} is the VM that is captured", "its hot-added disks are left out of it", **facts)
        surely = "this machine" if ours else "whether it is this machine cannot be seen here"
        return ok(f"{told} is {worker.power_state}; {surely}", **facts)

"""`ntx vms`: what there is to capture."""

from __future__ import annotations

import click

from ntxengine.cli.figures import UNKNOWN
from ntxengine.cli.options import (
    common_options,
    table_option,
)
from ntxengine.cli.output import Screen
from ntxengine.cli.prism_options import PrismOptions, prism_options
from ntxengine.cli.run import run
from ntxengine.cli.session import Login, connected, login
from ntxengine.cli.table import Column
from ntxengine.prism.models import GuestTools, OddVm, Vm, VmList
from ntxengine.units import format_size

COLUMNS = [
    Column("NAME", shrinks=True),
    Column("UUID"),
    Column("POWER"),
    Column("DISKS", right=True),
    Column("SIZE", right=True),
    Column("TOOLS", fold=True),
    Column("VERSION", wide=True),
    Column("GUEST SYSTEM", wide=True),
    Column("CLUSTER", wide=True),
    Column("HOST", wide=True),
]


@click.command("vms")
@prism_options
@common_options
@table_option
def vms_command(prism: PrismOptions, screen: Screen) -> None:
    """List the VMs that this account may see: name, UUID, power, disks, and whether Guest Tools can quiesce.

    \b
    Examples:
      ntx vms --prism https://pc.example.com --username backup --password-file /etc/ntx/password
      ntx vms --json | jq -r '.vms[] | select(.power_state == "on") | .vm_name'
    """
    listed = run(_vms(login(prism, screen)))
    if listed.complaint:
        screen.warning(listed.complaint)
    if screen.as_json:
        screen.result({"vms": [vm_fields(vm) for vm in listed.vms], "odd": [odd_fields(vm) for vm in listed.odd]})
        return
    screen.table(COLUMNS, [_row(vm) for vm in listed.vms])
    if not listed.vms:
        screen.note("no VM: is this the right Prism, and may this account see VMs?")


async def _vms(prism_login: Login) -> VmList:
    async with connected(prism_login) as cluster:
        return await cluster.prism.list_vms()


def odd_fields(vm: OddVm) -> dict[str, object]:
    """Return a VM that cannot be read as `--json` has it."""
    return {"vm_id": vm.id or None, "vm_name": vm.name, "reason": vm.reason}


def vm_fields(vm: Vm) -> dict[str, object]:
    """Return a VM as `--json` has it: without its configuration, which is long and may hold anything."""
    return {
        "vm_id": vm.id,
        "vm_name": vm.name,
        "power_state": vm.power_state,
        "cluster_id": vm.cluster_id,
        "host_id": vm.host_id,
        "guest_tools": guest_tools_fields(vm.guest_tools),
        "excluded": vm.excluded,
        "volume_groups": [{"volume_group_id": group.id, "label": group.label} for group in vm.groups],
        "disks": [
            {
                "disk_id": disk.id,
                "label": disk.label,
                "size": disk.size,
                "container_id": disk.container_id,
                "container_name": disk.container_name,
            }
            for disk in vm.disks
        ],
    }


def guest_tools_fields(tools: GuestTools) -> dict[str, object]:
    """Return Guest Tools as `--json` has them: null is what Prism does not say."""
    return {
        **vars(tools),
        "can_use_vss": tools.can_use_vss,
        "can_freeze_file_systems": tools.can_freeze_file_systems,
    }


def _row(vm: Vm) -> list[str]:
    size = sum(disk.size for disk in vm.disks)
    return [
        vm.name,
        vm.id,
        vm.power_state,
        str(len(vm.disks)),
        format_size(size),
        _tools(vm.guest_tools),
        vm.guest_tools.version or UNKNOWN,
        vm.guest_tools.os_name or UNKNOWN,
        vm.cluster_id or UNKNOWN,
        vm.host_id or UNKNOWN,
    ]


def _tools(tools: GuestTools) -> str:
    """Return what Guest Tools can; what Prism does not say is not counted against them."""
    if tools.installed is False:
        return "none"
    if tools.enabled is False:
        return "disabled"
    if tools.reachable is False:
        return "not reachable"
    if tools.can_quiesce is False:
        return "cannot quiesce"
    how = {"windows": "VSS", "linux": "file-system freeze", "unknown": "can quiesce"}[tools.os]
    is_all_told = None not in (tools.installed, tools.enabled, tools.reachable, tools.can_quiesce)
    return how if is_all_told else f"{how}, perhaps"

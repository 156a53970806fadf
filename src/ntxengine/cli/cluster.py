"""`ntx vms`: what there is to capture."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import click

from ntxengine.api.inventory import VmDetails, VmFilter, details_of, search_vms
from ntxengine.cli.figures import UNKNOWN
from ntxengine.cli.options import Function, category_option, cluster_option, common_options, table_option
from ntxengine.cli.output import Screen
from ntxengine.cli.plan import storage_fields
from ntxengine.cli.prism_options import PrismOptions, prism_options
from ntxengine.cli.run import run
from ntxengine.cli.session import Login, connected, login
from ntxengine.cli.streams import taken
from ntxengine.cli.table import Column
from ntxengine.errors import NtxError
from ntxengine.prism import Prism
from ntxengine.prism.guest import Obstacle
from ntxengine.prism.models import Disk, GuestTools, OddVm, Vm, VmList
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
    Column("TIER", wide=True),
    Column("HOST", wide=True),
]

ROWS_AT_ONCE = 100
"""As many as a page of Prism has: they are sorted, and share the widths of their columns."""


def filter_options(function: Function) -> Function:
    """Add --cluster, --category, --powered-on and --guest-tools; pass `wanted`."""

    @cluster_option
    @category_option
    @click.option("--powered-on", is_flag=True, help="Only VMs that are on.")
    @click.option("--guest-tools", is_flag=True, help="Only VMs with Guest Tools that are enabled.")
    @functools.wraps(function)
    def with_filter(
        *args: Any, cluster: str | None, categories: tuple[str, ...], powered_on: bool, guest_tools: bool, **kwargs: Any
    ) -> Any:
        wanted = VmFilter(cluster or "", categories, powered_on, guest_tools)
        return function(*args, wanted=wanted, **kwargs)

    return with_filter


@click.command("vms")
@filter_options
@prism_options
@common_options
@table_option
def vms_command(wanted: VmFilter, prism: PrismOptions, screen: Screen) -> None:
    """List the VMs that this account may see: name, UUID, power, disks, and whether Guest Tools can quiesce.

    They are printed as Prism tells of them, a page after the other, in the order of their names.

    \b
    Examples:
      ntx vms --prism https://pc.example.com --username backup --password-file /etc/ntx/password
      ntx vms --cluster pe1 --category Environment=Production --powered-on
      ntx vms --json | jq -r '.vms[] | select(.application_consistent == false) | .vm_name'
    """
    run(_Listing(wanted, screen).show(login(prism, screen)))


class _Listing:
    """The VMs on their way to the screen."""

    def __init__(self, wanted: VmFilter, screen: Screen) -> None:
        self._wanted = wanted
        self._screen = screen
        self._table = screen.growing_table(COLUMNS)
        self._odd: list[OddVm] = []
        self._count = 0

    async def show(self, prism_login: Login) -> None:
        """Print them, and what is to be said of those that cannot be read."""
        async with connected(prism_login) as cluster:
            prism = cluster.prism
            part: list[Vm] = []
            try:
                async for vm in search_vms(cluster, self._wanted):
                    if isinstance(vm, OddVm):
                        self._odd.append(vm)
                        continue
                    part.append(vm)
                    if len(part) == ROWS_AT_ONCE:
                        await self._print(part, prism)
                        part = []
            except NtxError:
                # Of a long list, what came before an error may be what was looked for.
                if part:
                    await self._print(part, prism)
                raise
            await self._print(part, prism)
        self._end()

    async def _print(self, part: list[Vm], prism: Prism) -> None:
        part.sort(key=lambda vm: (vm.name, vm.id))
        self._count += len(part)
        if self._screen.as_json:
            for vm in part:
                self._screen.item("vms", vm_fields(vm, await details_of(prism, vm)))
        elif part or not self._count:
            is_wide = self._screen.is_wide
            self._table([_row(vm, await details_of(prism, vm) if is_wide else None) for vm in part])
        await taken()

    def _end(self) -> None:
        listed = VmList((), tuple(sorted(self._odd, key=lambda vm: (vm.name, vm.id))))
        if listed.complaint:
            self._screen.warning(listed.complaint)
        if self._screen.as_json:
            self._screen.result({"vms": [], "odd": [odd_fields(vm) for vm in listed.odd]})
        elif not self._count:
            nobody = "no VM: is this the right Prism, and may this account see VMs?"
            self._screen.note(nobody if self._wanted == VmFilter() else "no VM is as wanted")


def odd_fields(vm: OddVm) -> dict[str, object]:
    """Return a VM that cannot be read as `--json` has it."""
    return {"vm_id": vm.id or None, "vm_name": vm.name, "reason": vm.reason}


def vm_fields(vm: Vm, details: VmDetails) -> dict[str, object]:
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
        "categories": vm.categories,
        "disks": [_disk_fields(disk, details) for disk in vm.disks],
        "cluster_name": details.cluster.name or None,
        "application_consistent": details.can_be_application_consistent,
        "application_consistent_reason": details.why_not,
    }


def _disk_fields(disk: Disk, details: VmDetails) -> dict[str, object]:
    return {
        "disk_id": disk.id,
        "label": disk.label,
        "size": disk.size,
        "container_id": disk.container_id,
        **storage_fields(details.storage[disk.id]),
        "bytes_used": details.usage[disk.id].used,
    }


def guest_tools_fields(tools: GuestTools) -> dict[str, object]:
    """Return Guest Tools as `--json` has them: null is what Prism does not say."""
    return {
        **vars(tools),
        "can_use_vss": tools.can_use_vss,
        "can_freeze_file_systems": tools.can_freeze_file_systems,
    }


def _row(vm: Vm, details: VmDetails | None) -> list[str]:
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
        (details.cluster.name if details else "") or vm.cluster_id or UNKNOWN,
        _tiers(details),
        vm.host_id or UNKNOWN,
    ]


def _tiers(details: VmDetails | None) -> str:
    storage = details.storage.values() if details else ()
    return ", ".join(dict.fromkeys(each.tier.name for each in storage if each.tier is not None)) or UNKNOWN


_OBSTACLES: Mapping[Obstacle, str] = {
    "Guest Tools are not installed": "none",
    "Guest Tools are not enabled": "disabled",
    "Guest Tools do not answer": "not reachable",
    "Guest Tools cannot quiesce (no VSS snapshot capability)": "cannot quiesce",
}


def _tools(tools: GuestTools) -> str:
    """Return what Guest Tools can; what Prism does not say is not counted against them."""
    if tools.obstacle:
        return _OBSTACLES[tools.obstacle]
    how = {"windows": "VSS", "linux": "file-system freeze", "unknown": "can quiesce"}[tools.os]
    is_all_told = None not in (tools.installed, tools.enabled, tools.reachable, tools.can_quiesce)
    return how if is_all_told else f"{how}, perhaps"

"""Which right each operation needs, and which rights the built-in roles have.

The names of rights are those that the documents of Prism give; where they give none, the call's own name stands.
A viewer of a Prism Element reads, and a cluster administrator may do everything there.
"""

from __future__ import annotations

from ntxengine.errors import OptionsError

SUPER_ADMIN = "Super Admin"

RIGHTS = {
    "list_vms": "View Existing Virtual Machine",
    "get_vm": "View Existing Virtual Machine",
    "shut_down": "shutdown VM",
    "power_on": "power-on VM",
    "list_disks": "View Existing Virtual Machine",
    "get_disk": "View Existing Virtual Machine",
    "get_guest_tools": "View Virtual Machine NGT",
    "create_disk": "Create Virtual Machine Disk",
    "delete_disk": "Delete Virtual Machine Disk",
    "list_recovery_points": "View Recovery Point",
    "get_recovery_point": "View Recovery Point",
    "get_vm_recovery_point": "View Virtual Machine Recovery Point",
    "list_vm_recovery_points": "View Virtual Machine Recovery Point",
    "get_one_vm_recovery_point": "View Virtual Machine Recovery Point",
    "create_vm_recovery_point": "Create Recovery Point",
    "delete_vm_recovery_point": "Delete Recovery Point",
    "create_recovery_point": "Create Recovery Point",
    "delete_recovery_point": "Delete Recovery Point",
    "set_expiration_time": "Set Expiration Time Recovery Point",
    "discover_cluster": "discover-cluster",
    "list_clusters": "list clusters",
    "get_cluster": "View Cluster",
    "list_cluster_hosts": "View Cluster Host",
    "list_hosts": "View Host",
    "list_containers": "View Storage Container",
    "get_container": "View Storage Container",
    "get_subnet": "View Subnet",
    "list_categories": "View Category",
    "get_category": "View Category",
    "list_volume_groups": "View Volume Group",
    "get_volume_group": "View Volume Group",
    "list_volume_disks": "View Volume Group",
    "list_iscsi_attachments": "View Volume Group",
    "create_volume_group": "Create Volume Group",
    "delete_volume_group": "Delete Volume Group",
    "attach_iscsi_client": "Attach Volume Group To External ISCSI Client",
    "detach_iscsi_client": "Detach Volume Group From External ISCSI Client",
    "v3_list_vms": "list VMs",
    "v3_get_vm": "list VMs",
    "v3_create_snapshot": "create snapshots",
    "v3_update_snapshot": "create snapshots",
    "v3_delete_snapshot": "delete snapshots",
    "v3_list_snapshots": "list snapshots",
    "v3_changed_regions": "changed regions",
    "v2_set_power": "set the power state",
    "v2_attach": "attach disks",
    "v2_detach": "detach disks",
    "v2_create_group": "create volume groups",
    "v2_delete_group": "delete volume groups",
    "v2_open_group": "attach initiators",
    "v2_close_group": "detach initiators",
    "v2_list_containers": "list containers",
    "v2_cluster": "see the cluster",
    "v2_list_groups": "list volume groups",
    "v2_get_group": "list volume groups",
}
"""By the name of a route; one that is not here needs no right but a login."""

_WRITES = ("Create", "Delete", "Attach", "Detach", "Set", "create", "delete", "attach", "detach", "set")
_POWER = frozenset({"shutdown VM", "power-on VM"})
_ALL = frozenset(RIGHTS.values())
_READS = frozenset(right for right in _ALL if not right.startswith(_WRITES)) - _POWER

ROLES = {
    SUPER_ADMIN: _ALL,
    "Prism Admin": _ALL,
    "Backup Admin": _ALL - {"list clusters", "View Host"} - _POWER,
    "Prism Viewer": _READS - {"discover-cluster"},
    "Cluster Admin": _ALL,
    "Viewer": _READS,
}
"""By the name of a role, as far as the documents of Prism say it."""


def check(roles: dict[str, str], lacking: list[str]) -> None:
    """Raise OptionsError if there is no such role, endpoint or right."""
    for endpoint, role in roles.items():
        if endpoint not in ("central", "element"):
            raise OptionsError(f"simulator: roles: {endpoint!r} is neither central nor element")
        if role not in ROLES:
            raise OptionsError(f"simulator: roles: {role!r} is not known; known are {', '.join(sorted(ROLES))}")
    for right in lacking:
        if right not in _ALL:
            raise OptionsError(
                f"simulator: faults.lacking_rights: {right!r} is not known; known are {', '.join(sorted(_ALL))}"
            )


def lacks(route: str, role: str, lacking: list[str]) -> str:
    """Return the right that is needed for an operation and that the account has not got, "" if it may."""
    right = RIGHTS.get(route, "")
    return right if right and (right in lacking or right not in ROLES[role]) else ""

"""Entities as v3 writes them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from ntxengine.sim import groups, hardware, ids
from ntxengine.sim.answers import Json, time_text
from ntxengine.sim.clusters import Cluster
from ntxengine.sim.groups import Group
from ntxengine.sim.model import LiveFile, Point, Task, Vm, VmPoint
from ntxengine.sim.odd import odd_v3
from ntxengine.sim.world import World
from ntxengine.units import MIB

_CREATED = 1_767_225_600.0
_STATUS_ONLY = ("hypervisor_type", "protection_type", "host_reference", "guest_tools")
_STATES = {True: "ENABLED", False: "DISABLED", None: None}
_NGT_STATES = {True: "INSTALLED", False: "UNINSTALLED", None: None}
_POWER = {"on": "ON", "off": "OFF", "paused": "PAUSED"}


def reference(kind: str, uuid: str, name: str) -> Json:
    """Return a reference to an entity."""
    return {"kind": kind, "uuid": uuid, "name": name}


def entity(kind: str, uuid: str, status: Json, **metadata: Any) -> Json:
    """Return an entity in its wrapping."""
    head = {
        "kind": kind,
        "uuid": uuid,
        "spec_version": 1,
        "entity_version": "1",
        "creation_time": time_text(_CREATED),
        "last_update_time": time_text(_CREATED),
        "categories": {},
        **metadata,
    }
    return {"api_version": "3.1", "metadata": head, "status": status}


def cluster_reference(cluster: Cluster) -> Json:
    """Return the reference to a cluster."""
    return reference("cluster", cluster.id, cluster.name)


def vm(world: World, vm: Vm) -> Json:
    """Return a VM.  `spec` repeats the configuration, as Prism does."""
    resources: Json = {
        "power_state": _POWER[vm.config.power],
        "hypervisor_type": vm.config.hypervisor,
        "protection_type": "UNPROTECTED",
        **hardware.v3(vm.id, vm.config.hardware, has_nvram=vm.config.nvram is not None),
        "disk_list": [_disk(world, file) for file in world.files_of(vm) if file.kind != "nvram"],
    }
    resources["disk_list"] += [_volume_group(slot, group) for slot, group in groups.attached(world, vm)]
    if vm.config.power == "on":
        resources["host_reference"] = reference("host", vm.host.id, vm.host.name)
    if vm.config.guest_tools is not None:
        resources["guest_tools"] = {"nutanix_guest_tools": _guest_tools(vm)}
    status = {
        "name": vm.name,
        "state": "COMPLETE",
        "cluster_reference": cluster_reference(vm.cluster),
        "execution_context": {"task_uuid": [ids.fixed(vm.id, "created")]},
        "resources": resources,
    }
    if vm.config.hardware.description is not None:
        status["description"] = vm.config.hardware.description
    owner = reference("user", ids.fixed("admin"), "admin")
    answer = entity("vm", vm.id, status, owner_reference=owner, **_categories(vm))
    answer["spec"] = {
        "name": vm.name,
        "cluster_reference": cluster_reference(vm.cluster),
        "resources": {key: value for key, value in resources.items() if key not in _STATUS_ONLY},
    }
    answer["spec"]["resources"]["disk_list"] = [
        {key: value for key, value in disk.items() if key != "is_migration_in_progress"}
        for disk in resources["disk_list"]
    ]
    return odd_v3(answer, vm.config.odd)


def _categories(vm: Vm) -> Json:
    """Return them as v3 has them: one value of each key, and all of them."""
    mapping: defaultdict[str, list[str]] = defaultdict(list)
    for category in vm.config.categories:
        key, _, value = category.partition("=")
        mapping[key].append(value)
    return {"categories": {key: values[0] for key, values in mapping.items()}, "categories_mapping": dict(mapping)}


def _guest_tools(vm: Vm) -> Json:
    tools = vm.config.guest_tools
    assert tools is not None
    return {
        "state": _STATES[tools.enabled],
        "ngt_state": _NGT_STATES[tools.installed],
        "iso_mount_state": "UNMOUNTED",
        "is_reachable": tools.reachable,
        "enabled_capability_list": (
            None if tools.can_quiesce is None else ["VSS_SNAPSHOT"] if tools.can_quiesce else []
        ),
        "vss_snapshot_capable": tools.can_quiesce,
        "version": tools.version,
        "available_version": tools.version,
        "guest_os_version": tools.os,
        "vm_mobility_drivers_installed": True,
    }


def _disk(world: World, file: LiveFile) -> Json:
    container = reference("storage_container", world.container_id(file.container, file.cluster), file.container)
    return {
        "uuid": file.device,
        "disk_size_bytes": file.size,
        "disk_size_mib": -(-file.size // MIB),
        "device_properties": {
            "device_type": "CDROM" if file.kind == "cdrom" else "DISK",
            "disk_address": {"adapter_type": file.bus.upper(), "device_index": file.index},
        },
        "storage_config": {"flash_mode": "DISABLED", "storage_container_reference": container},
        "is_migration_in_progress": False,
    }


def _volume_group(slot: int, group: Group) -> Json:
    return {
        "uuid": ids.fixed(group.id, "device"),
        "device_properties": {
            "device_type": "VOLUME_GROUP",
            "disk_address": {"adapter_type": "SCSI", "device_index": slot},
        },
        "volume_group_reference": {"kind": "volume_group", "uuid": group.id},
    }


_TASK_STATUS = {
    "QUEUED": "PENDING",
    "RUNNING": "PENDING",
    "SUCCEEDED": "COMPLETE",
    "FAILED": "ERROR",
    "CANCELING": "PENDING",
    "CANCELED": "ERROR",
}


def snapshot(world: World, point: Point) -> Json:
    """Return a vm_snapshot as GET does.  The VM's configuration is not in it."""
    task = world.state.tasks[point.task]
    state = _TASK_STATUS[task.status]
    vm_point: VmPoint | None = point.vms[0] if point.vms else None
    status: Json = {
        "state": state,
        "name": point.name,
        "snapshot_type": point.obtained or point.requested,
        "resources": {"entity_uuid": task.entities[0].id},
        "snapshot_file_list": [],
        "consistency_group_uuid": ids.fixed(point.id, "group"),
        "location_agnostic_uuid": ids.fixed(point.id, "agnostic"),
        "execution_context": {"task_uuid": [point.task]},
    }
    if point.expires is not None:
        status["expiration_time_msecs"] = int(point.expires * 1000)
    if state != "PENDING" and vm_point is not None:
        status["snapshot_file_list"] = [
            {"file_path": file.live_path, "snapshot_file_path": file.snapshot_path} for file in vm_point.files
        ]
    if task.error:
        status["message_list"] = [{"message": task.error, "reason": "INTERNAL_ERROR"}]
    times = {"creation_time": time_text(point.created), "last_update_time": time_text(point.created)}
    answer = entity("vm_snapshot", point.id, status, **times)
    answer["spec"] = {"name": point.name, "snapshot_type": point.requested, "resources": status["resources"]}
    return answer


def task(world: World, task: Task) -> Json:
    """Return a task."""
    answer: Json = {
        "api_version": "3.1",
        "uuid": task.id,
        "status": task.status,
        "percentage_complete": task.progress,
        "progress_message": task.operation,
        "operation_type": task.operation,
        "entity_reference_list": [reference(e.kind, e.id, e.name) for e in task.entities],
        "subtask_reference_list": [],
        "cluster_reference": cluster_reference(world.cluster),
        "creation_time": time_text(task.created),
        "creation_time_usecs": int(task.created * 1_000_000),
        "last_update_time": time_text(task.updated),
        "logical_timestamp": task.progress,
    }
    if task.started is not None:
        answer["start_time"] = time_text(task.started)
        answer["start_time_usecs"] = int(task.started * 1_000_000)
    if task.completed is not None:
        answer["completion_time"] = time_text(task.completed)
        answer["completion_time_usecs"] = int(task.completed * 1_000_000)
    if task.error:
        answer["error_code"], answer["error_detail"] = task.error_code, task.error
    return answer

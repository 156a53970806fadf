"""Entities as v3 writes them."""

from __future__ import annotations

from typing import Any

from ntxengine.sim import groups, ids
from ntxengine.sim.answers import Json, time_text
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


def cluster_reference(world: World) -> Json:
    """Return the reference to the Prism Element cluster."""
    return reference("cluster", world.cluster_id, world.config.cluster_name)


def vm(world: World, vm: Vm) -> Json:
    """Return a VM.  `spec` repeats the configuration, as Prism does."""
    resources: Json = {
        "power_state": _POWER[vm.config.power],
        "hypervisor_type": vm.config.hypervisor,
        "protection_type": "UNPROTECTED",
        "machine_type": "PC",
        "num_sockets": 2,
        "num_vcpus_per_socket": 1,
        "memory_size_mib": 4096,
        "boot_config": {"boot_type": "UEFI" if vm.config.nvram else "LEGACY"},
        "nic_list": [],
        "gpu_list": [],
        "serial_port_list": [],
        "disk_list": [_disk(world, file) for file in world.files_of(vm) if file.kind != "nvram"],
    }
    resources["disk_list"] += [_volume_group(slot, group) for slot, group in groups.attached(world, vm)]
    if vm.config.power == "on":
        host = world.host_ids.index(vm.host_id)
        resources["host_reference"] = reference("host", vm.host_id, f"ahv-{host + 1}")
    if vm.config.guest_tools is not None:
        resources["guest_tools"] = {"nutanix_guest_tools": _guest_tools(vm)}
    status = {
        "name": vm.name,
        "state": "COMPLETE",
        "cluster_reference": cluster_reference(world),
        "execution_context": {"task_uuid": [ids.fixed(vm.id, "created")]},
        "resources": resources,
    }
    answer = entity("vm", vm.id, status, owner_reference=reference("user", ids.fixed("admin"), "admin"))
    answer["spec"] = {
        "name": vm.name,
        "cluster_reference": cluster_reference(world),
        "resources": {key: value for key, value in resources.items() if key not in _STATUS_ONLY},
    }
    answer["spec"]["resources"]["disk_list"] = [
        {key: value for key, value in disk.items() if key != "is_migration_in_progress"}
        for disk in resources["disk_list"]
    ]
    return odd_v3(answer, vm.config.odd)


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
    container = reference("storage_container", world.container_id(file.container), file.container)
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


def cluster(world: World, *, is_central: bool) -> Json:
    """Return the Prism Element cluster, or Prism Central, which lists itself as a cluster too."""
    version = "pc.7.5.1" if is_central else world.config.aos
    config = world.config
    host = config.central_host if is_central else config.element_host
    status: Json = {
        "state": "COMPLETE",
        "name": config.central_name if is_central else config.cluster_name,
        "resources": {
            "config": {
                "service_list": ["PRISM_CENTRAL" if is_central else "AOS"],
                "build": {
                    "version": version,
                    "full_version": f"el8.5-release-simulated-{version}-stable-{'0' * 40}",
                    "commit_id": "0" * 40,
                    "short_commit_id": "0" * 6,
                    "build_type": "release",
                    "is_long_term_support": False,
                },
                "software_map": {"NOS": {"version": version, "status": "INSTALLED", "software_type": "NOS"}},
                "operation_mode": "NORMAL",
            },
            "network": {
                "external_ip": host,
                "internal_subnet": "192.168.5.0/255.255.255.0",
                "nfs_subnet_whitelist": [],
            },
            "nodes": {"hypervisor_server_list": [{"ip": "127.0.0.1", "type": "AHV", "version": "10.0"}]},
        },
    }
    if not is_central and world.data_services:
        status["resources"]["network"]["external_data_services_ip"] = world.data_services
    return entity("cluster", world.central_id if is_central else world.cluster_id, status)


def host(world: World, number: int) -> Json:
    """Return a host with its controller VM."""
    name = f"ahv-{number + 1}"
    status = {
        "name": name,
        "state": "COMPLETE",
        "cluster_reference": cluster_reference(world),
        "resources": {
            "controller_vm": {"ip": f"127.0.0.{number + 2}"},
            "hypervisor": {"ip": f"127.0.0.{number + 2}", "num_vms": 1, "hypervisor_full_name": "Nutanix AHV"},
            "host_type": "HYPER_CONVERGED",
            "monitoring_state": "MONITORED",
            "num_cpu_cores": 8,
        },
    }
    return entity("host", world.host_ids[number], status)


def disk(world: World, number: int) -> Json:
    """Return the disk of a host."""
    resources = {
        "storage_tier_type": "PCIE_SSD",
        "host_reference": reference("host", world.host_ids[number], f"ahv-{number + 1}"),
        "size_bytes": 4 * 1024**4,
        "cluster_uuid": world.cluster_id,
    }
    status = {"state": "COMPLETE", "cluster_reference": cluster_reference(world), "resources": resources}
    return entity("disk", ids.fixed(world.host_ids[number], "disk"), status)


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
        "cluster_reference": cluster_reference(world),
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

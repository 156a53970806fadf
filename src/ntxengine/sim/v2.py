"""API v2 on Prism Element: tells which storage file is which disk, and hot-adds snapshot files."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from ntxengine.ids import is_uuid
from ntxengine.sim import actions
from ntxengine.sim.answers import ApiError, Json
from ntxengine.sim.clusters import Cluster, ContainerConfig
from ntxengine.sim.config import Power
from ntxengine.sim.front import Call, Route
from ntxengine.sim.model import FrozenFile, LiveFile, Task, Vm
from ntxengine.sim.world import World

BASES = ("/PrismGateway/services/rest/v2.0", "/api/nutanix/v2.0")
_TIERS = ["SSD-PCIe", "SSD-SATA", "DAS-SATA"]


def routes() -> list[Route]:
    """Return the operations, under both of their bases."""
    return [
        Route(name, method, base + path, handler)
        for base in BASES
        for name, method, path, handler in (
            ("v2_cluster", "GET", "/cluster", _cluster),
            ("v2_list_vms", "GET", "/vms", _list_vms),
            ("v2_get_vm", "GET", "/vms/{uuid}", _get_vm),
            ("v2_set_power", "POST", "/vms/{uuid}/set_power_state", _set_power),
            ("v2_attach", "POST", "/vms/{uuid}/disks/attach", _attach),
            ("v2_detach", "POST", "/vms/{uuid}/disks/detach", _detach),
            ("v2_list_virtual_disks", "GET", "/virtual_disks", _list_virtual_disks),
            ("v2_get_virtual_disk", "GET", "/virtual_disks/{uuid}", _get_virtual_disk),
            ("v2_list_containers", "GET", "/storage_containers", _list_containers),
            ("v2_get_task", "GET", "/tasks/{uuid}", _get_task),
        )
    ]


def _number(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise ApiError(400, "INVALID_ARGUMENT", f"{name} must be a positive number, not {text!r}")
    return int(text)


def listing(call: Call, entities: list[Json]) -> Response:
    """Answer one page: `page` counts from 1, without `count` everything comes at once."""
    count = _number(call, "count", max(1, len(entities)))
    for fault in call.list_faults():
        fault.check()
        count = min(count, fault.value) if fault.kind == "page_cap" else count
    start = (_number(call, "page", 1) - 1) * count
    page = entities[start : start + count]
    metadata = {
        "grand_total_entities": len(entities),
        "total_entities": len(entities),
        "count": len(page),
        "start_index": start + 1 if page else 0,
        "end_index": start + len(page),
    }
    return JSONResponse({"metadata": metadata, "entities": page})


def cluster_of(call: Call) -> Cluster:
    """Return the cluster whose Prism Element is asked."""
    assert call.cluster is not None, "v2 is spoken by Prism Elements"
    return call.cluster


async def _cluster(call: Call) -> Response:
    world, cluster = call.world, cluster_of(call)
    return JSONResponse(
        {
            "uuid": cluster.id,
            "cluster_uuid": cluster.id,
            "name": cluster.name,
            "version": world.config.aos,
            "full_version": f"el8.5-release-simulated-{world.config.aos}-stable-{'0' * 40}",
            "is_lts": False,
            "cluster_external_ipaddress": cluster.config.element_host,
            "cluster_external_data_services_ipaddress": world.data_services or None,
            "global_nfs_white_list": cluster.config.nfs_allowed,
            "storage_type": cluster.storage_type,
            "encrypted": cluster.config.encrypted,
            "operation_mode": "NORMAL",
            "is_upgrade_in_progress": False,
            "is_registered_to_pc": True,
            "num_nodes": len(cluster.hosts),
            "hypervisor_types": ["kKvm"],
            "usage_stats": {"storage.usage_bytes": "-1"},
        }
    )


# -- VMs and disks


def _vm_json(world: World, vm: Vm, *, with_disks: bool) -> Json:
    result: Json = {
        "uuid": vm.id,
        "name": vm.name,
        "power_state": {"paused": "suspended"}.get(vm.config.power, vm.config.power),
        "host_uuid": vm.host_id if vm.config.power == "on" else None,
        "num_vcpus": 2,
        "num_cores_per_vcpu": 1,
        "memory_mb": 4096,
        "boot": {"uefi_boot": vm.config.nvram is not None, "secure_boot": False},
        "machine_type": "pc",
        "timezone": "UTC",
    }
    if with_disks:
        result["vm_disk_info"] = [_disk_info(world, file) for file in world.files_of(vm) if file.kind != "nvram"]
    return result


def _disk_info(world: World, file: LiveFile) -> Json:
    address: Json = {
        "device_bus": file.bus,
        "device_index": file.index,
        "device_uuid": file.device,
        "disk_label": f"{file.bus}.{file.index}",
        "ndfs_filepath": world.layout.live_path(file.container, file.vmdisk),
        "vmdisk_uuid": file.vmdisk,
        "volume_group_uuid": None,
    }
    clone = world.state.clones.get(file.vmdisk)
    source = None
    if clone is not None:
        source = {"ndfs_filepath": clone.source_path or None, "vmdisk_uuid": None}
    return {
        "disk_address": address,
        "is_cdrom": file.kind == "cdrom",
        "is_empty": False,
        "is_hot_remove_enabled": True,
        "is_scsi_passthrough": True,
        "is_thin_provisioned": False,
        "flash_mode_enabled": False,
        "shared": False,
        "size": file.size,
        "source_disk_address": source,
        "storage_container_uuid": world.container_id(file.container, file.cluster),
    }


def _vm(world: World, uuid: str) -> Vm:
    vm = world.vms.get(uuid)
    if vm is None:
        raise ApiError(404, "ENTITY_NOT_FOUND", f"VM {uuid} does not exist")
    return vm


def _wants_disks(call: Call) -> bool:
    return call.query.get("include_vm_disk_config", "false").lower() == "true"


async def _list_vms(call: Call) -> Response:
    wants = _wants_disks(call)
    return listing(call, [_vm_json(call.world, vm, with_disks=wants) for vm in call.world.vms_of(call.cluster)])


async def _get_vm(call: Call) -> Response:
    vm = _vm(call.world, call.parts["uuid"])
    return JSONResponse(_vm_json(call.world, vm, with_disks=_wants_disks(call)))


def _virtual_disks(call: Call) -> list[Json]:
    world, cluster = call.world, cluster_of(call)
    return [
        {
            "uuid": file.vmdisk,
            "virtual_disk_id": f"{cluster.id}::{file.vmdisk}",
            "device_uuid": file.device,
            "nutanix_nfsfile_path": world.layout.live_path(file.container, file.vmdisk),
            "disk_address": f"{file.bus}.{file.index}",
            "attached_vm_uuid": vm.id,
            "attached_vmname": vm.name,
            "attached_volume_group_id": None,
            "disk_capacity_in_bytes": file.size,
            "storage_container_uuid": cluster.container_id(file.container),
            "cluster_uuid": cluster.id,
            "flash_mode_enabled": False,
            "stats": {"controller_num_iops": "-1", **_tier_usage(vm, file)},
            "usage_stats": {"storage.usage_bytes": "-1"},
        }
        for vm in world.vms_of(cluster)
        for file in world.disks_of(vm)
    ]


def _tier_usage(vm: Vm, file: LiveFile) -> Json:
    """Return what a disk takes on each tier: text, -1 where it is not told.  All of it is on the host's first one."""
    used = file.path.stat().st_blocks * 512
    first = vm.host.tiers[0] if vm.host.tiers else "pcie"
    on_flash, on_hdd = (-1, used) if first == "hdd" else (used, 0)
    return {
        "controller.storage_tier.ssd.usage_bytes": str(on_flash),
        "controller.storage_tier.das-sata.usage_bytes": str(on_hdd),
        "controller.storage_tier.cloud.usage_bytes": "-1",
    }


async def _list_virtual_disks(call: Call) -> Response:
    return listing(call, _virtual_disks(call))


async def _get_virtual_disk(call: Call) -> Response:
    uuid = call.parts["uuid"]
    found = [disk for disk in _virtual_disks(call) if disk["uuid"] == uuid]
    if not found:
        raise ApiError(404, "ENTITY_NOT_FOUND", f"Virtual disk {uuid} does not exist")
    return JSONResponse(found[0])


_TRANSITIONS: dict[object, Power] = {"ON": "on", "ACPI_SHUTDOWN": "off"}


async def _set_power(call: Call) -> Response:
    vm = _vm(call.world, call.parts["uuid"])
    power = _TRANSITIONS.get((await call.json()).get("transition"))
    if power is None:
        raise ApiError(422, "INVALID_ARGUMENT", f"transition must be one of {', '.join(map(str, _TRANSITIONS))}")
    return JSONResponse({"task_uuid": actions.set_power(call.world, vm, power).id}, 201)


# -- hot-add


def _object(value: Any, name: str) -> Json:
    if not isinstance(value, dict):
        raise ApiError(422, "INVALID_REQUEST", f"{name} must be an object")
    return value


async def _one_disk(call: Call) -> tuple[Vm, Json]:
    vm = _vm(call.world, call.parts["uuid"])
    body = await call.json()
    if body.get("uuid", vm.id) != vm.id:
        raise ApiError(422, "INVALID_ARGUMENT", f"uuid {body['uuid']} is not the VM of the path")
    disks = body.get("vm_disks")
    if not isinstance(disks, list) or len(disks) != 1:
        raise ApiError(422, "INVALID_REQUEST", "vm_disks must be a list of one disk")
    return vm, _object(disks[0], "vm_disks[0]")


def source_file(world: World, path: object) -> FrozenFile:
    """Return the frozen file that a path names.  Errors: ApiError 422."""
    file = world.find_snapshot_path(path) if isinstance(path, str) else None
    if file is None:
        raise ApiError(422, "INVALID_ARGUMENT", f"ndfs_filepath {path!r} does not name a file that can be cloned")
    return file


async def _attach(call: Call) -> Response:
    vm, disk = await _one_disk(call)
    clone = _object(disk.get("vm_disk_clone"), "vm_disk_clone")
    address = _object(clone.get("disk_address"), "vm_disk_clone.disk_address")
    bus = str(address.get("device_bus", "SCSI")).lower()
    if bus == "ide" and vm.config.power == "on":
        raise ApiError(422, "INVALID_ARGUMENT", "Disks on bus IDE cannot be hot-added")
    path = address.get("ndfs_filepath")
    source = actions.CloneSource(source_file(call.world, path), path=str(path))
    task = actions.attach(call.world, vm, source, bus, address.get("device_index"))
    return JSONResponse({"task_uuid": task.id}, 201)


async def _detach(call: Call) -> Response:
    vm, disk = await _one_disk(call)
    address = _object(disk.get("disk_address"), "disk_address")
    clone = actions.hot_added(call.world, vm, str(address.get("vmdisk_uuid", address.get("device_uuid", ""))))
    if clone is None:
        raise ApiError(404, "ENTITY_NOT_FOUND", "The disk is not attached to the VM")
    task = actions.detach(call.world, vm, clone)
    return JSONResponse({"task_uuid": task.id}, 201)


# -- containers and tasks


def _container(cluster: Cluster, container: ContainerConfig) -> Json:
    return {
        "id": f"{cluster.id}::{container.name}",
        "storage_container_uuid": cluster.container_id(container.name),
        "name": container.name,
        "cluster_uuid": cluster.id,
        "marked_for_removal": False,
        "max_capacity": 10 * 1024**4,
        "advertised_capacity": None,
        "replication_factor": container.replication_factor,
        "nfs_whitelist": container.nfs_allowed or [],
        "nfs_whitelist_inherited": container.nfs_allowed is None,
        "random_io_preference": _TIERS,
        "seq_io_preference": _TIERS,
        "erasure_code": "on" if container.erasure_code else "off",
        "finger_print_on_write": "ON" if container.dedup else "OFF",
        "on_disk_dedup": "POST_PROCESS" if container.dedup else "OFF",
        "compression_enabled": container.compression,
        "compression_delay_in_secs": container.compression_delay_s,
        "encrypted": container.encrypted,
        "is_nutanix_managed": container.internal,
        "usage_stats": {"storage.usage_bytes": "-1"},
    }


async def _list_containers(call: Call) -> Response:
    cluster = cluster_of(call)
    return listing(call, [_container(cluster, container) for container in cluster.config.containers])


def _task_json(task: Task) -> Json:
    return {
        "uuid": task.id,
        "meta_request": {"method_name": task.operation},
        "meta_response": {"error_code": 1 if task.error else 0, "error_detail": task.error},
        "operation_type": task.operation,
        "progress_status": task.status.capitalize(),
        "percentage_complete": task.progress,
        "entity_list": [
            {"entity_id": e.id, "entity_name": e.name or None, "entity_type": e.kind} for e in task.entities
        ],
        "create_time_usecs": int(task.created * 1_000_000),
    }


async def _get_task(call: Call) -> Response:
    uuid = call.parts["uuid"]
    task = call.world.state.tasks.get(uuid)
    if task is None or not is_uuid(uuid):
        raise ApiError(404, "ENTITY_NOT_FOUND", f"Task {uuid} does not exist")
    return JSONResponse(_task_json(task))

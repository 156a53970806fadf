"""API v4 on Prism Central: VMs and their disks, recovery points, tasks."""

from __future__ import annotations

from starlette.responses import Response

from ntxengine.sim import actions, groups, ids, v4_schema, v4_shapes
from ntxengine.sim.answers import ApiError, Json, SchemaError, app_message
from ntxengine.sim.config import Power
from ntxengine.sim.front import Call, Route
from ntxengine.sim.groups import Group
from ntxengine.sim.model import Point, Task, Vm, VmPoint
from ntxengine.sim.v4_query import (
    accepted,
    check_if_match,
    etags_of,
    info_route,
    listing,
    not_found,
    one,
    request_key,
    route,
)

NAMESPACES = ("vmm", "dataprotection", "prism")

_DP = "dataprotection.v4.config"
_VMM = "vmm.v4.ahv.config"
_FIRST_WITH_CLONES = 1
"""The minor revision of vmm from which a disk can be made of a disk recovery point."""

_CLONED_FROM = {
    f"{_VMM}.VmDiskRecoveryPointReference": "vmRecoveryPointExtId",
    f"{_VMM}.VolumeDiskRecoveryPointReference": "volumeGroupRecoveryPointExtId",
}
"""By what a hot-added disk is made from, the field that names the part of the recovery point."""


def routes() -> list[Route]:
    """Return everything but cluster discovery (v4_content)."""
    vms, points = "ahv/config/vms", "config/recovery-points"
    return [
        *(info_route(namespace) for namespace in NAMESPACES),
        route("list_vms", "GET", "vmm", vms, _list_vms),
        route("get_vm", "GET", "vmm", vms + "/{vm}", _get_vm),
        route("get_guest_tools", "GET", "vmm", vms + "/{vm}/guest-tools", _get_guest_tools),
        route("shut_down", "POST", "vmm", vms + "/{vm}/$actions/shutdown", _shut_down),
        route("power_on", "POST", "vmm", vms + "/{vm}/$actions/power-on", _power_on),
        route("list_disks", "GET", "vmm", vms + "/{vm}/disks", _list_disks),
        route("create_disk", "POST", "vmm", vms + "/{vm}/disks", _create_disk),
        route("get_disk", "GET", "vmm", vms + "/{vm}/disks/{disk}", _get_disk),
        route("delete_disk", "DELETE", "vmm", vms + "/{vm}/disks/{disk}", _delete_disk),
        route("list_recovery_points", "GET", "dataprotection", points, _list_points),
        route("create_recovery_point", "POST", "dataprotection", points, _create_point),
        route("get_recovery_point", "GET", "dataprotection", points + "/{point}", _get_point),
        route("delete_recovery_point", "DELETE", "dataprotection", points + "/{point}", _delete_point),
        route(
            "set_expiration_time",
            "POST",
            "dataprotection",
            points + "/{point}/$actions/set-expiration-time",
            _set_expiration_time,
        ),
        route(
            "get_vm_recovery_point",
            "GET",
            "dataprotection",
            points + "/{point}/vm-recovery-points/{vm_point}",
            _get_vm_point,
        ),
        route("list_tasks", "GET", "prism", "config/tasks", _list_tasks),
        route("get_task", "GET", "prism", "config/tasks/{task}", _get_task),
        route("cancel_task", "POST", "prism", "config/tasks/{task}/$actions/cancel", _cancel_task),
    ]


# -- VMs and disks


def _vm(call: Call) -> Vm:
    vm = call.world.vms.get(call.parts["vm"])
    if vm is None:
        raise not_found("VM", call.parts["vm"], code="VMM-30100", group="VM_NOT_FOUND")
    return vm


async def _list_vms(call: Call) -> Response:
    entities = [v4_shapes.vm(call.world, vm) for vm in call.world.vms.values()]
    return listing(call, f"{_VMM}.ListVmsApiResponse", f"{_VMM}.Vm", entities)


async def _get_vm(call: Call) -> Response:
    vm = _vm(call)
    data = v4_shapes.vm(call.world, vm)
    return one(call, f"{_VMM}.GetVmApiResponse", data, etag=call.world.vm_etag(vm) if etags_of(call).vm_tells else "")


async def _get_guest_tools(call: Call) -> Response:
    vm = _vm(call)
    data = v4_shapes.guest_tools(vm)
    return one(call, f"{_VMM}.GetGuestToolsApiResponse", data, etag=call.world.vm_etag(vm))


async def _shut_down(call: Call) -> Response:
    return _set_power(call, "off", f"{_VMM}.ShutdownVmApiResponse")


async def _power_on(call: Call) -> Response:
    return _set_power(call, "on", f"{_VMM}.PowerOnVmApiResponse")


def _set_power(call: Call, power: Power, kind: str) -> Response:
    vm, key = _vm(call), request_key(call, required=True)
    if (known := actions.known(call.world, key)) is None:
        check_if_match(call, {call.world.vm_etag(vm)})
        if vm.config.power == power:
            raise ApiError(409, "VM_INVALID_STATE", f"The VM is powered {power}", code="VMM-30105")
        known = actions.once(call.world, key, lambda: actions.set_power(call.world, vm, power))
    return accepted(call, kind, known)


async def _list_disks(call: Call) -> Response:
    vm = _vm(call)
    entities = [v4_shapes.disk(call.world, file) for file in call.world.disks_of(vm)]
    return listing(call, f"{_VMM}.ListDisksApiResponse", f"{_VMM}.Disk", entities)


def _disk_etag(disk: str) -> str:
    return ids.etag("disk", disk)


async def _get_disk(call: Call) -> Response:
    vm = _vm(call)
    file = actions.live_disk(call.world, vm, call.parts["disk"])
    if file is None:
        raise not_found("VM disk", call.parts["disk"], code="VMM-30400", group="VM_DISK_NOT_FOUND")
    data = v4_shapes.disk(call.world, file)
    etag = _disk_etag(file.vmdisk) if etags_of(call).disk_tells else ""
    return one(call, f"{_VMM}.GetDiskApiResponse", data, etag=etag)


def _clone_source(call: Call, body: Json) -> actions.CloneSource:
    backing = v4_schema.mapping(body, "backingInfo")
    if backing.get("$objectType") != f"{_VMM}.VmDisk":
        raise SchemaError("Field backingInfo : $objectType is missing or unknown", place="backingInfo")
    reference = v4_schema.mapping(v4_schema.mapping(backing, "dataSource"), "reference")
    is_known = int(call.parts["revision"]) >= _FIRST_WITH_CLONES
    field = _CLONED_FROM.get(str(reference.get("$objectType")))
    if not is_known or field is None:
        place = "backingInfo.dataSource.reference"
        raise SchemaError(f"Field reference : $objectType {reference.get('$objectType')!r} is unknown", place=place)
    disk_point = v4_schema.uuid(reference, "diskRecoveryPointExtId")
    found = call.world.find_frozen(disk_point)
    part = reference.get(field)
    is_of_vm = field == "vmRecoveryPointExtId"
    if found is None or part not in (None, found[1].id) or isinstance(found[1], VmPoint) != is_of_vm:
        group = "VM_RECOVERY_POINT_NOT_FOUND_ERROR"
        raise not_found("VM recovery point", str(part or disk_point), code="VMM-32810", group=group)
    parts = {"vm_point" if is_of_vm else "group_point": found[1].id}
    return actions.CloneSource(found[2], **parts, disk_point=disk_point)


async def _create_disk(call: Call) -> Response:
    vm = _vm(call)
    body = await call.json()
    v4_schema.known(body, {"diskAddress", "backingInfo"})
    place = body.get("diskAddress") or {}
    bus = str(place.get("busType", "SCSI")).lower()
    if bus not in ("scsi", "ide", "pci", "sata", "spapr"):
        raise SchemaError(f"Field busType : {bus!r} is not in the enumeration", place="diskAddress.busType")
    if bus == "ide" and vm.config.power == "on":
        raise ApiError(409, "VM_INVALID_STATE", "Disks on bus IDE cannot be hot-added", code="VMM-30105")
    source = _clone_source(call, body)
    index = v4_schema.integer(place, "index", None)
    key = request_key(call, required=False)
    task = actions.once(call.world, key, lambda: actions.attach(call.world, vm, source, bus, index))
    return accepted(call, f"{_VMM}.CreateDiskApiResponse", task)


async def _delete_disk(call: Call) -> Response:
    vm = _vm(call)
    world, disk = call.world, call.parts["disk"]
    known = actions.known(world, request_key(call, required=False))
    if known is not None:
        return accepted(call, f"{_VMM}.DeleteDiskApiResponse", known)
    file = actions.live_disk(world, vm, disk)
    if file is None:
        raise not_found("VM disk", disk, code="VMM-30400", group="VM_DISK_NOT_FOUND")
    check_if_match(call, {_disk_etag(disk), world.vm_etag(vm)})
    clone = actions.hot_added(world, vm, disk)
    if clone is None:
        raise ApiError(
            409, "VM_INVALID_STATE", "Only hot-added disks can be removed in the simulator", code="VMM-30409"
        )
    key = request_key(call, required=False)
    task = actions.once(world, key, lambda: actions.detach(world, vm, clone))
    return accepted(call, f"{_VMM}.DeleteDiskApiResponse", task)


# -- recovery points


def _point(call: Call) -> Point:
    point = call.world.state.points.get(call.parts["point"])
    if point is None or point.family != "v4" or not point.is_frozen:
        group = "RECOVERY_POINT_NOT_FOUND_ERROR"
        raise not_found("recovery point", call.parts["point"], code="DP-10404", group=group)
    return point


async def _list_points(call: Call) -> Response:
    world = call.world
    wants = world.config.disks_in_recovery_point
    entities = [v4_shapes.recovery_point(world, point, with_disks=wants) for point in world.points("v4")]
    return listing(call, f"{_DP}.ListRecoveryPointsApiResponse", f"{_DP}.RecoveryPoint", entities)


async def _create_point(call: Call) -> Response:
    world = call.world
    key = request_key(call, required=True)
    body = await call.json()
    name, consistency, vm_ids, group_ids = v4_schema.recovery_point(body)
    expires = v4_schema.expiration(body, world.clock(), required=False)

    def create() -> Task:
        for vm_id in vm_ids:
            if vm_id not in world.vms:
                raise not_found("VM", vm_id, code="DP-10404", group="VM_NOT_FOUND")
        vms = tuple(world.vms[vm_id] for vm_id in vm_ids)
        spec = actions.PointSpec("v4", name, consistency, expires, vms, tuple(_group(call, one) for one in group_ids))
        return actions.create_point(world, spec)[1]

    return accepted(call, f"{_DP}.CreateRecoveryPointApiResponse", actions.once(world, key, create))


def _group(call: Call, group_id: str) -> Group:
    group = groups.find(call.world, group_id)
    if group is None:
        raise not_found("volume group", group_id, code="DP-10404", group="VOLUME_GROUP_NOT_FOUND")
    return group


async def _get_point(call: Call) -> Response:
    wants = call.world.config.disks_in_recovery_point
    data = v4_shapes.recovery_point(call.world, _point(call), with_disks=wants)
    return one(call, f"{_DP}.GetRecoveryPointApiResponse", data)


async def _get_vm_point(call: Call) -> Response:
    point = _point(call)
    vm_point = next((one for one in point.vms if one.id == call.parts["vm_point"]), None)
    if vm_point is None:
        raise not_found("VM recovery point", call.parts["vm_point"], code="DP-10404")
    data = v4_shapes.vm_recovery_point(point, vm_point, with_disks=True)
    return one(call, f"{_DP}.GetVmRecoveryPointApiResponse", data)


async def _delete_point(call: Call) -> Response:
    key = request_key(call, required=True)
    known = actions.known(call.world, key)
    if known is None:
        point = _point(call)
        known = actions.once(call.world, key, lambda: actions.delete_point(call.world, point))
    return accepted(call, f"{_DP}.DeleteRecoveryPointApiResponse", known)


async def _set_expiration_time(call: Call) -> Response:
    point = _point(call)
    body = await call.json()
    v4_schema.known(body, {"expirationTime"})
    expires = v4_schema.expiration(body, call.world.clock(), required=True)
    key = request_key(call, required=False)
    task = actions.once(call.world, key, lambda: actions.set_expiry(call.world, point, expires))
    return accepted(call, f"{_DP}.UpdateRecoveryPointExpirationTimeApiResponse", task)


# -- tasks


async def _list_tasks(call: Call) -> Response:
    tasks = sorted(call.world.state.tasks.values(), key=lambda task: task.created, reverse=True)
    entities = [v4_shapes.task(call.world, task) for task in tasks]
    return listing(call, "prism.v4.config.ListTasksApiResponse", "prism.v4.config.Task", entities)


def _task(call: Call) -> Task:
    prefix, _, uuid = call.parts["task"].partition(":")
    task = call.world.state.tasks.get(uuid)
    if prefix != ids.TASK_PREFIX or task is None:
        raise not_found("task", call.parts["task"], code="PRI-10404", group="TASK_NOT_FOUND")
    return task


async def _get_task(call: Call) -> Response:
    return one(call, "prism.v4.config.GetTaskApiResponse", v4_shapes.task(call.world, _task(call)))


async def _cancel_task(call: Call) -> Response:
    task = _task(call)
    if not call.world.config.faults.cancelable_tasks or task.is_done:
        raise ApiError(409, "TASK_NOT_CANCELABLE", f"Task {call.parts['task']} cannot be canceled", code="PRI-10409")
    call.world.tasks.cancel(task)
    text = f"Task {call.parts['task']} is being canceled"
    return one(call, "prism.v4.config.CancelTaskApiResponse", app_message("prism", text, "PRI-10202", severity="INFO"))

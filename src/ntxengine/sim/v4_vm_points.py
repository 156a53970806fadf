"""API v4 on Prism Central: recovery points of one VM, as the name space of VMs gives them (vmm 4.1 or later).

They are the parts of recovery points by another way in; one that is made here is a recovery point of one VM.
LIMIT: the VM's configuration in them is that of now.
"""

from __future__ import annotations

from starlette.responses import Response

from ntxengine.sim import actions, v4_schema, v4_shapes
from ntxengine.sim.answers import ApiError, Json
from ntxengine.sim.front import Call, Route
from ntxengine.sim.model import Point, VmPoint
from ntxengine.sim.v4_query import accepted, listing, not_found, one, request_key, route
from ntxengine.sim.world import World

_VMM = "vmm.v4.ahv.config"
_FIRST_REVISION = 1


def routes() -> list[Route]:
    """Return the operations."""
    path = "ahv/config/vm-recovery-points"
    return [
        route("list_vm_recovery_points", "GET", "vmm", path, _list),
        route("create_vm_recovery_point", "POST", "vmm", path, _create),
        route("get_one_vm_recovery_point", "GET", "vmm", path + "/{vm_point}", _get),
        route("delete_vm_recovery_point", "DELETE", "vmm", path + "/{vm_point}", _delete),
    ]


def _check_revision(call: Call) -> None:
    if int(call.parts["revision"]) < _FIRST_REVISION:
        raise ApiError(404, "NOT_FOUND", f"Version v4.{call.parts['revision']} of vmm has no VM recovery points")


def _shape(world: World, point: Point, vm_point: VmPoint) -> Json:
    found = v4_shapes.vm_recovery_point(point, vm_point, with_disks=True)
    del found["hypervisorType"]
    vm = world.vms.get(vm_point.vm_id)
    return found | {"$objectType": f"{_VMM}.VmRecoveryPoint", "vm": v4_shapes.vm(world, vm) if vm else None}


def _found(call: Call) -> tuple[Point, VmPoint]:
    _check_revision(call)
    for point in call.world.points("v4"):
        for vm_point in point.vms:
            if vm_point.id == call.parts["vm_point"]:
                return point, vm_point
    group = "VM_RECOVERY_POINT_NOT_FOUND_ERROR"
    raise not_found("VM recovery point", call.parts["vm_point"], code="VMM-32810", group=group)


async def _list(call: Call) -> Response:
    _check_revision(call)
    entities = [_shape(call.world, point, vm) for point in call.world.points("v4") for vm in point.vms]
    return listing(call, f"{_VMM}.ListVmRecoveryPointsApiResponse", f"{_VMM}.VmRecoveryPoint", entities)


async def _get(call: Call) -> Response:
    return one(call, f"{_VMM}.GetVmRecoveryPointApiResponse", _shape(call.world, *_found(call)))


async def _create(call: Call) -> Response:
    _check_revision(call)
    world, key, body = call.world, request_key(call, required=False), await call.json()
    v4_schema.known(body, {"name", "expirationTime", "recoveryPointType", "vmExtId", "applicationConsistentProperties"})
    vm = {name: body[name] for name in ("vmExtId", "applicationConsistentProperties") if name in body}
    whole = {name: body[name] for name in ("name", "recoveryPointType") if name in body} | {"vmRecoveryPoints": [vm]}
    name, consistency, [vm_id], _ = v4_schema.recovery_point(whole)
    expires = v4_schema.expiration(body, world.clock(), required=False)
    if vm_id not in world.vms:
        raise not_found("VM", vm_id, code="VMM-30100", group="VM_NOT_FOUND")
    spec = actions.PointSpec("v4", name, consistency, expires, (world.vms[vm_id],))
    task = actions.once(world, key, lambda: actions.create_point(world, spec)[1])
    return accepted(call, f"{_VMM}.CreateVMRecoveryPointApiResponse", task)


async def _delete(call: Call) -> Response:
    world, key = call.world, request_key(call, required=False)
    task = actions.known(world, key)
    if task is None:
        point, _ = _found(call)
        if len(point.parts) > 1:
            text = "The VM recovery point is one of several in a recovery point: delete that"
            raise ApiError(409, "VM_RECOVERY_POINT_INVALID_STATE", text, code="VMM-32409")
        task = actions.once(world, key, lambda: actions.delete_point(world, point))
    return accepted(call, f"{_VMM}.DeleteVmRecoveryPointApiResponse", task)

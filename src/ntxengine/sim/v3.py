"""API v3: inventory on both endpoints; snapshots, changed regions and tasks on Prism Element only."""

from __future__ import annotations

import asyncio

from starlette.responses import JSONResponse, Response

from ntxengine.ids import is_uuid
from ntxengine.sim import actions, ids, v3_clusters, v3_schema, v3_shapes
from ntxengine.sim.answers import ApiError, Json, time_text
from ntxengine.sim.faults.hidden import Question, hide
from ntxengine.sim.faults.regions import spoil
from ntxengine.sim.front import Call, Route
from ntxengine.sim.model import FrozenFile, Identifiers, Point, Vm
from ntxengine.sim.pages import Window
from ntxengine.sim.regions import compute
from ntxengine.sim.v3_query import BASE, listing
from ntxengine.sim.world import World


def routes(*, is_central: bool) -> list[Route]:
    """Return the operations of one endpoint."""

    both = [
        *v3_clusters.routes(),
        Route("v3_list_vms", "POST", f"{BASE}/vms/list", _list_vms),
        Route("v3_get_vm", "GET", f"{BASE}/vms/{{uuid}}", _get_vm),
        Route("v3_get_task", "GET", f"{BASE}/tasks/{{uuid}}", _get_task),
        Route("v3_poll_tasks", "POST", f"{BASE}/tasks/poll", _poll_tasks),
        Route("v3_create_identifiers", "POST", f"{BASE}/idempotence_identifiers", _create_identifiers),
        Route("v3_get_identifiers", "GET", f"{BASE}/idempotence_identifiers/{{client}}", _get_identifiers),
        Route("v3_delete_identifiers", "DELETE", f"{BASE}/idempotence_identifiers/{{client}}", _delete_identifiers),
    ]
    if is_central:
        return both
    return [
        *both,
        Route("v3_create_snapshot", "POST", f"{BASE}/vm_snapshots", _create_snapshot),
        Route("v3_list_snapshots", "POST", f"{BASE}/vm_snapshots/list", _list_snapshots),
        Route("v3_get_snapshot", "GET", f"{BASE}/vm_snapshots/{{uuid}}", _get_snapshot),
        Route("v3_update_snapshot", "PUT", f"{BASE}/vm_snapshots/{{uuid}}", _update_snapshot),
        Route("v3_delete_snapshot", "DELETE", f"{BASE}/vm_snapshots/{{uuid}}", _delete_snapshot),
        Route("v3_changed_regions", "POST", f"{BASE}/data/changed_regions", _changed_regions),
    ]


# -- inventory


async def _list_vms(call: Call) -> Response:
    world = call.world
    return await listing(call, "vm", lambda: [v3_shapes.vm(world, vm) for vm in world.vms_of(call.cluster)])


async def _get_vm(call: Call) -> Response:
    return JSONResponse(v3_shapes.vm(call.world, _vm(call.world, call.parts["uuid"])))


def _vm(world: World, uuid: str) -> Vm:
    vm = world.vms.get(uuid)
    if vm is None:
        raise ApiError(404, "ENTITY_NOT_FOUND", f"The VM with uuid {uuid} does not exist")
    return vm


# -- tasks and identifiers


async def _get_task(call: Call) -> Response:
    task = call.world.state.tasks.get(call.parts["uuid"])
    if task is None:
        raise ApiError(404, "ENTITY_NOT_FOUND", f"The task with uuid {call.parts['uuid']} does not exist")
    return JSONResponse(v3_shapes.task(call.world, task))


async def _poll_tasks(call: Call) -> Response:
    body = await call.json()
    v3_schema.check(body, v3_schema.TASK_POLL)
    wanted: list[str] = body["task_uuid_list"]
    known = call.world.state.tasks
    for uuid in wanted:
        if uuid not in known:
            raise ApiError(404, "ENTITY_NOT_FOUND", f"The task with uuid {uuid} does not exist")
    is_done = await call.world.tasks.wait(wanted, body["poll_timeout_seconds"])
    entities = [v3_shapes.task(call.world, known[uuid]) for uuid in wanted]
    return JSONResponse({"entities": entities, "has_poll_timed_out": not is_done})


async def _create_identifiers(call: Call) -> Response:
    body = await call.json()
    v3_schema.check(body, v3_schema.IDENTIFIERS)
    world = call.world
    client = body.get("client_identifier", ids.fresh())
    known = world.state.identifiers.get(client)
    if known is None or known.expires <= world.clock():
        expires = world.clock() + 60 * body.get("valid_duration_in_minutes", 527_040)
        known = Identifiers(client, expires, [ids.fresh() for _ in range(body["count"])])
        world.state.identifiers[client] = known
        world.save()
    return _identifiers(known)


def _identifiers(known: Identifiers) -> Response:
    return JSONResponse(
        {
            "client_identifier": known.client,
            "count": len(known.uuids),
            "expiration_time": time_text(known.expires),
            "uuid_list": known.uuids,
        }
    )


async def _get_identifiers(call: Call) -> Response:
    known = call.world.state.identifiers.get(call.parts["client"])
    if known is None:
        raise ApiError(404, "ENTITY_NOT_FOUND", f"client_identifier {call.parts['client']} does not exist")
    return _identifiers(known)


async def _delete_identifiers(call: Call) -> Response:
    if call.world.state.identifiers.pop(call.parts["client"], None) is None:
        raise ApiError(404, "ENTITY_NOT_FOUND", f"client_identifier {call.parts['client']} does not exist")
    call.world.save()
    return JSONResponse(None)


# -- snapshots


def _point(world: World, uuid: str) -> Point:
    point = world.state.points.get(uuid)
    if point is None or point.family != "v3":
        raise ApiError(404, "ENTITY_NOT_FOUND", f"The vm_snapshot with uuid {uuid} does not exist")
    return point


async def _create_snapshot(call: Call) -> Response:
    world = call.world
    body = await call.json()
    v3_schema.check(body, v3_schema.SNAPSHOT)
    metadata, spec = body["metadata"], body["spec"]
    v3_schema.check(
        {"kind": metadata.get("kind")}, {"kind": v3_schema.Field(str, choices=("vm_snapshot",))}, "metadata."
    )
    v3_schema.check(spec, v3_schema.SNAPSHOT_SPEC, "spec.")
    v3_schema.check(spec.get("resources", {}), v3_schema.SNAPSHOT_RESOURCES, "spec.resources.")
    uuid = metadata.get("uuid", ids.fresh())
    if not is_uuid(uuid):
        raise v3_schema.refuse(f"metadata.uuid: {uuid!r} does not match the pattern of a UUID", "INVALID_UUID")
    known = world.state.points.get(uuid)
    if known is not None:
        return _accepted(world, known, "PENDING", known.task)
    vm = _vm(world, spec.get("resources", {}).get("entity_uuid", ""))
    asked = actions.PointSpec(
        family="v3",
        name=spec.get("name", ""),
        consistency=spec.get("snapshot_type", actions.CRASH),
        expires=_expiry(world, spec),
        vms=(vm,),
        id=uuid,
    )
    point, task = actions.create_point(world, asked)
    return _accepted(world, point, "PENDING", task.id)


def _expiry(world: World, spec: Json) -> float | None:
    msecs = spec.get("expiration_time_msecs")
    if msecs is not None and msecs / 1000 <= world.clock():
        raise ApiError(422, "INVALID_ARGUMENT", f"expiration_time_msecs {msecs} is in the past")
    return None if msecs is None else msecs / 1000


def _accepted(world: World, point: Point, state: str, task_id: str) -> Response:
    answer = v3_shapes.snapshot(world, point)
    answer["status"]["state"] = state
    answer["status"]["snapshot_file_list"] = []
    answer["status"]["execution_context"] = {"task_uuid": task_id}
    return JSONResponse(answer, 202)


async def _list_snapshots(call: Call) -> Response:
    world = call.world

    def entities() -> list[Json]:
        seen = {vm.id for vm in world.vms_of(call.cluster)}
        points = [point for point in world.points("v3") if all(vm.vm_id in seen for vm in point.vms)]
        every = [v3_shapes.snapshot(world, point) for point in points]
        return [entity for entity in every if entity["status"]["state"] == "COMPLETE"]

    return await listing(call, "vm_snapshot", entities)


async def _get_snapshot(call: Call) -> Response:
    return JSONResponse(v3_shapes.snapshot(call.world, _point(call.world, call.parts["uuid"])))


async def _update_snapshot(call: Call) -> Response:
    point = _point(call.world, call.parts["uuid"])
    body = await call.json()
    v3_schema.check(body, v3_schema.SNAPSHOT)
    v3_schema.check(body["spec"], v3_schema.SNAPSHOT_SPEC, "spec.")
    task = actions.set_expiry(call.world, point, _expiry(call.world, body["spec"]))
    return _accepted(call.world, point, "PENDING", task.id)


async def _delete_snapshot(call: Call) -> Response:
    point = _point(call.world, call.parts["uuid"])
    task = actions.delete_point(call.world, point)
    return _accepted(call.world, point, "DELETE_PENDING", task.id)


# -- changed regions


def _snapshot_file(world: World, path: str) -> FrozenFile:
    file = world.find_snapshot_path(path)
    if file is None:
        message = f"kInvalidValue: Snapshot file pathname {path} is not valid"
        raise ApiError(400, "ENTITY_NOT_FOUND", message)
    return file


async def _changed_regions(call: Call) -> Response:
    world = call.world
    body = await call.json()
    v3_schema.check(body, v3_schema.CHANGED_REGIONS)
    file = _snapshot_file(world, body["snapshot_file_path"])
    old = body.get("reference_snapshot_file_path")
    reference = None if old is None else world.frozen_file(_snapshot_file(world, old))
    window = Window(
        start=body.get("start_offset", 0),
        end=body.get("end_offset"),
        count=world.config.limits.regions_per_page,
        zeroes=True,
        look_ahead=True,
    )
    try:
        page = await asyncio.to_thread(compute, world.frozen_file(file), reference, window)
    except FileNotFoundError as exc:
        raise ApiError(400, "ENTITY_NOT_FOUND", "kInvalidValue: Snapshot file was deleted meanwhile") from exc
    question: Question = "allocated" if reference is None else "changed"
    page = hide(page, world.config.faults.hidden, (file.vmdisk, file.device), question)
    page = spoil(page, window, world.config.faults.regions)
    kinds = {False: page.data_type, True: "ZEROED"}
    answer: Json = {
        "region_list": [{"offset": o, "length": n, "type": kinds[zero]} for o, n, zero in page.regions],
        "file_size": page.size,
    }
    if page.next_offset is not None:
        answer["next_offset"] = page.next_offset
    elif world.config.last_offset != "absent":
        answer["next_offset"] = 0 if world.config.last_offset == "zero" else None
    return JSONResponse(answer)

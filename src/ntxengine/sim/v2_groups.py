"""API v2 on Prism Element: volume groups of snapshot files."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import JSONResponse, Response

from ntxengine.ids import is_uuid
from ntxengine.sim import made_groups
from ntxengine.sim.answers import ApiError, Json
from ntxengine.sim.clusters import Cluster
from ntxengine.sim.front import Call, Route
from ntxengine.sim.made_groups import DiskSource, GroupSpec
from ntxengine.sim.model import Initiator, MadeGroup
from ntxengine.sim.target import IQN
from ntxengine.sim.tasks import TaskFailure
from ntxengine.sim.v2 import BASES, cluster_of, listing, source_file
from ntxengine.sim.v4_volumes_schema import is_secret
from ntxengine.sim.world import World

_NAME = re.compile(r"[^\[\]?*'\",]+")


def routes() -> list[Route]:
    """Return the operations, under both bases of v2."""
    return [
        Route(name, method, base + "/volume_groups" + path, handler)
        for base in BASES
        for name, method, path, handler in (
            ("v2_list_groups", "GET", "", _list),
            ("v2_create_group", "POST", "", _create),
            ("v2_get_group", "GET", "/{uuid}", _get),
            ("v2_delete_group", "DELETE", "/{uuid}", _delete),
            ("v2_open_group", "POST", "/{uuid}/open", _open),
            ("v2_close_group", "POST", "/{uuid}/close", _close),
        )
    ]


def _shape(world: World, group: MadeGroup, cluster: Cluster) -> Json:
    return {
        "uuid": group.id,
        "name": group.name,
        "iscsi_target": IQN + group.target if world.volume_rules.tells_target else None,
        "is_shared": group.is_shared,
        "is_hidden": group.is_hidden,
        "is_deleted": False,
        "usage_type": group.usage,
        "enabled_authentications": [{"auth_type": "CHAP", "password": None}] if group.secret else [],
        "disk_list": [
            {
                "index": disk.index,
                "vmdisk_uuid": disk.id,
                "vmdisk_path": world.layout.live_path(disk.container, disk.id),
                "vmdisk_size_bytes": world.group_file(group, disk).stat().st_size,
                "storage_container_uuid": cluster.container_id(disk.container),
            }
            for disk in group.disks
        ],
        "attachment_list": [
            {"client_uuid": one.id, "iscsi_initiator_name": one.name, "initiator_ip_address": None, "vm_uuid": None}
            for one in group.initiators
        ],
        "logical_timestamp": len(group.initiators),
    }


def _mine(call: Call) -> list[MadeGroup]:
    cluster = cluster_of(call)
    return [group for group in call.world.made_groups() if group.cluster == cluster.id]


def _group(call: Call) -> MadeGroup:
    uuid = call.parts["uuid"]
    group = next((group for group in _mine(call) if group.id == uuid), None)
    if group is None:
        raise ApiError(404, "ENTITY_NOT_FOUND", f"Volume group {uuid} does not exist")
    return group


async def _list(call: Call) -> Response:
    found = _mine(call) if call.world.volume_rules.is_listed else []
    return listing(call, [_shape(call.world, group, cluster_of(call)) for group in found])


async def _get(call: Call) -> Response:
    return JSONResponse(_shape(call.world, _group(call), cluster_of(call)))


async def _create(call: Call) -> Response:
    spec = _spec(call.world, cluster_of(call), await call.json())
    task = made_groups.create(call.world, spec)
    return JSONResponse({"task_uuid": task.id}, 201)


def _spec(world: World, cluster: Cluster, body: Json) -> GroupSpec:
    name, group_id = body.get("name"), body.get("uuid", "")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ApiError(422, "INVALID_ARGUMENT", f"{name!r} cannot be the name of a volume group")
    if group_id and (not is_uuid(group_id) or group_id in world.state.made_groups):
        raise ApiError(422, "INVALID_ARGUMENT", f"{group_id!r} cannot be the uuid of a new volume group")
    sources = []
    for disk in body.get("disk_list") or []:
        address = ((disk.get("clone_config") or {}).get("disk_address")) or {}
        path = address.get("ndfs_filepath")
        sources.append(DiskSource(source_file(world, path), str(path), disk.get("index")))
    return GroupSpec(
        name=name,
        cluster=cluster,
        sources=tuple(sources),
        id=str(group_id),
        prefix=str(body.get("iscsi_target_prefix") or ""),
        target=str(body.get("iscsi_target") or ""),
        secret=_secret(body.get("enabled_authentications")),
        usage=str(body.get("usage_type", "USER")),
        is_hidden=body.get("is_hidden") is True,
        is_shared=body.get("is_shared") is True,
    )


def _secret(value: Any) -> str:
    """Return the secret of CHAP, "" where it is not asked for."""
    for one in value or []:
        if one.get("auth_type") == "CHAP":
            if not is_secret(one.get("password")):
                raise ApiError(422, "INVALID_ARGUMENT", "The password of CHAP has 12 to 16 letters and digits")
            return str(one["password"])
    return ""


async def _delete(call: Call) -> Response:
    group = _group(call)
    if group.initiators:
        raise ApiError(422, "INVALID_REQUEST", "The volume group has attachments")
    return JSONResponse({"task_uuid": made_groups.delete(call.world, group).id}, 201)


async def _client(call: Call, operation: str) -> Json:
    body = await call.json()
    client = body.get("iscsi_client")
    if body.get("operation", operation) != operation or not isinstance(client, dict):
        raise ApiError(422, "INVALID_REQUEST", f"iscsi_client and the operation {operation} are needed")
    if not isinstance(client.get("client_address"), str):
        raise ApiError(422, "INVALID_ARGUMENT", "client_address is needed: an IQN or an address")
    return client


async def _open(call: Call) -> Response:
    group, client = _group(call), await _client(call, "ATTACH")
    secret = _secret(client.get("enabled_authentications"))
    initiator = made_groups.initiator_of(call.world, client["client_address"], secret)
    try:
        await made_groups.admit(call.world, group, initiator)
    except TaskFailure as exc:
        raise ApiError(422, "INVALID_REQUEST", str(exc)) from exc
    return JSONResponse({"value": True}, 201)


async def _close(call: Call) -> Response:
    group, client = _group(call), await _client(call, "DETACH")
    found: list[Initiator] = [one for one in group.initiators if one.name == client["client_address"]]
    for initiator in found:
        await made_groups.expel(call.world, group, initiator)
    return JSONResponse({"value": bool(found)}, 201)

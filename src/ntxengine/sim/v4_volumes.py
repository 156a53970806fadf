"""API v4 on Prism Central: volume groups.

Those that callers make of disks of recovery points are served over iSCSI.  Those of the configuration, which VMs have
attached, can be listed and looked up, no more.
"""

from __future__ import annotations

from starlette.responses import Response

from ntxengine.sim import actions, groups, ids, made_groups, v4_volumes_schema
from ntxengine.sim.answers import ApiError, Json
from ntxengine.sim.clusters import Cluster
from ntxengine.sim.front import Call, Route
from ntxengine.sim.groups import Group
from ntxengine.sim.model import GroupDisk, Initiator, LiveFile, MadeGroup
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
from ntxengine.sim.v4_shapes import typed
from ntxengine.sim.world import World

_VOL = "volumes.v4.config"


def routes() -> list[Route]:
    """Return the operations of the name space."""
    path = "config/volume-groups"
    group = path + "/{group}"
    return [
        info_route("volumes"),
        route("list_volume_groups", "GET", "volumes", path, _list),
        route("create_volume_group", "POST", "volumes", path, _create),
        route("get_volume_group", "GET", "volumes", group, _get),
        route("delete_volume_group", "DELETE", "volumes", group, _delete),
        route("list_volume_disks", "GET", "volumes", group + "/disks", _list_disks),
        route("list_iscsi_attachments", "GET", "volumes", group + "/external-iscsi-attachments", _list_attachments),
        route("attach_iscsi_client", "POST", "volumes", group + "/$actions/attach-iscsi-client", _attach),
        route("detach_iscsi_client", "POST", "volumes", group + "/$actions/detach-iscsi-client", _detach),
    ]


# -- what they look like


def _configured(world: World, group: Group) -> Json:
    return typed(
        f"{_VOL}.VolumeGroup",
        extId=group.id,
        name=group.config.name,
        clusterReference=world.cluster_id,
        sharingStatus="SHARED" if group.config.is_shared else "NOT_SHARED",
        enabledAuthentications="CHAP" if group.config.chap else "NONE",
        usageType="USER",
        attachmentType="DIRECT",
        isHidden=False,
    )


def _configured_disk(world: World, group: Group, file: LiveFile) -> Json:
    disk = typed(f"{_VOL}.VolumeDisk", extId=file.vmdisk, index=file.index, diskSizeBytes=file.size)
    if group.config.external:
        info = typed(f"{_VOL}.ExternalStorageInfo", volumeName=f"volume-{file.index}")
        return disk | {"externalStorageInfo": info}
    return disk | {"storageContainerId": world.container_id(file.container)}


def _made(world: World, group: MadeGroup) -> Json:
    """Return a volume group.  Its disks and its secret are not told, nor is the prefix of its target's name."""
    return typed(
        f"{_VOL}.VolumeGroup",
        extId=group.id,
        name=group.name,
        clusterReference=group.cluster,
        sharingStatus="SHARED" if group.is_shared else "NOT_SHARED",
        usageType=group.usage,
        attachmentType="EXTERNAL" if group.initiators else "NONE",
        isHidden=group.is_hidden,
        targetName=group.target if world.volume_rules.tells_target else None,
        iscsiFeatures=typed(f"{_VOL}.IscsiFeatures", enabledAuthentications="CHAP" if group.secret else "NONE"),
    )


def _cluster(world: World, group: MadeGroup) -> Cluster:
    return next((one for one in world.clusters if one.id == group.cluster), world.cluster)


def _made_disk(world: World, group: MadeGroup, disk: GroupDisk) -> Json:
    source = typed("common.v1.config.EntityReference", extId=disk.source, entityType="DISK_RECOVERY_POINT")
    return typed(
        f"{_VOL}.VolumeDisk",
        extId=disk.id,
        index=disk.index,
        diskSizeBytes=world.group_file(group, disk).stat().st_size,
        storageContainerId=_cluster(world, group).container_id(disk.container),
        diskDataSourceReference=source if disk.source else None,
    )


# -- questions


def _group(call: Call) -> MadeGroup:
    """Return the volume group of the path, one that a caller made."""
    group_id = call.parts["group"]
    group = next((group for group in call.world.made_groups() if group.id == group_id), None)
    if group is not None:
        return group
    if groups.find(call.world, group_id) is not None:
        text = "Only volume groups that callers made can be changed in the simulator"
        raise ApiError(409, "VOLUME_GROUP_INVALID_STATE", text, code="VOL-10409")
    raise not_found("volume group", group_id, code="VOL-10404", group="VOLUME_GROUP_NOT_FOUND")


def _etag(group: MadeGroup) -> str:
    return ids.etag("volume group", group.id, *(one.id for one in group.initiators))


async def _list(call: Call) -> Response:
    world = call.world
    made = [_made(world, group) for group in world.made_groups()] if world.volume_rules.is_listed else []
    entities = [_configured(world, group) for group in groups.configured(world)] + made
    return listing(call, f"{_VOL}.ListVolumeGroupsApiResponse", f"{_VOL}.VolumeGroup", entities)


async def _get(call: Call) -> Response:
    kind, configured = f"{_VOL}.GetVolumeGroupApiResponse", groups.find(call.world, call.parts["group"])
    if configured is not None:
        return one(call, kind, _configured(call.world, configured), etag=ids.etag("volume group", configured.id))
    group = _group(call)
    return one(call, kind, _made(call.world, group), etag=_etag(group) if etags_of(call).vm_tells else "")


async def _list_disks(call: Call) -> Response:
    world, configured = call.world, groups.find(call.world, call.parts["group"])
    if configured is not None:
        entities = [_configured_disk(world, configured, file) for file in groups.files(configured)]
    else:
        group = _group(call)
        entities = [_made_disk(world, group, disk) for disk in group.disks]
    return listing(call, f"{_VOL}.ListVolumeDisksApiResponse", f"{_VOL}.VolumeDisk", entities)


async def _list_attachments(call: Call) -> Response:
    kind, group = f"{_VOL}.IscsiClientAttachment", _group(call)
    entities = [typed(kind, extId=one.id, clusterReference=group.cluster) for one in group.initiators]
    return listing(call, f"{_VOL}.ListExternalIscsiAttachmentsApiResponse", kind, entities)


# -- changes


async def _create(call: Call) -> Response:
    world, key = call.world, request_key(call, required=False)
    spec = v4_volumes_schema.volume_group(world, await call.json())
    task = actions.once(world, key, lambda: made_groups.create(world, spec))
    return accepted(call, f"{_VOL}.CreateVolumeGroupApiResponse", task)


async def _delete(call: Call) -> Response:
    world, key = call.world, request_key(call, required=False)
    known = actions.known(world, key)
    if known is None:
        group = _group(call)
        check_if_match(call, {_etag(group)})
        if group.initiators:
            raise ApiError(409, "VOLUME_GROUP_HAS_ATTACHMENTS", "The volume group has attachments", code="VOL-10409")
        known = actions.once(world, key, lambda: made_groups.delete(world, group))
    return accepted(call, f"{_VOL}.DeleteVolumeGroupApiResponse", known)


async def _attach(call: Call) -> Response:
    world, key = call.world, request_key(call, required=False)
    known = actions.known(world, key)
    if known is None:
        group = _group(call)
        name, secret = v4_volumes_schema.iscsi_client(await call.json())
        check_if_match(call, {_etag(group)})
        initiator = made_groups.initiator_of(world, name, secret)
        known = actions.once(world, key, lambda: made_groups.start_admit(world, group, initiator))
    return accepted(call, f"{_VOL}.AttachIscsiClientApiResponse", known)


async def _detach(call: Call) -> Response:
    world, key = call.world, request_key(call, required=False)
    known = actions.known(world, key)
    if known is None:
        group = _group(call)
        initiator = _attached(group, v4_volumes_schema.attachment(await call.json()))
        check_if_match(call, {_etag(group)})
        known = actions.once(world, key, lambda: made_groups.start_expel(world, group, initiator))
    return accepted(call, f"{_VOL}.DetachIscsiClientApiResponse", known)


def _attached(group: MadeGroup, client_id: str) -> Initiator:
    for initiator in group.initiators:
        if initiator.id == client_id:
            return initiator
    raise not_found("iSCSI client", client_id, code="VOL-10404", group="ISCSI_CLIENT_NOT_FOUND")

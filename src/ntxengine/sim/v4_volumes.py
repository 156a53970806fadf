"""API v4 on Prism Central: the volume groups that are attached to VMs, and their disks, to be listed and looked up."""

from __future__ import annotations

from starlette.responses import Response

from ntxengine.sim import groups, ids
from ntxengine.sim.answers import Json
from ntxengine.sim.front import Call, Route
from ntxengine.sim.groups import Group
from ntxengine.sim.model import LiveFile
from ntxengine.sim.v4_query import info_route, listing, not_found, one, route
from ntxengine.sim.v4_shapes import typed
from ntxengine.sim.world import World

_VOL = "volumes.v4.config"


def routes() -> list[Route]:
    """Return the operations of the name space."""
    path = "config/volume-groups"
    return [
        info_route("volumes"),
        route("list_volume_groups", "GET", "volumes", path, _list),
        route("get_volume_group", "GET", "volumes", path + "/{group}", _get),
        route("list_volume_disks", "GET", "volumes", path + "/{group}/disks", _list_disks),
    ]


def _groups(world: World) -> list[Json]:
    return [_group(world, group) for group in groups.configured(world)]


def _group(world: World, group: Group) -> Json:
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


async def _list(call: Call) -> Response:
    return listing(call, f"{_VOL}.ListVolumeGroupsApiResponse", f"{_VOL}.VolumeGroup", _groups(call.world))


async def _get(call: Call) -> Response:
    found = [group for group in _groups(call.world) if group["extId"] == call.parts["group"]]
    if not found:
        raise not_found("volume group", call.parts["group"], code="VOL-10404", group="VOLUME_GROUP_NOT_FOUND")
    etag = ids.etag("volume group", call.parts["group"])
    return one(call, f"{_VOL}.GetVolumeGroupApiResponse", found[0], etag=etag)


def _disk(world: World, group: Group, file: LiveFile) -> Json:
    disk = typed(f"{_VOL}.VolumeDisk", extId=file.vmdisk, index=file.index, diskSizeBytes=file.size)
    if group.config.external:
        info = typed(f"{_VOL}.ExternalStorageInfo", volumeName=f"volume-{file.index}")
        return disk | {"externalStorageInfo": info}
    return disk | {"storageContainerId": world.container_id(file.container)}


async def _list_disks(call: Call) -> Response:
    group = groups.find(call.world, call.parts["group"])
    if group is None:
        raise not_found("volume group", call.parts["group"], code="VOL-10404", group="VOLUME_GROUP_NOT_FOUND")
    disks = [_disk(call.world, group, file) for file in groups.files(group)]
    return listing(call, f"{_VOL}.ListVolumeDisksApiResponse", f"{_VOL}.VolumeDisk", disks)

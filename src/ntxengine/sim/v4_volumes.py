"""API v4 on Prism Central: the volume groups that are attached to VMs, to be listed and looked up.

They have no bytes here: a recovery point of a VM does not hold them.
"""

from __future__ import annotations

from starlette.responses import Response

from ntxengine.sim import ids
from ntxengine.sim.answers import Json
from ntxengine.sim.front import Call, Route
from ntxengine.sim.model import Vm
from ntxengine.sim.v4_query import info_route, listing, not_found, one, route
from ntxengine.sim.v4_shapes import typed
from ntxengine.sim.world import World

_VOL = "volumes.v4.config"


def routes() -> list[Route]:
    """Return the operations of the name space."""
    groups = "config/volume-groups"
    return [
        info_route("volumes"),
        route("list_volume_groups", "GET", "volumes", groups, _list),
        route("get_volume_group", "GET", "volumes", groups + "/{group}", _get),
    ]


def _groups(world: World) -> list[Json]:
    return [_group(world, vm, number) for vm in world.vms.values() for number in range(vm.config.volume_groups)]


def _group(world: World, vm: Vm, number: int) -> Json:
    return typed(
        f"{_VOL}.VolumeGroup",
        extId=ids.fixed(vm.id, "volume group", number),
        name=f"vg-{vm.id[:8]}-{number}",
        clusterReference=world.cluster_id,
        sharingStatus="NOT_SHARED",
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

"""Checks that v4 makes on the bodies about volume groups."""

from __future__ import annotations

import re
from typing import Any

from ntxengine.sim.answers import Json, SchemaError
from ntxengine.sim.clusters import Cluster
from ntxengine.sim.made_groups import DiskSource, GroupSpec
from ntxengine.sim.model import VmPoint
from ntxengine.sim.target import FIRST_LUN
from ntxengine.sim.v4_query import not_found
from ntxengine.sim.v4_schema import integer, known, mapping, objects, uuid
from ntxengine.sim.world import World

_GROUP_FIELDS = {
    "name", "description", "shouldLoadBalanceVmAttachments", "sharingStatus", "targetPrefix", "targetName",
    "enabledAuthentications", "iscsiFeatures", "createdBy", "clusterReference", "storageFeatures", "usageType",
    "attachmentType", "protocol", "isHidden", "disks", "attachments", "projectExtId",
}  # fmt: skip
_DISK_FIELDS = {"index", "diskSizeBytes", "description", "diskDataSourceReference", "diskStorageFeatures"}
_CLIENT_FIELDS = {
    "iscsiInitiatorName", "iscsiInitiatorNetworkId", "clientSecret", "enabledAuthentications", "attachedTargets",
    "numVirtualTargets", "attachmentSite", "projectExtId",
}  # fmt: skip
_USAGES = ("USER", "INTERNAL", "TEMPORARY", "BACKUP_TARGET")
_TARGET = re.compile(r"[\da-zA-Z:.\-]+")
_INITIATOR = re.compile(r"iqn\.\d{4}-\d{2}\.[a-z0-9.\-]+(?::[a-z0-9.:\-]+)?")
_MAX_NAME, _MAX_INDEX, _MAX_INITIATOR = 256, 16383, 64


def volume_group(world: World, body: Json) -> GroupSpec:
    """Check the body of a create and return what it asks for."""
    known(body, _GROUP_FIELDS)
    cluster_id = uuid(body, "clusterReference")
    cluster = next((one for one in world.clusters if one.id == cluster_id), None)
    if cluster is None:
        raise not_found("cluster", cluster_id, code="VOL-10404", group="CLUSTER_NOT_FOUND")
    if body.get("targetPrefix") is not None and body.get("targetName") is not None:
        raise SchemaError("Field targetName : not together with targetPrefix", place="targetName")
    usage = body.get("usageType", "USER")
    if usage not in _USAGES:
        raise SchemaError(f"Field usageType : {usage!r} is not in the enumeration", place="usageType")
    sharing = body.get("sharingStatus", "NOT_SHARED")
    if sharing not in ("SHARED", "NOT_SHARED"):
        raise SchemaError(f"Field sharingStatus : {sharing!r} is not in the enumeration", place="sharingStatus")
    features = body.get("iscsiFeatures") or {}
    known(features, {"targetSecret", "enabledAuthentications"}, "iscsiFeatures.")
    return GroupSpec(
        name=_text(body, "name", 1, _MAX_NAME),
        cluster=cluster,
        sources=tuple(_source(world, cluster, disk) for disk in objects(body, "disks")),
        prefix=_target(body, "targetPrefix", 1),
        target=_target(body, "targetName", 12),
        secret=_secret(features, "targetSecret"),
        usage=str(usage),
        is_hidden=body.get("isHidden") is True,
        is_shared=sharing == "SHARED",
    )


def _source(world: World, cluster: Cluster, disk: Json) -> DiskSource:
    known(disk, _DISK_FIELDS, "disks.")
    index = integer(disk, "index", None)
    if index is not None and not FIRST_LUN <= index <= _MAX_INDEX:
        raise SchemaError(
            f"Field index : {FIRST_LUN} to {_MAX_INDEX} in the simulator, not {index}", place="disks.index"
        )
    reference = mapping(disk, "diskDataSourceReference")
    known(reference, {"extId", "entityType", "name", "uris"}, "disks.diskDataSourceReference.")
    if reference.get("entityType") != "DISK_RECOVERY_POINT":
        text = f"Field entityType : {reference.get('entityType')!r} is not simulated"
        raise SchemaError(text, place="disks.diskDataSourceReference.entityType")
    point_id = uuid(reference, "extId", "disks.diskDataSourceReference.")
    found = world.find_frozen(point_id)
    if found is None or (isinstance(found[1], VmPoint) and world.cluster_of(found[1].vm_id) is not cluster):
        raise not_found("disk recovery point", point_id, code="VOL-10404", group="DISK_RECOVERY_POINT_NOT_FOUND")
    return DiskSource(found[2], point_id, index)


def iscsi_client(body: Json) -> tuple[str, str]:
    """Check the body of an attach and return the initiator's name and its secret, "" if it has none."""
    known(body, _CLIENT_FIELDS)
    if body.get("iscsiInitiatorNetworkId") is not None:
        raise SchemaError("Field iscsiInitiatorNetworkId : is not simulated", place="iscsiInitiatorNetworkId")
    name = _text(body, "iscsiInitiatorName", 1, _MAX_INITIATOR)
    if _INITIATOR.fullmatch(name) is None:
        raise SchemaError(f"Field iscsiInitiatorName : {name!r} is no IQN", place="iscsiInitiatorName")
    return name, _secret(body, "clientSecret")


def attachment(body: Json) -> str:
    """Check the body of a detach and return the id of the iSCSI client."""
    known(body, {"extId", "clusterReference"})
    return uuid(body, "extId")


def _secret(body: Json, name: str) -> str:
    """Return the secret where CHAP is asked for, "" where it is not."""
    kind, secret = body.get("enabledAuthentications", "NONE"), body.get(name)
    if kind not in ("CHAP", "NONE"):
        raise SchemaError(f"Field enabledAuthentications : {kind!r} is unknown", place="enabledAuthentications")
    if kind == "NONE":
        if secret is not None:
            raise SchemaError(f"Field {name} : only with CHAP", place=name)
        return ""
    if not is_secret(secret):
        raise SchemaError(f"Field {name} : 12 to 16 letters and digits are needed", place=name)
    return str(secret)


def is_secret(value: Any) -> bool:
    """Return whether this may be a secret of CHAP."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9._\-]{12,16}", value) is not None


def _text(body: Json, name: str, low: int, high: int) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not low <= len(value) <= high:
        raise SchemaError(f"Field {name} : must be a string of {low} to {high} characters", place=name)
    return value


def _target(body: Json, name: str, low: int) -> str:
    if body.get(name) is None:
        return ""
    value = _text(body, name, low, 512)
    if _TARGET.fullmatch(value) is None:
        raise SchemaError(f"Field {name} : {value!r} does not match {_TARGET.pattern}", place=name)
    return value

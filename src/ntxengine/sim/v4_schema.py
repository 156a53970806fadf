"""Checks that v4 makes on the bodies it takes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ntxengine.ids import is_uuid
from ntxengine.sim import actions
from ntxengine.sim.answers import Json, SchemaError

BLOCK_SIZES = (32_768, 65_536, 131_072, 262_144)
_MAX_ENTITIES = 32
_MAX_NAME = 256
_COMMON = {"$objectType", "$reserved", "$unknownFields", "$specItemDiscriminator"}


def known(body: Json, names: set[str], place: str = "") -> None:
    """Refuse keys that the schema does not have."""
    for name in body:
        if name not in names | _COMMON and not name.startswith("$"):
            raise SchemaError(f"Field {name} : is not defined in the schema", place=place + name)


def uuid(body: Json, name: str, place: str = "") -> str:
    """Return a required uuid."""
    value = body.get(name)
    if not is_uuid(value):
        raise SchemaError(f"Field {name} : ECMA 262 regex for a UUID does not match {value!r}", place=place + name)
    return str(value)


def mapping(body: Json, name: str) -> Json:
    """Return a required object."""
    value = body.get(name)
    if not isinstance(value, dict):
        raise SchemaError(f"Field {name} : an object is required", place=name)
    return value


def integer(body: Json, name: str, default: int | None) -> int | None:
    """Return an optional integer that is not negative."""
    value = body.get(name, default)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise SchemaError(f"Field {name} : {value!r} is not an integer of at least 0", place=name)
    return value


def objects(body: Json, name: str) -> list[Json]:
    """Return an optional list of objects."""
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise SchemaError(f"Field {name} : a list of objects is required", place=name)
    return value


def expiration(body: Json, now: float, *, required: bool) -> float | None:
    """Return expirationTime as seconds; it must be in the future."""
    value = body.get("expirationTime")
    if value is None and not required:
        return None
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise SchemaError(f"Field expirationTime : {value!r} is not an RFC 3339 time", place="expirationTime")
    if when.timestamp() <= now:
        raise SchemaError(f"Field expirationTime : {value} is in the past", place="expirationTime")
    return when.timestamp()


def recovery_point(body: Json) -> tuple[str, str, list[str], list[str]]:
    """Check the body of a create and return name, type, and the uuids of the VMs and of the volume groups."""
    known(
        body,
        {
            "name",
            "expirationTime",
            "recoveryPointType",
            "vmRecoveryPoints",
            "volumeGroupRecoveryPoints",
            "projectExtId",
        },
    )
    name = body.get("name", "")
    if not isinstance(name, str) or len(name) > _MAX_NAME:
        raise SchemaError(f"Field name : must be a string of at most {_MAX_NAME} characters", place="name")
    kind = body.get("recoveryPointType", actions.CRASH)
    if kind not in (actions.CRASH, actions.APPLICATION):
        raise SchemaError(f"Field recoveryPointType : {kind!r} is not in the enumeration", place="recoveryPointType")
    vms = objects(body, "vmRecoveryPoints")
    groups = objects(body, "volumeGroupRecoveryPoints")
    if not 1 <= len(vms) + len(groups) <= _MAX_ENTITIES:
        text = f"Field vmRecoveryPoints : 1 to {_MAX_ENTITIES} entities are needed, not {len(vms) + len(groups)}"
        raise SchemaError(text, place="vmRecoveryPoints")
    for vm in vms:
        _vss(vm.get("applicationConsistentProperties"))
    vm_ids = [uuid(vm, "vmExtId", "vmRecoveryPoints.") for vm in vms]
    return name, str(kind), vm_ids, [uuid(group, "volumeGroupExtId", "volumeGroupRecoveryPoints.") for group in groups]


def _vss(value: Any) -> None:
    place = "vmRecoveryPoints.applicationConsistentProperties"
    if value is None:
        return
    if not isinstance(value, dict) or value.get("$objectType") != "dataprotection.v4.common.VssProperties":
        raise SchemaError("Field applicationConsistentProperties : $objectType is missing or unknown", place=place)
    if value.get("backupType") not in ("FULL_BACKUP", "COPY_BACKUP"):
        raise SchemaError("Field backupType : FULL_BACKUP or COPY_BACKUP is required", place=place + ".backupType")

"""The answers of the simulator in the form that recorded answers of clusters have.

| where           | recorded                                                                              |
|-----------------|---------------------------------------------------------------------------------------|
| v4, objects     | only the first of a list says its `$objectType`                                         |
| v4, lists       | null where they are empty; an empty page has no `data`                                 |
| times           | end in `+00:00`                                                                       |
| Guest Tools     | whether VSS works is null                                                             |
| recovery points | their disks are null in a list and in the answer for one; a disk point may be of no disk |
| their list      | ends with one that somebody else made and that lasts until 2092                       |
| changed regions | `extraInfo` begins with a name that has no value                                      |
| tasks that fail | say TSKS-20801 LEGACY_ERROR, what they touched is null, the cause is in `legacyErrorMessage` |
| errors of v3    | have `details`, a text                                                                |
| 501             | has no body                                                                           |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.responses import JSONResponse, Response

from ntxengine.sim import ids
from ntxengine.sim.answers import Json, family_of
from ntxengine.sim.faults import tasks
from ntxengine.sim.faults.answers import set_body

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?)Z")


def restyle(response: Response, path: str) -> Response:
    """Return the answer as a recording has it."""
    if response.status_code == 501:
        return set_body(response, b"")
    if not isinstance(response, JSONResponse):
        return response
    body = msgspec.json.decode(bytes(response.body))
    family = family_of(path)
    if family == "v4":
        body = _v4(body, path)
    elif family == "v3":
        body = _v3(body)
    return set_body(response, msgspec.json.encode(_everywhere(body, _with_offset)))


def _everywhere(value: Any, change: Callable[[Any], Any]) -> Any:
    """Change a value and all that is in it, inside first."""
    if isinstance(value, dict):
        return change({key: _everywhere(inner, change) for key, inner in value.items()})
    if isinstance(value, list):
        return change([_everywhere(inner, change) for inner in value])
    return change(value)


def _with_offset(value: Any) -> Any:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    return f"{match[1]}+00:00" if match else value


_FOREIGN: Json = {
    "$objectType": "dataprotection.v4.config.RecoveryPoint",
    "extId": ids.fixed("recorded", "recovery point"),
    "name": "weekly",
    "status": "COMPLETE",
    "recoveryPointType": "CRASH_CONSISTENT",
    "creationTime": "2025-03-01T04:00:00.123456Z",
    "expirationTime": "2092-01-19T03:14:07Z",
    "vmRecoveryPoints": [],
    "totalExclusiveUsageBytes": None,
    "ownerExtId": None,
}


def _with_foreign_point(body: Any) -> None:
    """Let the list of recovery points end with one that is not ours."""
    metadata = body["metadata"]
    metadata["totalAvailableResults"] += 1
    if all(link["rel"] != "next" for link in metadata["links"]):
        body["data"].append(_FOREIGN)


def _v4(body: Any, path: str) -> Any:
    if path.endswith("/config/recovery-points") and isinstance(body.get("data"), list):
        _with_foreign_point(body)
    if isinstance(body, dict) and body.get("data") == []:
        del body["data"]
    if path.endswith("/compute-changed-regions") and isinstance(body.get("metadata", {}).get("extraInfo"), list):
        body["metadata"]["extraInfo"].insert(0, {"name": "truncatedIndexes"})
    return _everywhere(_everywhere(body, _v4_object), _v4_list)


def _v4_object(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kind = str(value.get("$objectType", ""))
    if kind.endswith(".GuestTools"):
        return value | {"isVssSnapshotCapable": None}
    if kind.endswith(".RecoveryPoint"):
        return value | {"vmRecoveryPoints": [vm | {"diskRecoveryPoints": None} for vm in value["vmRecoveryPoints"]]}
    if kind.endswith(".VmRecoveryPoint") and value.get("diskRecoveryPoints"):
        of_no_disk = {"diskRecoveryPointExtId": ids.fixed(value["extId"], "of no disk"), "diskExtId": None}
        return value | {"diskRecoveryPoints": [*value["diskRecoveryPoints"], of_no_disk]}
    if kind == "prism.v4.config.Task" and value.get("status") == "FAILED":
        return tasks.spoil(value, "legacy_error")
    return value


def _v4_list(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    later = [
        {k: v for k, v in item.items() if k != "$objectType"} if isinstance(item, dict) else item for item in value
    ]
    return [*value[:1], *later[1:]] or None


def _v3(body: Any) -> Any:
    def change(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if "vss_snapshot_capable" in value:
            return value | {"vss_snapshot_capable": None}
        if "reason" in value and "message" in value:
            return value | {"details": str(value["message"])}
        return value

    return _everywhere(body, change)

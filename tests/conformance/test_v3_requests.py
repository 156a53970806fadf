"""What we send to v3 and v2 has the fields that the definitions of Prism Element's API have, and no others.

The tables are our own: names, types and limits of what a capture sends.  `!` after a name: the field is required.
Nutanix's own definitions are not in this repository.  Where NTX_V3_SWAGGER names a copy of them (Swagger 2.0), every
v3 request and answer is held against that as well.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.conformance.exchanges import Exchange

SWAGGER = os.environ.get("NTX_V3_SWAGGER")
V3 = "/api/nutanix/v3"
V2 = "/PrismGateway/services/rest/v2.0"
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

Check = Callable[[Any], bool]


def text(value: Any) -> bool:
    return isinstance(value, str)


def uuid(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(UUID, value) is not None


def one_of(*values: str) -> Check:
    return lambda value: value in values


def whole(low: int, high: int = 2**63 - 1) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def short(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 64


LIST = {
    "kind": one_of("vm", "vm_snapshot", "cluster", "host", "disk"),
    "length": whole(1, 500),
    "offset": whole(0, 2**31 - 1),
    "filter": text,
    "sort_attribute": text,
    "sort_order": one_of("ASCENDING", "DESCENDING"),
}
SNAPSHOT = {
    "api_version": one_of("3.1"),
    "metadata!": {"kind!": one_of("vm_snapshot"), "uuid": uuid},
    "spec!": {
        "name": short,
        "snapshot_type": one_of("CRASH_CONSISTENT", "APPLICATION_CONSISTENT"),
        "expiration_time_msecs": whole(0),
        "resources": {"entity_uuid": uuid},
    },
}
REGIONS = {
    "snapshot_file_path!": text,
    "reference_snapshot_file_path": text,
    "start_offset": whole(0),
    "end_offset": whole(0),
}
IDENTIFIERS = {
    "client_identifier": text,
    "count!": whole(1, 4096),
    "valid_duration_in_minutes": whole(1, 527_040),
}
ATTACH = {
    "uuid": uuid,
    "vm_disks!": [{"vm_disk_clone!": {"disk_address!": {"device_bus": one_of("SCSI"), "ndfs_filepath!": text}}}],
}
DETACH = {"uuid": uuid, "vm_disks!": [{"disk_address!": {"vmdisk_uuid!": uuid}}]}
POWER = {"uuid": uuid, "transition!": one_of("ON", "ACPI_SHUTDOWN")}

CHAP = [{"auth_type!": one_of("CHAP", "NONE"), "password": text}]
GROUP = {
    "name!": text,
    "description": text,
    "usage_type": one_of("USER", "INTERNAL", "TEMPORARY", "BACKUP_TARGET"),
    "is_hidden": lambda value: isinstance(value, bool),
    "is_shared": lambda value: isinstance(value, bool),
    "iscsi_target_prefix": text,
    "enabled_authentications": CHAP,
    "disk_list": [{"index": whole(0), "clone_config": {"disk_address!": {"ndfs_filepath!": text}}}],
}
OPEN = {
    "uuid": uuid,
    "iscsi_client!": {"client_address!": text, "enabled_authentications": CHAP},
    "operation!": one_of("ATTACH"),
}
CLOSE = {"uuid": uuid, "iscsi_client!": {"client_address!": text}, "operation!": one_of("DETACH")}

CALLS: dict[str, Any] = {
    rf"POST {V3}/(vm|vm_snapshot|cluster|host|disk)s/list": LIST,
    rf"GET {V3}/vms/{UUID}": None,
    rf"POST {V3}/idempotence_identifiers": IDENTIFIERS,
    rf"POST {V3}/vm_snapshots": SNAPSHOT,
    rf"(GET|DELETE) {V3}/vm_snapshots/{UUID}": None,
    rf"POST {V3}/data/changed_regions": REGIONS,
    rf"GET {V2}/vms/({UUID})?": None,
    rf"POST {V2}/vms/{UUID}/set_power_state": POWER,
    rf"POST {V2}/vms/{UUID}/disks/attach": ATTACH,
    rf"POST {V2}/vms/{UUID}/disks/detach": DETACH,
    rf"GET {V2}/tasks/{UUID}": None,
    rf"GET {V2}/cluster": None,
    rf"GET {V2}/storage_containers": None,
    rf"GET {V2}/virtual_disks": None,
    rf"GET {V2}/volume_groups": None,
    rf"POST {V2}/volume_groups": GROUP,
    rf"(GET|DELETE) {V2}/volume_groups/{UUID}": None,
    rf"POST {V2}/volume_groups/{UUID}/open": OPEN,
    rf"POST {V2}/volume_groups/{UUID}/close": CLOSE,
}
"""Every call that may be made of an element, with what its body holds."""

PROBES = [{}]
"""Bodies that are wrong on purpose: `data/changed_regions` is asked for nothing, to see whether it is there."""


def problems(value: Any, shape: Any, where: str) -> list[str]:
    """Return where a body is not of this shape."""
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{where}: {value!r} is no list"]
        return [found for number, item in enumerate(value) for found in problems(item, shape[0], f"{where}[{number}]")]
    if not isinstance(shape, dict):
        return [] if shape(value) else [f"{where}: {value!r} is not allowed"]
    if not isinstance(value, dict):
        return [f"{where}: {value!r} is no object"]
    fields = {name.rstrip("!"): inner for name, inner in shape.items()}
    found = [f"{where}.{name}: no such field" for name in value if name not in fields]
    found += [f"{where}.{name[:-1]}: is missing" for name in shape if name.endswith("!") and name[:-1] not in value]
    return found + [
        p for name in value if name in fields for p in problems(value[name], fields[name], f"{where}.{name}")
    ]


def call_of(exchange: Exchange) -> str | None:
    asked = f"{exchange.method} {exchange.path}"
    return next((pattern for pattern in CALLS if re.fullmatch(pattern, asked)), None)


def asked_of_v3(exchanges: list[Exchange]) -> list[Exchange]:
    """Leave out what asks for v4: the probe of `--api auto`."""
    return [one for one in exchanges if "/v4." not in one.path and "/unversioned/" not in one.path]


def test_every_request_is_a_call_that_we_know_with_the_body_that_it_takes(v3_exchanges: list[Exchange]) -> None:
    found = []
    for one in asked_of_v3(v3_exchanges):
        call = call_of(one)
        if call is None:
            found.append(f"{one.method} {one.path}: is not one of our calls")
        elif one.body not in PROBES and one.body != CALLS[call]:
            found += problems(one.body, CALLS[call], f"{one.method} {one.path}")

    assert found == []


def test_every_call_that_we_know_was_made(v3_exchanges: list[Exchange]) -> None:
    assert {call_of(one) for one in asked_of_v3(v3_exchanges)} == set(CALLS)


@pytest.mark.parametrize(
    ("shape", "body", "expected"),
    [
        (LIST, {"kind": "vm", "length": 501}, "b.length: 501 is not allowed"),
        (LIST, {"kind": "vm", "page": 1}, "b.page: no such field"),
        (SNAPSHOT, {"metadata": {"kind": "vm_snapshot"}}, "b.spec: is missing"),
        (SNAPSHOT, {"metadata": {"kind": "vm_snapshot"}, "spec": []}, "b.spec: [] is no object"),
        (REGIONS, {"snapshot_file_path": "x", "start_offset": "0"}, "b.start_offset: '0' is not allowed"),
        (DETACH, {"vm_disks": {}}, "b.vm_disks: {} is no list"),
    ],
)
def test_the_tables_find_what_is_wrong(shape: Any, body: Any, expected: str) -> None:
    assert problems(body, shape, "b") == [expected]


# -- Nutanix's own definitions, where there is a copy


def swagger_of(path: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(Path(path).read_text())
    for definition in loaded["definitions"].values():
        close(definition)
    return loaded


def close(schema: Any) -> None:
    """Let an object have only the fields that its definition names; enumerations are named in a way of their own."""
    if isinstance(schema, list):
        for item in schema:
            close(item)
    if not isinstance(schema, dict):
        return
    if "x-ntnx-enum" in schema:
        schema["enum"] = schema["x-ntnx-enum"]
    if isinstance(schema.get("properties"), dict) and "allOf" not in schema:
        schema.setdefault("additionalProperties", False)
        # In every recorded answer, and in no definition.
        schema["properties"].setdefault("execution_context", {"type": "object"})
    for inner in schema.values():
        close(inner)


def differences(exchanges: list[Exchange], swagger: dict[str, Any]) -> list[str]:
    found = []
    for one in [one for one in asked_of_v3(exchanges) if one.path.startswith(V3)]:
        path = one.path.removeprefix(V3)
        templates = {re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(name)): name for name in swagger["paths"]}
        template = next((name for pattern, name in templates.items() if re.fullmatch(pattern, path)), "")
        operation = swagger["paths"].get(template, {}).get(one.method.lower())
        if operation is None:
            found.append(f"{one.method} {path}: is not defined")
            continue
        where = f"{one.method} {template} {one.status}"
        if one.status < 400:
            bodies = [
                parameter["schema"] for parameter in operation.get("parameters", []) if parameter.get("in") == "body"
            ]
            found += [f"{where}: body: {text}" for text in refused(one.body, bodies[0] if bodies else None, swagger)]
        answers = operation["responses"]
        answer = answers.get(str(one.status), answers["default"]).get("schema")
        found += [f"{where}: answer: {text}" for text in refused(one.answer, answer, swagger)]
    return sorted(set(found))


if SWAGGER:  # not a skip: what is not in the repository is a judge that may be added, not one that is missing

    def test_every_exchange_is_as_the_definitions_say(v3_exchanges: list[Exchange]) -> None:
        assert differences(v3_exchanges, swagger_of(SWAGGER)) == []


def refused(value: Any, schema: dict[str, Any] | None, swagger: dict[str, Any]) -> list[str]:
    if schema is None or value is None:
        return [] if schema is None and value is None else [f"{value!r} where the definition has {schema}"]
    validator = jsonschema.Draft4Validator({**schema, "definitions": swagger["definitions"]})
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(value)]

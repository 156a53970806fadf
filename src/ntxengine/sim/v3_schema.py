"""Checks that v3 makes on a request before it looks at it: 422 with the words of a JSON schema validator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ntxengine.ids import is_uuid
from ntxengine.sim.answers import ApiError, Json

_KINDS: dict[type, str] = {int: "integer", str: "string", dict: "object", list: "array", bool: "boolean"}


@dataclass(frozen=True)
class Field:
    """What is allowed for one key."""

    kind: type
    required: bool = False
    minimum: int | None = None
    maximum: int | None = None
    max_length: int | None = None
    choices: tuple[str, ...] = ()
    is_uuid: bool = False


def refuse(message: str, reason: str = "INVALID_REQUEST") -> ApiError:
    """Return the 422 for a request that does not fit its schema."""
    return ApiError(422, reason, message)


def check(body: Json, fields: dict[str, Field], where: str = "") -> None:
    """Check the keys of one object; unknown keys are refused.

    Errors: ApiError 422 naming the key.
    """
    for key in body:
        if key not in fields:
            raise refuse(f"Additional properties are not allowed ({where}{key!r} was unexpected)")
    for key, field in fields.items():
        if key not in body:
            if field.required:
                raise refuse(f"{where}{key!r} is a required property", "MISSING_ATTRIBUTE")
            continue
        _check_value(body[key], field, where + key)


def _check_value(value: Any, field: Field, key: str) -> None:
    is_kind = isinstance(value, field.kind) and not (field.kind is int and isinstance(value, bool))
    if not is_kind:
        raise refuse(f"{key}: {_shown(value)} is not of type '{_KINDS[field.kind]}'")
    if field.minimum is not None and value < field.minimum:
        raise refuse(f"{key}: {value} is less than the minimum of {field.minimum}")
    if field.maximum is not None and value > field.maximum:
        raise refuse(f"{key}: {value} is greater than the maximum of {field.maximum}")
    if field.max_length is not None and len(value) > field.max_length:
        raise refuse(f"{key}: is too long ({len(value)} of {field.max_length} characters)")
    if field.choices and value not in field.choices:
        raise refuse(f"{key}: {value!r} is not one of {list(field.choices)}")
    if field.is_uuid and not is_uuid(value):
        raise refuse(f"{key}: {value!r} does not match the pattern of a UUID", "INVALID_UUID")


def _shown(value: Any) -> str:
    return "None" if value is None else repr(value)


LIST = {
    "kind": Field(str),
    "length": Field(int, minimum=1),
    "offset": Field(int, minimum=0),
    "filter": Field(str),
    "sort_attribute": Field(str),
    "sort_order": Field(str, choices=("ASCENDING", "DESCENDING")),
}

CHANGED_REGIONS = {
    "snapshot_file_path": Field(str, required=True),
    "reference_snapshot_file_path": Field(str),
    "start_offset": Field(int, minimum=0),
    "end_offset": Field(int, minimum=0),
}

SNAPSHOT = {
    "api_version": Field(str),
    "metadata": Field(dict, required=True),
    "spec": Field(dict, required=True),
}

SNAPSHOT_SPEC = {
    "name": Field(str, max_length=64),
    "snapshot_type": Field(str, choices=("CRASH_CONSISTENT", "APPLICATION_CONSISTENT")),
    "expiration_time_msecs": Field(int, minimum=0),
    "resources": Field(dict),
}

SNAPSHOT_RESOURCES = {"entity_uuid": Field(str, is_uuid=True)}

TASK_POLL = {
    "poll_timeout_seconds": Field(int, required=True, minimum=0, maximum=30),
    "task_uuid_list": Field(list, required=True),
}

IDENTIFIERS = {
    "client_identifier": Field(str),
    "count": Field(int, required=True, minimum=1, maximum=4096),
    "valid_duration_in_minutes": Field(int, minimum=1, maximum=527_040),
}

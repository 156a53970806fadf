"""The lists of v3: length and offset, filter and order; and what its handlers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse, Response

from ntxengine.sim import v3_schema
from ntxengine.sim.answers import ApiError, Json
from ntxengine.sim.faults.lists import ASKED_FAULTS, FOUND_FAULTS, Listing, ListRefused, change
from ntxengine.sim.front import Call

BASE = "/api/nutanix/v3"
_DEFAULT_LENGTH = 20


def one(found: list[Json], kind: str, uuid: str) -> Json:
    """Return the entity that was found; ApiError if there is none."""
    if not found:
        raise ApiError(404, "ENTITY_NOT_FOUND", f"The {kind} with uuid {uuid} does not exist")
    return found[0]


def _value(entity: Json, attribute: str) -> Any:
    status = entity["status"]
    values = {
        "name": status.get("name"),
        "vm_name": status.get("name"),
        "entity_uuid": status.get("resources", {}).get("entity_uuid"),
        "uuid": entity["metadata"]["uuid"],
    }
    if attribute not in values:
        raise ApiError(422, "INVALID_ARGUMENT", f"filter or sort attribute {attribute!r} is not supported")
    return values[attribute]


async def listing(call: Call, kind: str, entities: Callable[[], list[Json]]) -> Response:
    """Answer one page of a list."""
    body = await call.json()
    v3_schema.check(body, v3_schema.LIST)
    if body.get("kind", kind) != kind:
        raise v3_schema.refuse(f"kind: {body['kind']!r} is not one of ['{kind}']")
    faults = call.list_faults()
    length = min(body.get("length", _DEFAULT_LENGTH), call.world.config.limits.v3_page)
    asked = Listing(body.get("filter", ""), body.get("sort_attribute", ""), length, entities())
    try:
        change(ASKED_FAULTS, faults, asked)
    except ListRefused as exc:
        raise ApiError(422, "INVALID_ARGUMENT", str(exc)) from exc
    found = asked.entities
    for condition in filter(None, asked.filter.split(";")):
        attribute, separator, wanted = condition.partition("==")
        if not separator:
            raise ApiError(422, "INVALID_ARGUMENT", f"filter {condition!r} is not of the form attribute==value")
        found = [entity for entity in found if _value(entity, attribute.strip()) == wanted]
    if asked.order_by:
        attribute = asked.order_by
        is_down = body.get("sort_order") == "DESCENDING"
        found.sort(key=lambda entity: str(_value(entity, attribute)), reverse=is_down)
    offset = body.get("offset", 0)
    asked.entities, asked.total = found, len(found)
    change(FOUND_FAULTS, faults, asked)
    page = asked.entities[offset : offset + asked.length]
    metadata = {"kind": kind, "offset": offset, "length": len(page)}
    if asked.total is not None:
        metadata["total_matches"] = asked.total
    metadata |= {key: body[key] for key in ("filter", "sort_attribute", "sort_order") if key in body}
    return JSONResponse({"api_version": "3.1", "metadata": metadata, "entities": page})

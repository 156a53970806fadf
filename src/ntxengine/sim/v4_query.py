"""The `$` parameters of v4 lists: $page, $limit, $filter, $orderby, $select; and what all v4 handlers share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse, Response

from ntxengine.ids import is_uuid
from ntxengine.sim import answers, ids
from ntxengine.sim.answers import ApiError, Json, SchemaError
from ntxengine.sim.faults.etags import EtagRule, etag_rule
from ntxengine.sim.faults.lists import ASKED_FAULTS, FOUND_FAULTS, Listing, ListRefused, change
from ntxengine.sim.front import Call, Handler, Route
from ntxengine.sim.model import Task

MAX_REVISION = 4
_DEFAULT_LIMIT, _MAX_LIMIT = 50, 100
_TEXT = r"'((?:[^']|'')*)'"
_EQUAL = re.compile(rf"([\w/]+)\s+eq\s+(?:[\w.]*?){_TEXT}")
_STARTS = re.compile(rf"startswith\(\s*([\w/]+)\s*,\s*{_TEXT}\s*\)")
_ANY = re.compile(rf"(\w+)/any\((\w+):\s*\2/(\w+)\s+eq\s+{_TEXT}\s*\)")


def route(name: str, method: str, namespace: str, path: str, handler: Handler, *, by_token: bool = False) -> Route:
    """Return an operation at every revision that the server has of `namespace`."""

    async def revised(call: Call) -> Response:
        cap = revision_cap(call, namespace)
        revision = call.parts["revision"]
        if not revision.isdecimal() or int(revision) > cap:
            raise ApiError(404, "NOT_FOUND", f"Version v4.{revision} of {namespace} is not served")
        return await handler(call)

    return Route(name, method, f"/api/{namespace}/v4.{{revision}}/{path}", revised, by_token)


def revision_cap(call: Call, namespace: str) -> int:
    """Return the highest minor revision served."""
    caps = call.world.config.revisions
    text = caps.get(namespace) or caps.get("*") or f"v4.{MAX_REVISION}"
    return int(text.rpartition(".")[2])


def info_route(namespace: str) -> Route:
    """Return the version probe of a name space."""

    async def info(call: Call) -> Response:
        return JSONResponse({"data": f"v4.{revision_cap(call, namespace)}"})

    return Route(f"info_{namespace}", "OPTIONS", f"/api/{namespace}/unversioned/info", info)


# -- lists


def _number(call: Call, name: str, default: int, low: int, high: int | None) -> int:
    text = call.query.get(name, str(default))
    value = int(text) if re.fullmatch(r"-?\d+", text) else None
    if value is None or value < low or (high is not None and value > high):
        limit = f"between {low} and {high}" if high is not None else f"at least {low}"
        raise SchemaError(f"{name} must be {limit}, not {text!r}")
    return value


def _field(entity: Json, path: str) -> Any:
    value: Any = entity
    for name in path.split("/"):
        if not isinstance(value, dict) or (name not in value and value is entity):
            raise SchemaError(f"$filter or $orderby: property {path!r} does not exist or cannot be used")
        value = value.get(name)
    return value


def _condition(text: str) -> Callable[[Json], bool]:
    if match := _EQUAL.fullmatch(text):
        field, wanted = match[1], match[2].replace("''", "'")
        return lambda entity: _field(entity, field) == wanted
    if match := _STARTS.fullmatch(text):
        field, start = match[1], match[2].replace("''", "'")
        return lambda entity: str(_field(entity, field)).startswith(start)
    if match := _ANY.fullmatch(text):
        field, inner, wanted = match[1], match[3], match[4].replace("''", "'")
        return lambda entity: any(one.get(inner) == wanted for one in _field(entity, field) or [])
    raise SchemaError(f"$filter: {text!r} cannot be parsed")


def _conditions(text: str) -> list[Callable[[Json], bool]]:
    """Split at `and` outside of quotes."""
    parts = re.split(r"\s+and\s+(?=(?:[^']*'[^']*')*[^']*$)", text.strip())
    return [_condition(part.strip()) for part in parts]


def listing(call: Call, kind: str, item: str, entities: list[Json]) -> Response:
    """Answer one page of a list of type `kind` with items of type `item`."""
    page, limit = _number(call, "$page", 0, 0, None), _number(call, "$limit", _DEFAULT_LIMIT, 1, _MAX_LIMIT)
    faults = call.list_faults()
    found = Listing(call.query.get("$filter", ""), call.query.get("$orderby", ""), limit, entities)
    try:
        change(ASKED_FAULTS, faults, found)
    except ListRefused as exc:
        raise SchemaError(str(exc)) from exc
    if found.filter:
        conditions = _conditions(found.filter)
        found.entities = [entity for entity in entities if all(condition(entity) for condition in conditions)]
    if found.order_by:
        field, _, direction = found.order_by.partition(" ")
        is_down = direction.strip() == "desc"
        found.entities = sorted(found.entities, key=lambda e: str(_field(e, field)), reverse=is_down)
    found.total = len(found.entities)
    change(FOUND_FAULTS, faults, found)
    entities, limit = found.entities, found.length
    chosen = entities[page * limit : (page + 1) * limit]
    if call.query.get("$select"):
        names = {*call.query["$select"].split(","), "$objectType", "extId"}
        chosen = [{name: value for name, value in entity.items() if name in names} for entity in chosen]
    last = max(0, -(-len(entities) // limit) - 1)
    numbers = {"first": 0, "self": page, "last": last}
    if page > 0:
        numbers["prev"] = page - 1
    if page < last:
        numbers["next"] = page + 1
    base = str(call.request.url.replace(query=""))
    links = [{"href": f"{base}?$page={number}&$limit={limit}", "rel": rel} for rel, number in numbers.items()]
    meta = answers.metadata(links=links, total=found.total)
    return JSONResponse(answers.envelope(kind, chosen, meta, item))


# -- single answers


def one(call: Call, kind: str, data: Json, *, etag: str = "", status: int = 200) -> Response:
    """Answer one object of an envelope of type `kind`."""
    links = [{"href": str(call.request.url), "rel": "self"}]
    body = answers.envelope(kind, data, answers.metadata(links=links), str(data["$objectType"]))
    headers: dict[str, str] = {call.world.config.etag_header: etag} if etag else {}
    return JSONResponse(body, status, headers=headers)


def accepted(call: Call, kind: str, task: Task) -> Response:
    """Answer 202 with the reference to a task."""
    reference = {"$objectType": "prism.v4.config.TaskReference", "extId": ids.task_id(task.id)}
    return one(call, kind, reference, status=202)


def not_found(what: str, uuid: str, *, code: str = "", group: str = "NOT_FOUND") -> ApiError:
    """Return the 404 for an entity."""
    message = f"Failed to perform the operation on the {what} with UUID '{uuid}', because it is not found."
    return ApiError(404, group, message, code=code)


def request_key(call: Call, *, required: bool) -> str:
    """Return what makes this request the same as an earlier one: its NTNX-Request-Id.

    Errors: SchemaError if it is required and missing, or no uuid.
    """
    request_id = call.request.headers.get("ntnx-request-id", "")
    if not request_id and not required:
        return ids.fresh()
    if not is_uuid(request_id):
        raise SchemaError("Header NTNX-Request-Id is required and must be a UUID", place="NTNX-Request-Id")
    return f"{call.request.method} {call.path} {request_id.lower()}"


# -- versions of entities


def etags_of(call: Call) -> EtagRule:
    """Return the rule of ETags that is played."""
    return etag_rule(call.world.config.faults.etags)


def check_if_match(call: Call, etags: set[str]) -> None:
    """Raise ApiError if the header If-Match is not as the rule of ETags says."""
    rule, given = etags_of(call), call.request.headers.get("if-match")
    if given is None and not rule.takes_none:
        raise ApiError(428, "MISSING_ETAG_HEADER", "Header If-Match is required", code="PLAT-10004")
    if given == "*" and rule.takes_any:
        return
    if given is not None and given not in etags:
        raise ApiError(412, "ETAG_MISMATCH", "The entity was changed: If-Match does not match", code="PLAT-10005")

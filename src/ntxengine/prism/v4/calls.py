"""What all calls of v4 have in common: an id for each, entities, pages, and tasks."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from ntxengine.prism.http.parse import check_same_id
from ntxengine.prism.http.secret import Secret
from ntxengine.prism.http.session import Answer, Request, Session
from ntxengine.prism.v4 import schema


def new_request_id() -> str:
    """Return an id for a call that may have to be made several times, and must be done once."""
    return str(uuid.uuid4())


def request(
    method: str,
    path: str,
    *,
    body: Any = None,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    token: Secret | None = None,
    request_id: str | None = None,
) -> Request:
    """Return a call that carries an id of its own, or `request_id`."""
    marked = {"NTNX-Request-Id": request_id or new_request_id(), **(headers or {})}
    return Request(method, path, body=body, query=query or {}, headers=marked, token=token)


def name_is(name: str) -> str:
    """Return the filter for things of this name."""
    quoted = name.replace("'", "''")
    return f"name eq '{quoted}'"


def name_begins(prefix: str) -> str:
    """Return the filter for things whose names begin so."""
    quoted = prefix.replace("'", "''")
    return f"startswith(name,'{quoted}')"


class Calls:
    """Calls of one session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    async def _get(self, path: str, asked_id: str) -> Answer:
        """Return the answer about one thing, which must not be another one."""
        answer = await self.session.ask(request("GET", path))
        check_same_id(answer.decode(schema.IdAnswer).data.ext_id, asked_id, field="extId", request=answer.request)
        return answer

    async def _list(self, path: str, page: int, limit: int, filter_text: str = "", order_by: str = "") -> Answer:
        query = {"$page": str(page), "$limit": str(limit)}
        if filter_text:
            query["$filter"] = filter_text
        if order_by:
            query["$orderby"] = order_by
        return await self.session.ask(request("GET", path, query=query))

    async def _start(self, request: Request) -> str:
        return (await self.session.ask(request)).decode(schema.TaskAccepted).data.ext_id

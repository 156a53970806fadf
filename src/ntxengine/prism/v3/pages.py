"""Lists of v3 and v2.

v3: offset and length, in an order that stays while we read, and filters that a server may not have.  v2: `count` and
`page`, from 1, and without them all at once, unless the server counts more than it gave.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol

import msgspec

from ntxengine.prism.http.session import Answer
from ntxengine.prism.listing import these
from ntxengine.prism.pages import Ask, Listed, Page, Pages, Window, aligned_window
from ntxengine.prism.v3.api import PAGE_LENGTH, V2_COUNT, ElementApi
from ntxengine.prism.v3.schema import EntityList
from ntxengine.prism.v3.schema_v2 import V2List

ORDER_BY = "name"


def entities(api: ElementApi, kind: str, *, filter_text: str = "") -> Pages:
    """Return the walk through all entities of a `kind`.

    A server may ignore a filter or an order without a word: whoever filters checks what came.
    """
    wishes = dict.fromkeys([(filter_text, ORDER_BY), (filter_text, ""), ("", ORDER_BY), ("", "")])
    return Pages(
        [_asking(api, kind, *wish) for wish in wishes],
        identify=identify,
        next_window=Window,
        largest=PAGE_LENGTH,
    )


def _asking(api: ElementApi, kind: str, filter_text: str, order_by: str) -> Ask:
    async def ask(window: Window) -> Page:
        answer = await api.list_entities(
            kind, window.start, length=window.length, filter_text=filter_text, order_by=order_by
        )
        found = answer.decode(EntityList)
        total = found.metadata.total_matches if found.metadata else None
        return Page(found.entities or (), total, False, answer.request)

    return ask


class V2ListCall(Protocol):
    """A call of the API that lists something of v2."""

    def __call__(self, page: int, count: int) -> Awaitable[Answer]:
        """Return one page (V2List), from 1; page 0 asks for all at once."""
        ...


async def v2_entities(call: V2ListCall) -> AsyncIterator[Listed]:
    """Yield all entities of a list of v2 that is short: a server that gives a part of it is asked page by page."""
    answer = await call(0, 0)
    found = answer.decode(V2List)
    is_cut = found.total is not None and found.total > len(found.entities)
    async for listed in v2_pages(call) if is_cut else these(found.entities, answer.request):
        yield listed


def v2_pages(call: V2ListCall) -> Pages:
    """Return the walk through all entities of a list of v2, page by page."""

    async def ask(window: Window) -> Page:
        answer = await call(window.start // window.length + 1, window.length)
        found = answer.decode(V2List)
        return Page(found.entities, found.total, False, answer.request)

    return Pages([ask], identify=_identify_v2, next_window=aligned_window, largest=V2_COUNT)


class _OnlyV2Id(msgspec.Struct):
    uuid: Any = None
    storage_container_uuid: Any = None


def _identify_v2(raw: msgspec.Raw) -> str:
    """Return the id of an entity; its own comes before that of the storage container that it is in."""
    try:
        found = msgspec.json.decode(raw, type=_OnlyV2Id)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    return next((one for one in (found.uuid, found.storage_container_uuid) if isinstance(one, str)), "")


class _OnlyUuid(msgspec.Struct):
    uuid: Any = None


class _OnlyMetadata(msgspec.Struct):
    metadata: _OnlyUuid | None = None


def identify(raw: msgspec.Raw) -> str:
    """Return the id of an entity, whatever else is wrong with it; "" if it has none."""
    try:
        metadata = msgspec.json.decode(raw, type=_OnlyMetadata).metadata
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    return metadata.uuid if metadata is not None and isinstance(metadata.uuid, str) else ""


class _OnlyName(msgspec.Struct):
    name: Any = None


class _OnlyStatus(msgspec.Struct):
    status: _OnlyName | None = None


def name_of(raw: msgspec.Raw) -> str:
    """Return the name of an entity, whatever else is wrong with it; "" if it has none."""
    try:
        status = msgspec.json.decode(raw, type=_OnlyStatus).status
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    return status.name if status is not None and isinstance(status.name, str) else ""

"""v3 lists: offset and length, in an order that stays while we read, and filters that a server may not have."""

from __future__ import annotations

from typing import Any

import msgspec

from ntxengine.prism.pages import Ask, Page, Pages, Window
from ntxengine.prism.v3.api import PAGE_LENGTH, ElementApi
from ntxengine.prism.v3.schema import EntityList

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

"""v4 lists: $page and $limit, in an order that stays while we read, and filters that a server may not have.

`$page` counts in units of `$limit`, so the page that begins inside the one before has a smaller limit:

    $limit=100&$page=0      0 .. 99
    $limit=99&$page=1           99 .. 197
    $limit=98&$page=2               196 .. 293
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

import msgspec

from ntxengine.prism.http.session import Answer
from ntxengine.prism.pages import Ask, Page, Pages, Window, aligned_window
from ntxengine.prism.v4.api import PAGE_LIMIT
from ntxengine.prism.v4.schema import EntityList


class ListCall(Protocol):
    """A call of the API that lists something."""

    def __call__(self, page: int, limit: int, *, filter_text: str, order_by: str) -> Awaitable[Answer]:
        """Return one page (EntityList)."""
        ...


def entities(call: ListCall, *, filter_text: str = "", order_by: str = "") -> Pages:
    """Return the walk through a list.

    A server may ignore a filter or an order without a word: whoever filters checks what came.
    """
    wishes = dict.fromkeys([(filter_text, order_by), (filter_text, ""), ("", order_by), ("", "")])
    return Pages(
        [_asking(call, *wish) for wish in wishes],
        identify=identify,
        next_window=aligned_window,
        largest=PAGE_LIMIT,
    )


def _asking(call: ListCall, filter_text: str, order_by: str) -> Ask:
    async def ask(window: Window) -> Page:
        page = window.start // window.length
        answer = await call(page, window.length, filter_text=filter_text, order_by=order_by)
        found = answer.decode(EntityList)
        total = found.metadata.total_available_results if found.metadata else None
        has_next = any(link.rel == "next" for link in (found.metadata.links if found.metadata else None) or ())
        return Page(found.data or (), total, has_next, answer.request)

    return ask


class _OnlyId(msgspec.Struct, rename="camel"):
    ext_id: Any = None
    container_ext_id: Any = None


def identify(raw: msgspec.Raw) -> str:
    """Return the id of an entity, whatever else is wrong with it; "" if it has none.

    That of a storage container has a name of its own.
    """
    try:
        found = msgspec.json.decode(raw, type=_OnlyId)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    return next((one for one in (found.ext_id, found.container_ext_id) if isinstance(one, str)), "")


class _OnlyName(msgspec.Struct, rename="camel"):
    name: Any = None


def name_of(raw: msgspec.Raw) -> str:
    """Return the name of an entity, whatever else is wrong with it; "" if it has none."""
    try:
        name = msgspec.json.decode(raw, type=_OnlyName).name
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    return name if isinstance(name, str) else ""

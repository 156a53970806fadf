"""Changing what others may change meanwhile: v4 takes the version that we saw (If-Match) and refuses an older one.

Where no version is told, none may be needed; some servers then want `*` (nutanix-api, 13).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from ntxengine.errors import PrismAnswerError, PrismBusy, PrismError, PrismStatusError, TaskFailed
from ntxengine.prism.http.error_body import is_not_found

_STALE = frozenset({409, 412})
_REQUIRED = 428
_SAYS_ETAG = re.compile(r"\betag\b|if-match|etag_|PLAT-1000[45]", re.IGNORECASE)
_TRIES = 5


async def with_etag(send: Callable[[str | None], Awaitable[str]], etag: str | None, what: str) -> str | None:
    """Ask for a change of the version `etag`, None if none is told; return the task's id.

    None if the thing is not there.  Errors: PrismAnswerError where Prism wants a version and tells none.
    """
    for choice in (etag,) if etag is not None else (None, "*"):
        try:
            return await send(choice)
        except PrismStatusError as exc:
            if is_not_found(exc):
                return None
            if etag is not None or not (_is_wanted(exc) or _is_stale(exc)):
                raise
            refused = exc
    raise PrismAnswerError(
        f"{what}: Prism wants an ETag and tells none, so that `ntx` cannot do it, nor `ntx sweep`: do it by hand in"
        f" Prism: {refused}"
    ) from refused


async def until_not_stale(change: Callable[[], Awaitable[None]], *, what: str, thing: str) -> None:
    """Do a change, and do it again where somebody else changed `thing` between our two calls.

    Errors: PrismBusy if that never ends; what `change` raises.
    """
    tries = 0
    while True:
        try:
            return await change()
        except PrismError as exc:
            tries += 1
            if not _is_stale(exc):
                raise
            if tries == _TRIES:
                raise PrismBusy(
                    f"{what}: somebody else changes {thing} all the time: tried {_TRIES} times; try again later: {exc}"
                ) from exc


def _is_wanted(error: PrismStatusError) -> bool:
    """Return whether a request was refused because it had no If-Match."""
    return error.status == _REQUIRED or (error.status == 400 and _SAYS_ETAG.search(str(error)) is not None)


def _is_stale(error: PrismError) -> bool:
    """Return whether the version was another one by then: said at once, or only by the task."""
    if isinstance(error, PrismStatusError):
        return error.status in _STALE
    return isinstance(error, TaskFailed) and _SAYS_ETAG.search(str(error)) is not None

"""Waiting for Prism: ask, sleep a little longer each time, give up at a limit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from ntxengine.concurrency.completion import run_to_completion
from ntxengine.errors import NtxError, PrismTimeout
from ntxengine.prism.http.clock import Clock

T = TypeVar("T")

FIRST_POLL_S = 0.25
LONGEST_POLL_S = 5.0
TASK_TIMEOUT_S = 600.0
"""How long Prism may take to freeze, delete or attach; a quiesced VM under load needs minutes."""
SETTLE_TIMEOUT_S = 30.0
"""How long clean-up waits for a task to end before it removes what is there."""
UNDO_TIMEOUT_S = 180.0

log = logging.getLogger(__name__)


async def poll(
    ask: Callable[[], Awaitable[T | None]], *, what: str, clock: Clock, timeout_s: float = TASK_TIMEOUT_S
) -> T:
    """Return the first answer of `ask` that is not None.

    Errors: PrismTimeout after `timeout_s`; what `ask` raises.
    """
    deadline = clock.now() + timeout_s
    wait_s = FIRST_POLL_S
    while (found := await ask()) is None:
        left_s = deadline - clock.now()
        if left_s <= 0:
            raise PrismTimeout(f"{what} is not finished after {timeout_s:g} s: try again later")
        await clock.sleep(min(wait_s, left_s))
        wait_s = min(wait_s * 1.5, LONGEST_POLL_S)
    return found


class Accepted:
    """The id of what Prism accepted, known also if we are cancelled while asking: the request runs to its end."""

    def __init__(self) -> None:
        self.id: str | None = None

    async def ask(self, asking: Coroutine[Any, Any, str]) -> str:
        """Await `asking`, keep what it returns, return it; a cancellation is raised only after that."""

        async def keep() -> str:
            self.id = await asking
            return self.id

        return await run_to_completion(keep())


async def undo(work: Coroutine[Any, Any, None], *, what: str) -> None:
    """Remove what is half done, to the end, also while we are being cancelled.

    A failure is logged, not raised: the error that made this necessary is the one to tell.
    """
    try:
        await run_to_completion(work, timeout_s=UNDO_TIMEOUT_S)
    except asyncio.CancelledError:
        raise
    except (NtxError, TimeoutError) as exc:
        log.warning("%s may be left on the cluster, `ntx sweep` removes it: %s", what, exc)

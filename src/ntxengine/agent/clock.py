"""Time as the agent sees it, so that tests move it by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def _now() -> datetime:
    return datetime.now(UTC)


def _monotonic() -> float:
    return asyncio.get_running_loop().time()


@dataclass(frozen=True)
class Clock:
    """`now` is the time of the day in UTC, which people set; `monotonic` are the seconds of the event loop.

    `chance` gives a number in [0, 1).
    """

    now: Callable[[], datetime] = _now
    monotonic: Callable[[], float] = _monotonic
    chance: Callable[[], float] = random.random

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for an event, but no longer than this."""
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return

"""What was found out by trying it, kept for a while: captures of many VMs would try the same for each of them.

A server that lacks this machine in its allow-list is silent, and is found so after many seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

KEPT_S = 60.0


class Tried(Generic[T]):
    """Answers by what they are about, and until when."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._found: dict[Hashable, tuple[float, T]] = {}
        self._locks: defaultdict[Hashable, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def get(self, what: Hashable, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return what is kept about `what`, else what `attempt` returns.  What it raises is not kept."""
        async with self._locks[what]:  # whoever comes meanwhile wants the same answer
            known = self._found.get(what)
            if known is not None and self._now() < known[0]:
                return known[1]
            answer = await attempt()
            self._found[what] = (self._now() + KEPT_S, answer)
            return answer

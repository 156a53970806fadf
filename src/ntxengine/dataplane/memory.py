"""How much memory all copies of this process may take together: a budget that jobs reserve from before they begin.

A job reserves once, all that it will take, and has nothing of it while it waits: so none waits for one that waits.
They get it in the order in which they came.  One that comes when the budget is nearly used up gets less than it would
take, if that is a quarter of it at least, and waits otherwise; buffers.py knows what it is made to fit with.

What is counted is what the core allocates (csrc/job_memory.c): buffers; what connections, TLS, zstd and images keep;
tables; extents.  And changed regions while they are put in order.  Not counted is Python with its modules, which is
there in any case; digests, which are files that the kernel maps and lets go as it likes; what it keeps for sockets,
pipes and files; and processes that are started.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from ntxengine.errors import OptionsError
from ntxengine.units import format_size

log = logging.getLogger(__name__)

_ENOUGH = 4
"""A job is content with this part of what it would take: a copy reaches its rate with a few requests in flight."""


@dataclass(eq=False)
class _Request:
    """What a job asks for: one of `sizes`, in bytes, the sooner the better."""

    name: str
    sizes: tuple[int, ...]
    loop: asyncio.AbstractEventLoop
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    granted: int | None = None
    refused: str = ""

    @property
    def least(self) -> int:
        return min(self.sizes)

    def tell(self) -> None:
        with suppress(RuntimeError):  # its loop has been closed: nobody waits any more
            self.loop.call_soon_threadsafe(self.decided.set)


class MemoryBudget:
    """Bytes that jobs take together, in any number of event loops; 0 for no limit.

    `reserved` is what jobs have now, `peak` the most that they had at a time.
    Errors: OptionsError (a limit below 0).
    """

    def __init__(self, limit: int = 0) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Request] = deque()
        self.reserved = self.peak = 0
        self.limit = _checked(limit)

    def change(self, limit: int) -> None:
        """Change the limit: for jobs that begin from now on, and those that wait.  Errors: OptionsError."""
        with self._lock:
            self.limit = _checked(limit)
            self._grant_locked()

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def reserve(self, name: str, sizes: Sequence[int]) -> AsyncIterator[int]:
        """Have one of `sizes` of the budget, in bytes, which is yielded: the first one that is free.

        Waits for its turn.  For one job all at once: whoever has some and asks for more may wait for itself.
        Errors: OptionsError (the least of them is more than the limit: `name` says what for).
        """
        request = _Request(name, tuple(sizes), asyncio.get_running_loop())
        with self._lock:
            self._waiting.append(request)
            self._grant_locked()
        try:
            if request.granted is None and not request.refused:
                log.info("%s: waits for memory: %s are in use", name, format_size(self.reserved))
                await request.decided.wait()
            if request.granted is None:
                raise OptionsError(request.refused)
            yield request.granted
        finally:
            self._give_back(request)

    def _give_back(self, request: _Request) -> None:
        with self._lock:
            if request.granted is not None:
                self.reserved -= request.granted
            else:
                with suppress(ValueError):  # it was refused
                    self._waiting.remove(request)
            self._grant_locked()

    def _grant_locked(self) -> None:
        """Decide on requests, in their order, as far as that is possible now."""
        for request in [each for each in self._waiting if self.limit and each.least > self.limit]:
            self._waiting.remove(request)
            request.refused = (
                f"{request.name}: needs {format_size(request.least)} of memory at least, and the limit for all copies "
                f"is {format_size(self.limit)}: raise --memory-limit (performance.memory_limit)"
            )
            request.tell()
        while self._waiting and (granted := self._for_next_locked()) is not None:
            request = self._waiting.popleft()
            request.granted = granted
            self.reserved += granted
            self.peak = max(self.peak, self.reserved)
            request.tell()

    def _for_next_locked(self) -> int | None:
        """Return how much the first one gets; None: it waits."""
        request = self._waiting[0]
        if not self.limit:
            return request.sizes[0]
        free = self.limit - self.reserved
        possible = next((size for size in request.sizes if size <= self.limit), request.least)
        granted = next((size for size in request.sizes if size <= free), None)
        return granted if granted is not None and granted >= min(possible, request.sizes[0] // _ENOUGH) else None

    def __repr__(self) -> str:
        return f"MemoryBudget({self.limit})"


def _checked(limit: int) -> int:
    if limit < 0:
        raise OptionsError(f"memory limit {limit}: bytes, 0 for no limit")
    return limit

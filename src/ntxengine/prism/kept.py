"""What Prism tells of a cluster and what only informs: asked once, kept for a while, and never the end of anything.

| Prism                                             | is returned              | is kept                 |
|---------------------------------------------------|--------------------------|-------------------------|
| answers                                           | what it says             | yes                     |
| says no (403, 404, ...), or what makes no sense   | nothing                  | yes                     |
| busy, time-out, no connection, 5xx other than 501 | nothing, with a warning  | for FAILED_S            |
| takes longer than LONGEST_S, all tries together   | nothing, with a warning  | for FAILED_S            |
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from ntxengine.errors import PrismError
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.tasks import log_not_told, may_pass

T = TypeVar("T")

log = logging.getLogger(__name__)

KEPT_S = 900.0
"""How long an answer is believed.  A connection may last for weeks, while hosts and containers come and go."""

LONGEST_S = 60.0
"""What only informs holds nobody up for longer, however often a request may be repeated."""

FAILED_S = 60.0
"""How long nobody asks again after a failure that may pass: finding out costs LONGEST_S, and each VM would."""

MAX_KEPT = 100
"""Answers, not what is in them: one for each cluster."""

MAX_LISTED = 10_000
"""Storage containers, or hosts, of one answer.  LIMIT: more than that are not told of."""


class Kept(Generic[T]):
    """Answers by what they are about, and until when.

    `nothing` stands for one that was not given, `not_now` for one that may be given later, if that makes a difference.
    """

    def __init__(self, clock: Clock, nothing: T, not_now: T | None = None) -> None:
        self._clock = clock
        self._nothing = nothing
        self._not_now = nothing if not_now is None else not_now
        self._found: OrderedDict[str, tuple[float, T]] = OrderedDict()
        self._lock = asyncio.Lock()

    async def get(self, what: str, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what is kept about `what`, else what `ask` returns."""
        async with self._lock:  # whoever comes meanwhile wants the same answer
            known = self._found.get(what)
            if known is not None and self._clock.now() < known[0]:
                return known[1]
            found, kept_s = self._nothing, KEPT_S
            try:
                async with asyncio.timeout(LONGEST_S):
                    found = await ask()
            except TimeoutError:
                log.warning("nothing is told of %s: not within %g s", what, LONGEST_S)
                found, kept_s = self._not_now, FAILED_S
            except PrismError as exc:
                log_not_told(what, exc)
                if may_pass(exc):
                    found, kept_s = self._not_now, FAILED_S
            self._found[what] = (self._clock.now() + kept_s, found)
            self._found.move_to_end(what)
            if len(self._found) > MAX_KEPT:
                self._found.popitem(last=False)
            return found

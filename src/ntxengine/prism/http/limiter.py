"""Asking no faster than Prism allows: its rate-limit headers, turned into turns.

    X-Api-Ratelimit-Limit: 2  X-Api-Ratelimit-Refresh-Period-Seconds: 1      this call (method and path without ids)
    X-Ratelimit-Limit: 40                                                    all calls of the account, in a second

How Prism counts is not told (windows that begin when they like, or a bucket that fills), so the rule holds for each:
request n + limit is sent no earlier than a period after the answer of request n was here.  The first request of a call
goes alone: until it has ended nobody knows its limit.  What makes a request wait for seconds is told once a call, and
a turn that does not come is an error.  No I/O and no clock of its own.

LIMIT: a first request that breaks tells no limit, and the others go together; a 429 then tells it.
LIMIT: another program with the same account spends the same limit.  It is seen only when nothing remains, or by a 429.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from ntxengine.errors import PrismBusy
from ntxengine.ids import UUID_PATTERN
from ntxengine.prism.http.clock import Clock

MAX_LIMIT = 1_000_000
MAX_PERIOD_S = 60.0
"""A limit, or a period, that a header tells is believed up to this."""

ASSUMED_FOR_S = 60.0
"""How long a call that refused for its rate without telling a limit is asked once a second."""

SHORTEST_WAIT_S = 0.001

LONGEST_PAUSE_S = 5.0
"""A limit that leaves less than one request in so long is not believed: if it is meant, a 429 says how long to wait."""

LONGEST_WAIT_S = 300.0
"""How long a request waits for its turn."""

_WARN_AT_S = 4.0

log = logging.getLogger(__name__)

_ID_PART = re.compile(rf"/[^/]*{UUID_PATTERN}[^/]*")


def api_of(method: str, path: str) -> str:
    """Return the call that Prism counts: a path without the ids in it."""
    return f"{method} {_ID_PART.sub('/{}', path)}"


class Limiter:
    """The turns of one session; `name` is the Prism, for messages."""

    def __init__(self, clock: Clock, name: str = "Prism") -> None:
        self._clock = clock
        self._name = name
        self._slow: set[str] = set()
        self._of_api: defaultdict[str, _Window] = defaultdict(_Window)
        self._of_all = _Window(is_known=True)

    @asynccontextmanager
    async def turn(self, api: str) -> AsyncIterator[None]:
        """Wait until a request of `api` may be sent; it is in flight inside the context.  Errors: PrismBusy."""
        window, since = self._of_api[api], self._clock.now()
        async with window.line:
            await self._wait(window, api, since)
            async with self._of_all.line:
                await self._wait(self._of_all, api, since)
                window.begin()
                self._of_all.begin()
        try:
            yield
        finally:
            window.end(self._clock.now())
            self._of_all.end(self._clock.now())

    def learn(self, api: str, status: int, headers: Mapping[str, str]) -> None:
        """Take the limits from an answer, while its request is still in flight."""
        now = self._clock.now()
        window = self._of_api[api]
        period_s = _number(headers, "x-api-ratelimit-refresh-period-seconds", MAX_PERIOD_S) or 1.0
        is_told = window.learn(headers, "x-api-ratelimit", period_s, now)
        self._of_all.learn(headers, "x-ratelimit", 1.0, now)
        if status == 429 and not is_told:
            window.assume_one(now)

    def hold(self, api: str, wait_s: float) -> None:
        """Send nothing of `api` for this long: Prism has just refused one."""
        self._of_api[api].hold(self._clock.now() + wait_s)

    async def _wait(self, window: _Window, api: str, since: float) -> None:
        """Wait for a turn in one window; `since` when the request has waited for all of its turns."""
        while (wait_s := window.wait_s(now := self._clock.now())) != 0:
            in_all_s = now - since + (wait_s or 0.0)
            if in_all_s > LONGEST_WAIT_S:
                busy = PrismBusy(
                    f"{self._name}: {api}: no turn within {LONGEST_WAIT_S:g} s under its rate limit; try again later"
                )
                busy.was_sent = False
                raise busy
            if in_all_s >= _WARN_AT_S and api not in self._slow:
                self._slow.add(api)
                log.warning("%s: %s: waits for its rate limit, %.0f s at first", self._name, api, in_all_s)
            if wait_s is None:
                await window.next_end()
            else:
                await self._clock.sleep(max(wait_s, SHORTEST_WAIT_S))


class _Window:
    """What was sent of one call, as far back as its limit counts.  `line` keeps those who wait in their order."""

    def __init__(self, *, is_known: bool = False) -> None:
        self.is_known = is_known
        self.line = asyncio.Lock()
        self._limit: int | None = None
        self._period_s = 1.0
        self._assumed_until: float | None = None
        self._free_at = 0.0
        self._in_flight = 0
        self._ended: deque[float] = deque()
        self._has_ended = asyncio.Event()

    def wait_s(self, now: float) -> float | None:
        """Return how long to wait before sending: 0 if not at all, None until a request in flight has ended."""
        if now < self._free_at:
            return self._free_at - now
        if not self.is_known:
            return None if self._in_flight else 0.0
        if self._assumed_until is not None and now >= self._assumed_until:
            self._limit = self._assumed_until = None
        if self._limit is None:
            return 0.0
        while self._ended and self._ended[0] + self._period_s <= now:
            self._ended.popleft()
        over = self._in_flight + len(self._ended) - self._limit
        if over < 0:
            return 0.0
        return self._ended[over] + self._period_s - now if over < len(self._ended) else None

    def begin(self) -> None:
        self._in_flight += 1

    def end(self, now: float) -> None:
        self._in_flight -= 1
        self.is_known = True
        if self._limit is not None:
            self._ended.append(now)
        self._has_ended.set()

    async def next_end(self) -> None:
        self._has_ended.clear()
        await self._has_ended.wait()

    def learn(self, headers: Mapping[str, str], prefix: str, period_s: float, now: float) -> bool:
        """Take the limit that the headers tell; return whether they tell one."""
        limit = int(_number(headers, f"{prefix}-limit", MAX_LIMIT))
        if limit == 0:
            return False
        self._limit, self._period_s, self._assumed_until = limit, min(period_s, limit * LONGEST_PAUSE_S), None
        if headers.get(f"{prefix}-remaining", "").strip() == "0":
            reset_s = _reset_s(_number(headers, f"{prefix}-reset", MAX_LIMIT), period_s)
            self.hold(now + min(reset_s, LONGEST_PAUSE_S))
        return True

    def assume_one(self, now: float) -> None:
        self._limit, self._period_s, self._assumed_until = 1, 1.0, now + ASSUMED_FOR_S

    def hold(self, until: float) -> None:
        self._free_at = max(self._free_at, until)


def _number(headers: Mapping[str, str], name: str, largest: float) -> float:
    """Return a number of a header; 0 where there is none that can be meant."""
    text = headers.get(name, "").strip()
    number = float(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0.0
    return number if number <= largest else 0.0


def _reset_s(reset: float, period_s: float) -> float:
    """Return how long until a limit is whole again, never longer than its period.

    The unit is not told; 183 with a period of one second was recorded, so what is longer than a period is milliseconds.
    """
    if 0 < reset <= period_s:
        return reset
    return reset / 1000 if 0 < reset <= period_s * 1000 else period_s

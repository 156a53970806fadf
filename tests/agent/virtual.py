"""An event loop whose time goes on by itself, at once, when there is nothing left to do: hours pass in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from ntxengine.agent.clock import Clock

T = TypeVar("T")

START = datetime(2026, 11, 30, 12, tzinfo=UTC)


class _Selector(selectors.SelectSelector):
    """Does not wait, but moves the time on by what it was to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found:
            assert timeout is not None, "everybody waits, and nobody would ever wake them"
            self.now += max(0.0, timeout)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """`wall` is what people set: the time of the day at the beginning."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        self.wall = START - timedelta(seconds=self._virtual.now)
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def now(self) -> datetime:
        return self.wall + timedelta(seconds=self.time())

    @property
    def clock(self) -> Clock:
        return Clock(now=self.now, monotonic=self.time, chance=lambda: 0.5)


def in_virtual_time(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run `main`, which is given the loop, to its end."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.close()

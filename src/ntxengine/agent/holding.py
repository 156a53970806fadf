"""What is held, told to people: once when it begins, and once when it is over."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from datetime import timedelta

from ntxengine.agent.clock import Clock
from ntxengine.agent.retries import Holds, Verdict

log = logging.getLogger(__name__)


class Holding(Holds):
    """The holds of one agent."""

    def __init__(self, clock: Clock, on_released: Callable[[], None]) -> None:
        super().__init__()
        self._clock = clock
        self._on_released = on_released

    def fail(self, verdict: Verdict, text: str) -> bool:
        """Take note of an error; return whether something is held for it, which is said then."""
        is_new = self.failed(verdict, text, now=self._clock.now(), monotonic=self._clock.monotonic())
        if is_new:
            log.error("%s: held, and tried now and then until it is over: %s", verdict.scope, text)
        return verdict.scope in self.all

    def hold(self, scope: str, verdict: Verdict, text: str) -> None:
        """Hold `scope` for an error that somebody else tells."""
        verdict = dataclasses.replace(verdict, scope=scope, needs=1)
        self.failed(verdict, text, now=self._clock.now(), monotonic=self._clock.monotonic())

    def release(self, scope: str) -> None:
        """Take note that it works."""
        hold = self.passed(scope)
        if hold is not None:
            held = timedelta(seconds=max(0, int((self._clock.now() - hold.since).total_seconds())))
            log.warning("%s: is used again, after %s", scope, held)
            self._on_released()

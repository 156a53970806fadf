"""Rollback steps: registered as things are made, run in reverse when the workflow fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

STEP_TIMEOUT_S = 120.0
"""For one step.  Deleting a recovery point is a task on a cluster that may be busy."""


class Rollback:
    """A stack of steps that take back what was done."""

    def __init__(self, *, step_timeout_s: float = STEP_TIMEOUT_S) -> None:
        self._steps: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._step_timeout_s = step_timeout_s

    def add(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        """Register how to take back what was just done.  `what` completes "could not ..."."""
        self._steps.append((what, step))

    @property
    def has_steps(self) -> bool:
        """Say whether there is anything to take back."""
        return bool(self._steps)

    def forget(self) -> None:
        """It is done for good: nothing is taken back any more."""
        self._steps.clear()

    async def run(self) -> None:
        """Take back, newest first.  A step that fails is logged and does not keep the others from running."""
        while self._steps:
            what, step = self._steps.pop()
            try:
                async with asyncio.timeout(self._step_timeout_s):
                    await step()
            except TimeoutError:
                log.warning("could not %s within %g s; `ntx sweep` does it later", what, self._step_timeout_s)
            except Exception as error:  # noqa: BLE001  the first error is on its way to the caller already
                log.warning("could not %s: %s; `ntx sweep` does it later", what, error)

"""Time limits of what is tested, which run out when the test says so, and not before on a machine that is slow."""

from __future__ import annotations

import asyncio

import pytest


class Timeouts:
    """The `asyncio.timeout(seconds)` that are begun from now on; take a number that nothing else takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self._begun: list[asyncio.Timeout] = []
        timeout = asyncio.timeout

        def begin(delay: float | None) -> asyncio.Timeout:
            made = timeout(delay)
            if delay == seconds:
                self._begun.append(made)
            return made

        monkeypatch.setattr(asyncio, "timeout", begin)

    def run_out(self) -> None:
        """Let their time be up."""
        for each in self._begun:
            each.reschedule(asyncio.get_running_loop().time())

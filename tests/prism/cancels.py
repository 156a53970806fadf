"""The network to a simulator, on which a request can be told to cancel who asks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Literal

import httpx

from ntxengine.prism.http.session import tls_context
from ntxengine.sim import Simulator

Moment = Literal["before", "after"]


class Cancels(httpx.AsyncBaseTransport):
    """The network, and a task that is cancelled at request number `at` of it (from 1)."""

    def __init__(self, sim: Simulator) -> None:
        self._network = httpx.AsyncHTTPTransport(verify=tls_context(str(sim.ca_file), insecure=False))
        self.count = 0
        self.at = 0
        self.moment: Moment = "before"
        self.task: asyncio.Task[object] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.count += 1
        if self.count == self.at and self.moment == "before":
            self._cancel()
        response = await self._network.handle_async_request(request)
        if self.count == self.at and self.moment == "after":
            self._cancel()
        return response

    def _cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()
            self.task = None

    async def aclose(self) -> None:
        await self._network.aclose()

    async def run(self, work: Callable[[], Awaitable[object]], at: int, moment: Moment) -> bool:
        """Run `work` and cancel it there; say whether it was, which it is not if it has fewer requests."""
        self.count, self.at, self.moment = 0, at, moment
        self.task = task = asyncio.ensure_future(work())
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self.task = None
        return task.cancelled()

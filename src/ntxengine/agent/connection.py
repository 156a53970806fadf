"""One connection to the cluster for all runs: one login, and one count of what its rate limits allow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from ntxengine.errors import CredentialsError, NtxError, PrismConnectionError
from ntxengine.prism import Cluster

log = logging.getLogger(__name__)


class Connection:
    """Opened when it is first needed, and anew after it was refused or lost; what still uses the old one keeps it."""

    def __init__(self, connect: Callable[[], Awaitable[Cluster]]) -> None:
        self._connect = connect
        self._opening: asyncio.Task[Cluster] | None = None
        self._waiting = 0
        self._current: Cluster | None = None
        self._users: dict[int, int] = {}
        self._is_closed = False

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Cluster]:
        """Use it inside the context.  Errors: as prism.connect; all that wait for one try get its error."""
        cluster = self._current or await self._opened()
        self._users[id(cluster)] = self._users.get(id(cluster), 0) + 1
        try:
            yield cluster
        except (CredentialsError, PrismConnectionError):
            if cluster is self._current:
                self._current = None
            raise
        finally:
            await self._leave(cluster)

    async def _opened(self) -> Cluster:
        # A task of its own: whoever waits may be cancelled, and the others still want the answer.
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="connect to Prism")
            self._opening.add_done_callback(_look)
        self._waiting += 1
        try:
            return await asyncio.shield(self._opening)
        finally:
            self._waiting -= 1

    async def _open(self) -> Cluster:
        try:
            cluster = await self._connect()
            if not self._is_closed:  # else whoever asked for it closes it when he leaves
                self._current = cluster
            return cluster
        finally:
            self._opening = None

    async def _leave(self, cluster: Cluster) -> None:
        left = self._users[id(cluster)] - 1
        if left:
            self._users[id(cluster)] = left
            return
        del self._users[id(cluster)]
        if cluster is not self._current:
            await _close(cluster)

    async def aclose(self) -> None:
        """Close it, for good; what still uses it, or waits for it, closes it at its end.

        Whoever uses it later has one of his own.
        """
        self._is_closed = True
        # Who waits is not cancelled with it: nobody told that one to end.
        if self._opening is not None and not self._waiting:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        cluster, self._current = self._current, None
        if cluster is not None and id(cluster) not in self._users:
            await _close(cluster)


async def _close(cluster: Cluster) -> None:
    try:
        await cluster.aclose()
    except NtxError as error:
        log.debug("closing the connection: %s", error)


def _look(task: asyncio.Task[Cluster]) -> None:
    """Look at the error of a task that nobody waits for any more: asyncio complains otherwise."""
    if not task.cancelled():
        task.exception()

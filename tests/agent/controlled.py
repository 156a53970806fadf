"""An agent that acts and listens at its socket, and a client that says whatever bytes it likes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from ntxengine.agent.connection import Connection
from ntxengine.agent.jobs import Job, Setup
from ntxengine.agent.listening import Places
from ntxengine.agent.service import Built, Service
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.errors import NtxError, PrismConnectionError
from ntxengine.prism import Cluster
from tests.agent.acting import Acting, Listed, job

LIMIT_S = 120.0
"""Longer than anything takes, however busy the machine is."""


async def nowhere() -> Cluster:
    raise PrismConnectionError("nobody is there")


def yearly(name: str = "hourly") -> Job:
    """Return a job whose runs begin when they are asked for."""
    return job(name, every=timedelta(days=300))


def built(folder: Path, *, runner: Any = None, listed: Listed | None = None, jobs: tuple[Job, ...] = ()) -> Built:
    jobs = jobs or (yearly(),)
    listed = listed or Listed(**{each.name: ["db01", "web01"] for each in jobs})
    return Built(
        Setup(jobs, listed, runner or Acting(takes_s=0.01)),
        Connection(nowhere),
        bandwidth=Bandwidth("500M"),
        rate="500M",
        places=Places(folder / "agent.sock"),
    )


class Live:
    """A service that listens; `built` is what the next reload finds, or the error that it ends with."""

    def __init__(self, folder: Path, found: Built) -> None:
        self.folder = folder
        self.built: Built | NtxError = found
        self.service = Service(folder / "state", self._build)

    def _build(self, state: Any) -> Built:
        if isinstance(self.built, NtxError):
            raise self.built
        return self.built

    def move(self, **places: Any) -> None:
        """Have the next reload find other places."""
        assert isinstance(self.built, Built)
        self.built = replace(self.built, places=replace(self.built.places, **places))

    async def say(self, data: bytes, *, path: Path | None = None) -> bytes:
        """Send bytes to the socket, and return all that comes back."""
        async with asyncio.timeout(LIMIT_S):
            reader, writer = await asyncio.open_unix_connection(path or self.folder / "agent.sock")
            try:
                writer.write(data)
                return await reader.read()
            except ConnectionResetError:
                return b""
            finally:
                writer.close()

    async def ask(self, target: str, body: Any = None, *, method: str = "") -> tuple[int, Any]:
        """Return the status and the document that a request is answered with."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        line = f"{method or ('GET' if body is None else 'POST')} /v1/{target} HTTP/1.1"
        head = f"{line}\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
        return parsed(await self.say(head.encode() + data))

    async def until(self, is_so: Any) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not is_so():
                await asyncio.sleep(0.01)


def parsed(answer: bytes) -> tuple[int, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    return status, json.loads(body) if b"application/json" in head else body.decode()


@asynccontextmanager
async def live(folder: Path, **more: Any) -> AsyncIterator[Live]:
    found = Live(folder, built(folder, **more))
    task = asyncio.ensure_future(found.service.run())
    try:
        await found.until(
            lambda: task.done() or (hasattr(found.service, "scheduler") and found.service.scheduler.listing.is_known)
        )
        if task.done():
            task.result()
        yield found
    finally:
        if not task.done():
            found.service.stop()
            found.service.stop()
        await task

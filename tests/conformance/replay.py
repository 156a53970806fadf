"""Plays recorded steps back to our client, with one answer changed."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Self
from urllib.parse import unquote

import httpx
import msgspec

from ntxengine.errors import NotFoundError, PrismError
from ntxengine.prism.cluster import Cluster
from ntxengine.prism.http.endpoint import Endpoint, Secret
from ntxengine.prism.http.retry import RetryPolicy
from ntxengine.prism.open import open_cluster
from tests.conformance.exchanges import STEPS, Exchange, Walk
from tests.prism.hostile import HandClock

Key = tuple[str, str]

REFUSALS = (PrismError, NotFoundError)
"""What our client may say to an answer that it cannot use."""

_ABSENT = {"data": {"error": [{"message": "was not recorded", "code": "X-404"}]}, "message_list": [], "state": "ERROR"}

_PATIENCE = 300
"""Requests that a step is answered.  A list that never ends would cost seconds; other tests see that it is stopped."""


class Replay(httpx.AsyncBaseTransport):
    """Answers as recorded, each path in its order and the last one again and again; what was not recorded is 404."""

    def __init__(self) -> None:
        self._answers: dict[Key, deque[tuple[int, bytes]]] = {}
        self._count = 0

    def play(self, exchanges: list[Exchange], changed: Exchange | None = None, answer: Any = None) -> None:
        """Play these; the answer of `changed` is `answer`."""
        self._answers, self._count = {}, 0
        for one in exchanges:
            body = answer if one is changed else one.answer
            queue = self._answers.setdefault((one.method, one.path), deque())
            queue.append((one.status, msgspec.json.encode(body)))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = unquote(request.url.raw_path.partition(b"?")[0].decode())
        queue = self._answers.get((request.method, path))
        headers = {"Content-Type": "application/json", "ETag": "W/1"}
        if queue is None:
            return httpx.Response(404, json=_ABSENT, headers=headers)
        status, content = queue.popleft() if len(queue) > 1 else queue[0]
        self._count += 1
        if self._count > _PATIENCE:
            return httpx.Response(404, json=_ABSENT, headers=headers)
        return httpx.Response(status, content=content, headers=headers)


class Player:
    """Our client of a recorded cluster, connected while its `with` block lasts."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self._replay = Replay()
        self._runner = asyncio.Runner()
        self._cluster: Cluster | None = None

    def __enter__(self) -> Self:
        self._replay.play(self.walk.steps["open"])
        self._cluster = self._runner.run(self._open())
        return self

    async def _open(self) -> Cluster:
        endpoint = Endpoint(f"https://{self.walk.steps['open'][0].headers['host']}", "admin", Secret("s3cret"))
        retry = RetryPolicy(retries=1)
        return await open_cluster(endpoint, endpoint, transport=self._replay, clock=HandClock().clock, retry=retry)

    def __exit__(self, *_exc: object) -> None:
        if self._cluster is not None:
            self._runner.run(self._cluster.aclose())
        self._runner.close()

    def step(self, name: str, changed: Exchange | None = None, answer: Any = None) -> Any:
        """Do one step and return what it gave: a value, or the error that it raised."""
        self._replay.play(self.walk.steps[name], changed, answer)
        try:
            return self._runner.run(self._do(name))
        except REFUSALS as exc:
            return exc

    async def _do(self, name: str) -> Any:
        assert self._cluster is not None
        return await STEPS[name](self._cluster.prism, self.walk.held)

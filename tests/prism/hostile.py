"""A TLS server that says exactly what a test tells it to, right or wrong, byte for byte; and a clock moved by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import trustme

from ntxengine.prism.http.clock import Clock

HANG = b"hang"
"""A reply that never comes."""

PASSWORD = "s3cret-pass-word"


@dataclass(frozen=True)
class Asked:
    """A request as it came in."""

    host: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def reply(status: int = 200, body: Any = None, **headers: str) -> bytes:
    """Return a whole HTTP answer; a `body` that is not bytes is sent as JSON."""
    kind = "text/plain" if isinstance(body, bytes) else "application/json"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"Content-Type": kind, "Content-Length": str(len(data))}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return head.encode() + b"\r\n" + data


@dataclass
class Hostile:
    """The server.  `script` maps `METHOD /path` (as it ends) to replies; the last one is repeated."""

    port: int = 0
    script: dict[str, list[bytes | Callable[[Asked], bytes]]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def on(self, what: str, *replies: bytes | Callable[[Asked], bytes]) -> None:
        """Answer requests whose `METHOD /path` matches the method and ends with the path of `what`."""
        self.script[what] = list(replies)

    def asked_for(self, path: str) -> list[Asked]:
        """Return the requests whose path, without the query, ends with `path`."""
        return [one for one in self.asked if one.path.partition("?")[0].endswith(path)]

    def answer(self, one: Asked) -> bytes:
        self.asked.append(one)
        for what, replies in self.script.items():
            method, _, path = what.partition(" ")
            if one.method == method and one.path.partition("?")[0].endswith(path):
                found = replies.pop(0) if len(replies) > 1 else replies[0]
                return found(one) if callable(found) else found
        return reply(404, {"message_list": [{"reason": "ENTITY_NOT_FOUND", "message": f"nothing at {one.path}"}]})

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = writer.get_extra_info("sockname")[0]
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                method, path, _ = first.split(" ")
                answer = self.answer(Asked(host, method, path, headers, body))
                if answer is HANG:
                    await asyncio.Event().wait()
                writer.write(answer)
                await writer.drain()
                if b"X-Close" in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def hostile_server(authority: trustme.CA, *hosts: str) -> AsyncIterator[Hostile]:
    """Serve on the same port of all hosts (127.0.0.1 if none is given)."""
    hosts = hosts or ("127.0.0.1",)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*hosts).configure_cert(context)
    server = Hostile()
    running: set[asyncio.Task[None]] = set()
    handlers = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        task.add_done_callback(running.discard)
        await server.serve(reader, writer)

    try:
        for host in hosts:
            handlers.append(await asyncio.start_server(connected, host, server.port, ssl=context))
            server.port = handlers[0].sockets[0].getsockname()[1]
        yield server
    finally:
        for handler in handlers:
            handler.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for handler in handlers:
            await handler.wait_closed()


class HandClock:
    """Time that passes only when somebody sleeps or a test says so."""

    def __init__(self) -> None:
        self.time_s = 1000.0
        self.slept: list[float] = []
        self.clock = Clock(now=lambda: self.time_s, sleep=self.sleep, chance=lambda: 0.0)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time_s += seconds
        await asyncio.sleep(min(seconds, 0.01))  # a simulator works in time of its own

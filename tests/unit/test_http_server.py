"""HTTP for clients of whom nothing good is believed: how long a request has.  More in tests/agent/test_control.py."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from ntxengine.http_server import HttpServer, _Connection

LIMIT_S = 60
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def _answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse("fine")


@asynccontextmanager
async def served(path: Path, **more: bool) -> AsyncIterator[HttpServer]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        server = HttpServer(Starlette(routes=[Route("/", _answer)]), request_s=1000, **more)
        await server.start([listening])
        try:
            yield server
        finally:
            await server.close()


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not is_so():
            await asyncio.sleep(0.01)


def ends_at(server: HttpServer) -> float:
    """Return when the one connection is cut, in the time of the loop."""
    (connection,) = server._connections
    assert isinstance(connection, _Connection)
    assert connection._limit is not None
    return connection._limit.when()


async def test_a_request_has_its_time_from_its_first_byte_however_long_the_connection_was_idle(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as server:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        await until(lambda: server._connections)
        connected = ends_at(server)
        writer.write(REQUEST[:5])
        await until(lambda: ends_at(server) > connected)
        first_byte = ends_at(server)

        writer.write(REQUEST[5:-2])
        writer.write(REQUEST[-2:])
        answer = await reader.readuntil(b"fine")
        answered = ends_at(server)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 200")
    assert answered > first_byte


async def test_the_rest_of_a_request_gives_it_no_more_time(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as server:
        _, writer = await asyncio.open_unix_connection(tmp_path / "s")
        await until(lambda: server._connections)
        connected = ends_at(server)
        writer.write(REQUEST[:5])
        await until(lambda: ends_at(server) > connected)
        (connection,) = server._connections
        first_byte = ends_at(server)

        connection.data_received(REQUEST[5:9])

        assert ends_at(server) == first_byte
        writer.close()


@pytest.mark.parametrize("lets_clients_close", [False, True])
async def test_who_closes_last_is_the_client_only_where_it_is_to(tmp_path: Path, lets_clients_close: bool) -> None:
    async with served(tmp_path / "s", lets_clients_close=lets_clients_close) as server:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(REQUEST)
        await reader.readuntil(b"fine")

        closing = asyncio.ensure_future(server.close())
        await asyncio.sleep(0)
        (connection,) = server._connections

        assert connection.transport.is_closing() is not lets_clients_close
        writer.close()
        await closing
        assert not server._connections

"""HTTP at sockets that listen, for clients of whom nothing good is believed.

So many connections at a time: of more the oldest is cut.  A request has so long from its first byte to the last of its
answer, an idle connection as long until its next: whoever sends or reads slowly is cut, too.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

CONNECTIONS = 64
"""At a time; of more the oldest gives way."""

REQUEST_S = 30.0
"""For one request with its answer, and from one answer to the next request."""

_LAST_ANSWERS_S = 2.0
_MAX_HEAD = 16 * 1024
_CREDENTIALS = struct.Struct("iii")


class HttpServer:
    """Serves an application at sockets that listen, from `start` to `close`."""

    def __init__(
        self,
        app: Starlette,
        *,
        tls: ssl.SSLContext | None = None,
        request_s: float | None = None,
        lets_clients_close: bool = False,
    ) -> None:
        """`request_s` in the place of REQUEST_S.

        `lets_clients_close`: what carries the answers ends with this server, so that clients have a moment at the end
        to take them and close.
        """
        self.request_s = REQUEST_S if request_s is None else request_s
        self._tls = tls
        self._lets_clients_close = lets_clients_close
        self._config = uvicorn.Config(
            app,
            http=H11Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=max(1, int(self.request_s)),
            h11_max_incomplete_event_size=_MAX_HEAD,
        )
        self._config.load()
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []
        self._connections: dict[_Connection, None] = {}

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Answer at these; they are closed by `close`."""
        loop = asyncio.get_running_loop()
        more: dict[str, Any] = {"ssl": self._tls}
        if self._tls is not None:
            more["ssl_handshake_timeout"] = self.request_s
        for each in sockets:
            if each.family == socket.AF_UNIX:
                self._servers.append(await loop.create_unix_server(self._connection, sock=each, **more))
            else:
                self._servers.append(await loop.create_server(self._connection, sock=each, **more))

    async def close(self) -> None:
        """Take no more connections; give answers that are on their way a moment; cut the rest."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=_LAST_ANSWERS_S)
        if not self._lets_clients_close:
            for connection in list(self._connections):
                connection.transport.close()
        deadline = asyncio.get_running_loop().time() + _LAST_ANSWERS_S
        while self._connections and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.cut()

    def _connection(self) -> _Connection:
        return _Connection(self, self._config, self._state)

    def admit(self, connection: _Connection) -> None:
        """Make room for a connection: the oldest gives way."""
        while len(self._connections) >= CONNECTIONS:
            oldest = next(iter(self._connections))
            self.leave(oldest)
            oldest.cut()
        self._connections[connection] = None

    def leave(self, connection: _Connection) -> None:
        self._connections.pop(connection, None)


class _Connection(H11Protocol):
    """One connection, with its time limit."""

    def __init__(self, owner: HttpServer, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config, state, {})
        self._owner = owner
        self._limit: asyncio.TimerHandle | None = None
        self._is_idle = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.client = _peer(transport) or self.client
        self._owner.admit(self)
        self._restart()

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.leave(self)
        if self._limit is not None:
            self._limit.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_idle:
            self._is_idle = False
            self._restart()
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._is_idle = True
        self._restart()
        super().on_response_complete()

    def _restart(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
        self._limit = self.loop.call_later(self._owner.request_s, self.cut)

    def cut(self) -> None:
        """End it at once."""
        self.transport.abort()


def _peer(transport: asyncio.BaseTransport) -> tuple[str, int] | None:
    """Return who is at the other end of a unix socket, as (`uid 1000`, process id); None where that is not told."""
    ours: Any = transport.get_extra_info("socket")
    if ours is None or ours.family != socket.AF_UNIX:
        return None
    with socket.socket(fileno=os.dup(ours.fileno())) as same:  # that of uvloop tells no options
        pid, uid, _ = _CREDENTIALS.unpack(same.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return f"uid {uid}", pid

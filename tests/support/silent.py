"""A server that takes connections, and never says a word: whoever wants TLS waits in its handshake."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Silent:
    """`began`: a client has sent its first bytes; `ended`: its connection is closed."""

    def __init__(self) -> None:
        self.began, self.ended = asyncio.Event(), asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            if await reader.read(1):
                self.began.set()
            while await reader.read(4096):
                pass
        writer.close()
        self.ended.set()


@contextlib.asynccontextmanager
async def silent() -> AsyncIterator[Silent]:
    """Listen at a port of this machine."""
    found = Silent()
    async with await asyncio.start_server(found.serve, "127.0.0.1", 0) as server:
        found.port = server.sockets[0].getsockname()[1]
        yield found

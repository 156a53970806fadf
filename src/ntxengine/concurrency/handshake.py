"""The end of a connection whose TLS handshake is cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class HandshakeGuard:
    """The `trace` of one request to httpcore: closes the connection if its TLS handshake is cancelled, which httpcore
    does only where it fails."""

    def __init__(self) -> None:
        self._stream: Any = None

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._stream = info["return_value"]
        elif event == "connection.start_tls.failed" and self._stream is not None:
            await self._stream.aclose()

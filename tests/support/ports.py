"""Ports for servers that have to be told one before they are started."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a port of 127.0.0.1 that the kernel gives to nobody else meanwhile: no server, no connection that goes out.

    It refuses connections until a server listens at it: one that sets SO_REUSEADDR, as all of ours do.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])

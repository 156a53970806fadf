"""Ports for servers that have to be told one before they are started."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def reserved_port(host: str = "127.0.0.1") -> Iterator[int]:
    """Yield a port that the kernel gives to nobody else meanwhile: no server, no connection that goes out.

    It refuses connections until a server listens at it: one that sets SO_REUSEADDR, as all of ours do.
    "::" reserves it for IPv4, too.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == "::":
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        held.bind((host, 0))
        yield int(held.getsockname()[1])

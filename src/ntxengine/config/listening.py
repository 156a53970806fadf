"""Where the agent listens for Prometheus: an address and a port, or the path of a unix socket.

An address, and no name: what is bound must be known without asking anybody, and so must be whether only this machine
reaches it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from ntxengine.errors import OptionsError

MAX_SOCKET_PATH = 107
"""Bytes of a path of a unix socket that the system takes (sun_path)."""

_MOST_PORT = 65535
_LOCALHOST = ("127.0.0.1", "::1")


@dataclass(frozen=True)
class TcpAddress:
    """`hosts` are addresses of this machine: of `localhost` two."""

    hosts: tuple[str, ...]
    port: int

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return all(_is_loopback(host) for host in self.hosts)


def parse_listen(text: str) -> TcpAddress | Path:
    """Return what `127.0.0.1:9108`, `[::1]:9108`, `localhost:9108` or `/run/ntx/metrics.sock` means.

    Errors: OptionsError.
    """
    if text.startswith("/"):
        return Path(text)
    host, _, port = text.rpartition(":")
    is_port = port.isascii() and port.isdigit() and 0 < int(port[:9]) <= _MOST_PORT
    if not host or not is_port:
        raise OptionsError(f"{text!r}: write ADDRESS:PORT, such as 127.0.0.1:9108, or the path of a unix socket")
    return TcpAddress(_hosts(host), int(port))


def _hosts(host: str) -> tuple[str, ...]:
    if host == "localhost":
        return _LOCALHOST
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise OptionsError(
            f"{host!r} is no address of this machine: write one such as 127.0.0.1 or [::1], 0.0.0.0 or [::] for all of "
            f"them, or localhost"
        ) from None
    if (address.version == 6) != (bare != host):
        raise OptionsError(f"{host!r}: write an IPv6 address, and no other, in brackets, such as [::1]:9108")
    return (bare,)


def _is_loopback(host: str) -> bool:
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback

"""How a connection to an NBD server is kept from others: TLS, or a tunnel through OpenSSH."""

from __future__ import annotations

from dataclasses import dataclass

from ntxengine.tunnel.options import SshOptions as SshOptions


@dataclass(frozen=True)
class TlsOptions:
    """What `nbds://` and `nbds+unix://` need."""


@dataclass(frozen=True)
class ConnectionOptions:
    """How to connect, to the source and to the target alike; what a location has no use for is not looked at.

    `ssh`: what `nbd+ssh://` needs; None is what ssh takes by itself.
    """

    tls: TlsOptions | None = None
    ssh: SshOptions | None = None


PLAIN = ConnectionOptions()
"""Neither."""

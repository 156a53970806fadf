"""How a connection to an NBD server is kept from others: TLS, or a tunnel through OpenSSH.

Only what to use; tls.py reads and checks the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ntxengine.errors import OptionsError
from ntxengine.tunnel.options import SshOptions as SshOptions


@dataclass(frozen=True)
class TlsOptions:
    """What `nbds://` and `nbds+unix://` need: `ca`, or `psk`.

    ca           who may have signed the server's certificate: certificates in PEM
    certificate  ours, for a server that asks for one, and the chain behind it; `key` is its private key
    host_name    what the server's certificate must be for, if not for the host in the URI
    psk          a key that both have, instead of certificates: lines of USER:KEY, the key in hexadecimal
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    psk: Path | None = None
    host_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) is not (self.key is None):
            raise OptionsError("a certificate of ours needs its key, and a key its certificate (--tls-cert, --tls-key)")
        if self.psk is None and self.ca is None:
            raise OptionsError(
                "whom to trust is not said: name the CA of the server (--tls-ca FILE), or a key that it has too "
                "(--tls-psk FILE)"
            )
        if self.psk is not None and (self.ca or self.certificate or self.host_name is not None):
            raise OptionsError(
                "a pre-shared key stands in for certificates: no CA, certificate or host name beside it (--tls-psk)"
            )


@dataclass(frozen=True)
class ConnectionOptions:
    """How to connect, to the source and to the target alike; what a location has no use for is not looked at.

    `ssh`: what `nbd+ssh://` needs; None is what ssh takes by itself.
    """

    tls: TlsOptions | None = None
    ssh: SshOptions | None = None


PLAIN = ConnectionOptions()
"""Neither."""

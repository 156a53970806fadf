"""Options of the connection to an NBD server, wherever a command takes the URI of one.

@connection_options   connection: ConnectionOptions    TLS and SSH
"""

from __future__ import annotations

import functools
from typing import Any

from ntxengine.cli.options import Function
from ntxengine.cli.ssh import ssh_options
from ntxengine.cli.tls import tls_options
from ntxengine.dataplane.security import ConnectionOptions, SshOptions, TlsOptions


def connection_options(function: Function) -> Function:
    """Add the options of TLS and of ssh; pass `connection`."""

    @tls_options
    @ssh_options
    @functools.wraps(function)
    def with_connection(*args: Any, tls: TlsOptions | None, ssh: SshOptions, **kwargs: Any) -> Any:
        return function(*args, connection=ConnectionOptions(tls=tls, ssh=ssh), **kwargs)

    return with_connection

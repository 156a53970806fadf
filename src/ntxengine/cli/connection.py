"""Options of the connection to an NBD server, wherever a command takes the URI of one.

@connection_options   connection: ConnectionOptions    TLS and SSH
"""

from __future__ import annotations

import functools
from typing import Any

from ntxengine.cli.options import Function
from ntxengine.cli.ssh import ssh_options
from ntxengine.dataplane.security import ConnectionOptions, SshOptions


def connection_options(function: Function) -> Function:
    """Add the options of ssh; pass `connection`."""

    @ssh_options
    @functools.wraps(function)
    def with_connection(*args: Any, ssh: SshOptions, **kwargs: Any) -> Any:
        return function(*args, connection=ConnectionOptions(ssh=ssh), **kwargs)

    return with_connection

"""Options of the connection to an NBD server, wherever a command takes the URI of one.

@connection_options   connection: ConnectionOptions    TLS and SSH
"""

from __future__ import annotations

import functools
from typing import Any

from ntxengine.cli.options import Function
from ntxengine.dataplane.security import ConnectionOptions


def connection_options(function: Function) -> Function:
    """Pass `connection`."""

    @functools.wraps(function)
    def with_connection(*args: Any, **kwargs: Any) -> Any:
        return function(*args, connection=ConnectionOptions(), **kwargs)

    return with_connection

"""Looking up the name of a host: a resolver that does not answer cannot be stopped, and must not stop us.

The loop's own look-up is in a thread that the end of the program waits for; so nobody hands it a name.
"""

from __future__ import annotations

import socket

from ntxengine.concurrency.completion import call_with_timeout


async def addresses_of(host: str, timeout_s: float) -> list[str]:
    """Return the numeric addresses of a host, the preferred one first, at least one.

    Errors: OSError (the name means nothing), TimeoutError; MachineError if there can be no thread.
    """
    name = host.encode()  # as bytes no codec of Python judges it
    found = await call_with_timeout(lambda: socket.getaddrinfo(name, None, type=socket.SOCK_STREAM), timeout_s)
    return list(dict.fromkeys(_numeric(address) for *_, address in found))


def _numeric(address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]) -> str:
    """Return the text of an address; one that is valid on one interface only says which."""
    text, scope = str(address[0]), address[3] if len(address) == 4 else 0
    return f"{text}%{scope}" if scope and "%" not in text else text

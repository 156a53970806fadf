"""A network namespace of its own for a test: ports below 1024, addresses that nobody answers at, no way out."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator

from tests.support.servers import require_root

SILENT = "10.9.9.9"
"""What is sent there is dropped."""

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Move this thread, and what it starts from now on, into a network namespace of its own: needs root.

    Sockets and threads that there are stay in the old one.
    """
    require_root("a network namespace")
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_LIBC.unshare(_CLONE_NEWNET))
        try:
            for command in (
                "ip link set lo up",
                "ip tuntap add dev silent mode tun",
                "ip addr add 10.9.9.1/24 dev silent",
                "ip link set silent up",
            ):
                subprocess.run(command.split(), check=True)
            yield
        finally:
            _check(_LIBC.setns(before, _CLONE_NEWNET))
    finally:
        os.close(before)


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))

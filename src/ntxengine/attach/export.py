"""A disk that qemu reads over the network for us, read-only, and gives us on a unix socket that only we can enter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ntxengine.dataplane.location import Location, parse
from ntxengine.dataplane.open import open_source
from ntxengine.dataplane.options import MOST_CONNECTIONS
from ntxengine.images.qemu_nbd import QemuNbd
from ntxengine.images.served import Served

START_TIMEOUT_S = 30.0
"""A server that is there answers at once; a target that hands us on to another does after seconds."""


@dataclass(frozen=True)
class Export:
    """Where a disk can be read, and how many bytes it has."""

    location: Location
    size: int


@asynccontextmanager
async def export_of(served: Served, *, timeout_s: float = START_TIMEOUT_S) -> AsyncIterator[Export]:
    """Let a qemu-nbd open it, and end that on exit.

    Errors: StartTimeout (whoever has it is silent), ToolError with what qemu says, NbdError.
    """
    server = QemuNbd(served, read_only=True, connections=MOST_CONNECTIONS, start_timeout_s=timeout_s)
    async with server:
        location = parse(server.uri)
        async with open_source(location, timeout_s=timeout_s) as device:
            size = device.size
        yield Export(location, size)

"""Connecting to an NBD server.  Whatever it is waiting for, a cancellation ends it at once.

name --look up (a thread that may be left behind)--> addresses --connect, one after the other (stopped)--> device
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence

from ntxengine._core.device import Device
from ntxengine._core.tls import Tls
from ntxengine.concurrency.completion import to_daemon_thread, to_thread_interrupted
from ntxengine.concurrency.names import addresses_of
from ntxengine.dataplane.location import Location
from ntxengine.dataplane.security import ConnectionOptions
from ntxengine.dataplane.tls import credentials
from ntxengine.errors import PlaceError, TransferTimeout

Place = bytes | tuple[bytes, bytes] | tuple[bytes, int, bytes]
"""The path of a unix socket; that, and what messages call the export; or a numeric address, a port, and what messages
call the host."""


async def connect(location: Location, *, write: bool, timeout_s: float, connection: ConnectionOptions) -> Device:
    """Connect to the export that `location`, of kind `nbd_unix` or `nbd_tcp`, names, as `connection` says.

    Of several addresses each gets an equal share of the time that is left: one may swallow what is sent to it.
    Errors: NbdError, TransferTimeout, PlaceError (nobody is there, or the host name means nothing), OptionsError (TLS).
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + timeout_s
    tls = await to_daemon_thread(credentials, location, connection.tls)
    places = await _places(location, timeout_s)
    for left in range(len(places), 0, -1):
        share_s = (deadline - clock()) / left
        try:
            return await open_places([places[-left]], location.export.encode(), write=write, timeout_s=share_s, tls=tls)
        except (PlaceError, TransferTimeout):
            if left == 1:
                raise
    raise AssertionError("a name without addresses is an error of its look-up")


async def open_places(
    places: Sequence[Place], export: bytes, *, write: bool, timeout_s: float, tls: Tls | None = None
) -> Device:
    """Connect to the export at the first place; each further connection of a job takes the next one.

    Errors: NbdError, TransferTimeout, PlaceError (nobody is there; ECONNREFUSED also where there is no socket).
    """
    stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    timeout_ms = max(1, int(timeout_s * 1000))
    try:
        return await to_thread_interrupted(
            lambda: Device.open_nbd(places, export, write=write, timeout_ms=timeout_ms, stop_fd=stop, tls=tls),
            interrupt=lambda: os.eventfd_write(stop, 1),
            give_back=Device.close,
        )
    except PlaceError as exc:
        if type(exc) is not PlaceError or exc.errno != errno.ENOENT:
            raise
        # That of a server that is being started again.  Of a file the code means another thing: it is gone.
        raise PlaceError(str(exc), errno=errno.ECONNREFUSED) from exc
    finally:
        os.close(stop)


async def _places(location: Location, timeout_s: float) -> list[Place]:
    if location.kind == "nbd_unix":
        return [os.fsencode(location.path)]
    failed = f"{location.text}: looking up the host failed"
    try:
        addresses = await addresses_of(location.host, timeout_s)
    except TimeoutError as exc:
        raise TransferTimeout(f"{failed}: no answer within {timeout_s:g} s") from exc
    except OSError as exc:
        raise PlaceError(f"{failed}: {exc.strerror}", errno=errno.EHOSTUNREACH) from exc
    return [(address.encode(), location.port, location.host.encode()) for address in addresses]

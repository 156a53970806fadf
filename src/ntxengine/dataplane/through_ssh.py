"""An NBD export behind an ssh server, as one device: each connection of it goes through an ssh of its own.

first ssh up --> connect, negotiate --> several connections are of use? --> the other ssh up --> device
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.connect import open_places
from ntxengine.dataplane.location import Location
from ntxengine.errors import (
    NbdNegotiationError,
    NbdReplyError,
    PlaceError,
    SourceError,
    TargetError,
    TransferTimeout,
)
from ntxengine.tunnel.options import SshOptions
from ntxengine.tunnel.several import Tunnels
from ntxengine.tunnel.words import Route

_REASON_S = 0.5
"""How long ssh may take to say why a connection ended: it learns of it when we do."""
_LABEL = 200  # bytes of a name that the core's messages have room for
_AS_WRITTEN = "".join(map(chr, range(0x21, 0x7F)))


@asynccontextmanager
async def open_through_ssh(
    location: Location, options: SshOptions, *, write: bool, timeout_s: float
) -> AsyncIterator[Device]:
    """Open the export that `location`, of kind `nbd_ssh`, names; its tunnels end with the block.

    An error of this export, also in the block, says what ssh says of it.
    Errors: those of Tunnels and of connect.
    """
    assert location.login is not None
    assert location.far is not None
    clock = asyncio.get_running_loop().time
    deadline = clock() + timeout_s
    label = quote(location.text, safe=_AS_WRITTEN)[:_LABEL]
    async with Tunnels(Route(label, location.login, location.far), options, timeout_s=timeout_s) as tunnels:
        places = [(os.fsencode(socket), label.encode()) for socket in tunnels.sockets]
        try:
            left_s = max(0.001, deadline - clock())
            device = await open_places(places, location.export.encode(), write=write, timeout_s=left_s)
            try:
                if device.can_multi_conn:
                    await tunnels.start_others()
                yield device
            finally:
                await to_thread_joined(device.close)
        except PlaceError as exc:
            if label not in str(exc) or isinstance(exc, NbdNegotiationError | NbdReplyError):
                raise
            found = await tunnels.complaint(within_s=0.0 if isinstance(exc, TransferTimeout) else _REASON_S)
            if found is None:
                raise
            is_sided = isinstance(exc, SourceError | TargetError | TransferTimeout)
            kind = type(exc) if is_sided else TargetError if write else SourceError
            raise kind(f"{exc}; {found.text}", offset=exc.offset, length=exc.length, errno=found.code) from exc

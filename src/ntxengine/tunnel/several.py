"""As many tunnels as there are connections, their sockets in a folder that only we can enter.

async with Tunnels(route, options, timeout_s=60) as tunnels:      one is up
    ... connect to tunnels.sockets[0] ...
    await tunnels.start_others()                                  if several connections are of use
"""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from types import TracebackType

from ntxengine.concurrency.completion import run_to_completion, to_thread_joined
from ntxengine.concurrency.parallel import map_limited
from ntxengine.errors import MachineError, PlaceError
from ntxengine.files.private import PrivateFolder
from ntxengine.tunnel.command import write_configuration
from ntxengine.tunnel.options import SshOptions
from ntxengine.tunnel.process import Tunnel
from ntxengine.tunnel.words import Complaint, Route

log = logging.getLogger(__name__)

_AT_ONCE = 4
"""Logins at a time: sshd begins to refuse at ten (MaxStartups), of all that log in."""
_PLAIN_FOLDER = re.compile(r"/[A-Za-z0-9._/@+=,-]+", re.ASCII)
POLL_S = 0.02


class Tunnels:
    """Tunnels by one route.  `sockets` are where they begin; only those that were started exist."""

    def __init__(self, route: Route, options: SshOptions, *, timeout_s: float) -> None:
        self._route = route
        self._options = options
        self._timeout_s = timeout_s
        self._folder: PrivateFolder | None = None
        self._tunnels: list[Tunnel] = []

    @property
    def sockets(self) -> list[Path]:
        """The sockets, one for each ssh that there may be."""
        return [tunnel.socket for tunnel in self._tunnels]

    @property
    def pids(self) -> list[int]:
        """The process ids of the ssh that were started."""
        return [tunnel.pid for tunnel in self._tunnels if tunnel.pid]

    async def __aenter__(self) -> Tunnels:
        """Start the first of them, and return when it has logged in.

        Errors: OptionsError (of a key that others can use, say), ToolError (ssh is missing), MachineError,
                TransferTimeout, PlaceError: ssh's own reason, and a remedy.
        """
        await to_thread_joined(self._options.check)
        try:
            await to_thread_joined(self._make_folder)
            await self._tunnels[0].start(self._timeout_s)
        except BaseException:
            await run_to_completion(self._close())
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all of them, and remove their sockets."""
        await run_to_completion(self._close())

    async def start_others(self) -> None:
        """Start the others too.  One that fails is left out, with a warning: there are fewer connections then."""
        await map_limited(self._tunnels[1:], self._start_another, at_once=_AT_ONCE)

    async def _start_another(self, tunnel: Tunnel) -> None:
        try:
            await tunnel.start(self._timeout_s)
        except PlaceError as error:
            log.warning("one tunnel fewer: %s", error)

    async def complaint(self, *, within_s: float) -> Complaint | None:
        """Return why a connection through them was lost, as far as ssh knows; waits for it to say so."""
        deadline = asyncio.get_running_loop().time() + within_s
        while True:
            for tunnel in self._tunnels:
                if found := tunnel.complaint:
                    return found
            if asyncio.get_running_loop().time() >= deadline:
                return None
            await asyncio.sleep(POLL_S)

    def _make_folder(self) -> None:
        self._folder = make_folder()
        configuration = write_configuration(self._folder.path, self._options)
        self._tunnels = [
            Tunnel(self._route, self._options, self._folder.path / f"{number}.sock", configuration)
            for number in range(self._options.processes)
        ]

    async def _close(self) -> None:
        try:
            await asyncio.gather(*(tunnel.close() for tunnel in self._tunnels))
        finally:
            if self._folder is not None:
                await to_thread_joined(self._folder.close)
                self._folder = None


def make_folder() -> PrivateFolder:
    """Make a folder whose name ssh takes as it is.  Errors: MachineError."""
    folder = PrivateFolder()
    if not _PLAIN_FOLDER.fullmatch(str(folder.path)):
        folder.close()
        raise MachineError(
            f"{folder.path}: ssh would read this name as another: set TMPDIR to a path of letters and digits"
        )
    return folder

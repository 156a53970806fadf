"""What the agent listens at: the socket that it is controlled by, and the one that Prometheus asks.

A reload that moves one opens the new one first: where that cannot be, nothing has changed.  Then the old one is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette

from ntxengine.agent.control import Controlled, control_app
from ntxengine.agent.exposition import WHAT, metrics_app
from ntxengine.agent.sockets import Access, Sockets, TcpSockets, UnixSocket
from ntxengine.config.listening import TcpAddress, parse_listen
from ntxengine.errors import NtxError, OptionsError
from ntxengine.files.secret_file import read_secret_file
from ntxengine.http_server import HttpServer


@dataclass(frozen=True)
class Places:
    """Where to listen: `socket` for control, None if nowhere; `metrics` as agent.metrics.listen has it, "" for none.

    `access` is who may connect to unix sockets; `token_file` has what Prometheus must send, None for nothing.
    Errors: OptionsError (metrics for everybody on the network without a token).
    """

    socket: Path | None = None
    access: Access = field(default_factory=Access)
    metrics: str = ""
    token_file: Path | None = None

    def __post_init__(self) -> None:
        address = parse_listen(self.metrics) if self.metrics else None
        if isinstance(address, TcpAddress) and not address.is_local and self.token_file is None:
            raise OptionsError(f"agent.metrics.listen {self.metrics}: give agent.metrics.token_file, or listen locally")


@dataclass
class _Listener:
    """One of the two.  `opened` is what is to be served, and `served` what is, with its server."""

    key: str
    app: Starlette
    name: str = ""
    opened: Sockets | None = None
    served: Sockets | None = None
    server: HttpServer | None = None


@dataclass(frozen=True)
class Change:
    """What a reload changes, opened and not used yet: names and sockets by key."""

    places: Places
    names: dict[str, str]
    opened: dict[str, Sockets | None]


class Listeners:
    """Both of them, of one agent."""

    def __init__(self, agent: Controlled, text: Callable[[], bytes]) -> None:
        """`text` gives the metrics."""
        self.places = Places()
        self._lock = asyncio.Lock()
        self._control = _Listener("agent.socket", control_app(agent))
        self._metrics = _Listener("agent.metrics.listen", metrics_app(text, lambda: self.places.token_file))

    def prepare(self, places: Places) -> Change:
        """Open what is not open yet.  Errors: OptionsError, LockedError, NtxError; nothing has changed then."""
        if places.metrics and places.token_file is not None:
            read_secret_file(places.token_file, WHAT)
        opened: dict[str, Sockets | None] = {}
        names = {self._control.key: str(places.socket or ""), self._metrics.key: places.metrics}
        try:
            for listener in (self._control, self._metrics):
                name = names[listener.key]
                if name != listener.name:
                    opened[listener.key] = _open(listener.key, name, places.access)
                elif places.access != self.places.access and isinstance(listener.opened, UnixSocket):
                    listener.opened.permit(places.access)
        except BaseException:
            for each in opened.values():
                _close(each)
            raise
        return Change(places, names, opened)

    def take(self, change: Change) -> None:
        """Go by a change from now on; `settle` serves what it opened."""
        self.places = change.places
        for listener in (self._control, self._metrics):
            if listener.key in change.opened:
                if listener.opened is not listener.served:
                    _close(listener.opened)  # of another change, and not served yet
                listener.opened = change.opened[listener.key]
                listener.name = change.names[listener.key]

    async def settle(self) -> None:
        """Serve what is open, and then close what it takes the place of."""
        async with self._lock:
            for listener in (self._control, self._metrics):
                before, server = listener.served, listener.server
                if listener.opened is before:
                    continue
                listener.served = listener.opened
                listener.server = None
                if listener.served is not None:
                    listener.server = HttpServer(listener.app)
                    await listener.server.start(listener.served.sockets)
                await _end(before, server)

    async def close(self) -> None:
        """Listen no more."""
        async with self._lock:
            for listener in (self._control, self._metrics):
                if listener.opened is not listener.served:
                    _close(listener.opened)
                await _end(listener.served, listener.server)
                listener.opened = listener.served = listener.server = None


def _open(key: str, name: str, access: Access) -> Sockets | None:
    if not name:
        return None
    place = parse_listen(name)
    opened = TcpSockets(place) if isinstance(place, TcpAddress) else UnixSocket(place, access)
    try:
        opened.open()
    except NtxError as exc:
        raise type(exc)(f"{key}: {exc}") from exc
    return opened


def _close(opened: Sockets | None) -> None:
    if opened is not None:
        opened.close()


async def _end(opened: Sockets | None, server: HttpServer | None) -> None:
    if server is not None:
        await server.close()
    _close(opened)

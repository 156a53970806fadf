"""How a control plane gets at the disks and the links: a port of ours each, or a socket that ssh makes there.

    PortAccess      qemu-nbd and the links listen on ports; TLS, and a certificate of the client
    TunnelAccess    they listen on sockets that only we can enter; an ssh for each carries it to a socket there

Nothing here is reached in any other way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from starlette.applications import Starlette

from ntxengine.attach import Attached
from ntxengine.concurrency.completion import acquire_in_thread, to_thread_joined
from ntxengine.dataplane.tls import read_pem
from ntxengine.errors import AttachError, NtxError, OptionsError
from ntxengine.export.links import serve_links
from ntxengine.export.options import PortOptions, ServerTls, TunnelOptions, Way
from ntxengine.files.private import PrivateFolder
from ntxengine.images.qemu_nbd import PortTaken, QemuNbd, TlsPort
from ntxengine.images.served import NbdExport, RawFile, Served
from ntxengine.tunnel.command import write_configuration
from ntxengine.tunnel.options import FarEnd
from ntxengine.tunnel.process import Tunnel
from ntxengine.tunnel.several import make_folder
from ntxengine.tunnel.words import Route

LOST_AFTER_S = 300.0
"""A way through ssh that is down for so long ends the export."""

_LOGIN_TIMEOUT_S = 60.0


class Watched(Protocol):
    """Whatever a control plane depends on, and may end before its time."""

    async def ended(self) -> NtxError:
        """Wait until it has, and return why."""
        ...


@dataclass(frozen=True)
class Place:
    """What a control plane can read at `uri`, for as long as all of `watched` is there."""

    uri: str
    watched: tuple[Watched, ...] = ()


class Access(ABC):
    """One way, for one export.  A context manager: what it makes is gone afterwards."""

    _folder: PrivateFolder | None = None

    async def __aenter__(self) -> Access:
        """Get ready.  Errors: OptionsError (a file is missing, wrong, or open to others), MachineError."""
        self._folder = await acquire_in_thread(make_folder, give_back=PrivateFolder.close)
        try:
            await to_thread_joined(self._fill, self._folder.path)
        except BaseException:
            self._folder.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Remove the folder.  What is served has ended."""
        if self._folder is not None:
            await to_thread_joined(self._folder.close)

    @property
    def _path(self) -> Path:
        assert self._folder is not None
        return self._folder.path

    @abstractmethod
    def _fill(self, folder: Path) -> None:
        """Check what it was told, and put into a folder of its own what it needs."""

    @abstractmethod
    def disk(self, served: Served, export: str, name: str) -> AbstractAsyncContextManager[Place]:
        """Serve a disk, read-only.  Errors: ToolError, NtxError (no port is free), as Tunnel.start."""

    @abstractmethod
    def links(self, app: Starlette, name: str) -> AbstractAsyncContextManager[Place]:
        """Serve the links; give what they begin with.  Errors: as `disk`."""


class PortAccess(Access):
    """See above."""

    def __init__(self, options: PortOptions, *, connections: int) -> None:
        self._options = options
        self._connections = connections
        self._ports: Iterator[int] = iter(range(options.ports[0], options.ports[1] + 1))
        self._tls: ssl.SSLContext | None = None

    def _fill(self, folder: Path) -> None:
        self._tls = _put_credentials(self._options.tls, folder)

    @property
    def _host(self) -> str:
        host = self._options.advertise
        return f"[{host}]" if ":" in host else host

    @asynccontextmanager
    async def disk(self, served: Served, export: str, name: str) -> AsyncIterator[Place]:
        async with AsyncExitStack() as stack:
            while True:
                port = self._next()
                # First by us: a qemu-nbd takes a tenth of a second to find out.
                try:
                    _listen(self._options.listen_at, port).close()
                    at = TlsPort(self._options.listen_at, port, self._path)
                    server = QemuNbd(served, read_only=True, connections=self._connections, export=export, port=at)
                    await stack.enter_async_context(server)
                    break
                except PortTaken:
                    continue
            yield Place(f"nbds://{self._host}:{port}/{quote(export, safe='')}", (server,))

    @asynccontextmanager
    async def links(self, app: Starlette, name: str) -> AsyncIterator[Place]:
        listening = None
        while listening is None:
            port = self._next()
            with contextlib.suppress(PortTaken):
                listening = _listen(self._options.listen_at, port)
        assert self._tls is not None
        with listening:
            async with serve_links(app, listening, tls=self._tls):
                yield Place(f"https://{self._host}:{port}")

    def _next(self) -> int:
        port = next(self._ports, None)
        if port is None:
            first, last = self._options.ports
            raise NtxError(
                f"--ports {first}-{last}: no port is free any more: all others are taken, by this export or by other "
                f"programs; give more of them"
            )
        return port


class TunnelAccess(Access):
    """See above."""

    def __init__(self, options: TunnelOptions, *, connections: int) -> None:
        self._options = options
        self._connections = connections
        self._configuration: Path | None = None

    def _fill(self, folder: Path) -> None:
        options = self._options.gateway.options
        options.check()
        self._configuration = write_configuration(folder, options)

    @asynccontextmanager
    async def disk(self, served: Served, export: str, name: str) -> AsyncIterator[Place]:
        server = QemuNbd(served, read_only=True, connections=self._connections, export=export)
        async with server, self._carried(server, name) as (there, tunnel):
            yield Place(f"nbd+unix:///{quote(export, safe='')}?socket={quote(there)}", (server, tunnel))

    @asynccontextmanager
    async def links(self, app: Starlette, name: str) -> AsyncIterator[Place]:
        path = self._path / "links.sock"
        # The server ends first: its last answer, to "done", is still to be carried.
        with socket.socket(socket.AF_UNIX) as listening:
            try:
                listening.bind(str(path))
                listening.listen()
            except OSError as exc:
                raise NtxError(f"{path}: cannot listen there: {exc.strerror or exc}") from exc
            async with self._carried(path, name) as (there, tunnel), serve_links(app, listening, tls=None):
                yield Place(f"http+unix://{quote(there, safe='')}", (tunnel,))

    @asynccontextmanager
    async def _carried(self, what: QemuNbd | Path, name: str) -> AsyncIterator[tuple[str, Tunnel]]:
        """Carry a socket of ours there; give its path there."""
        socket_here = what if isinstance(what, Path) else what.socket_path
        gateway = self._options.gateway
        there = self._options.socket(name)
        route = Route(f"{there} at {gateway.login}", gateway.login, FarEnd(path=there))
        tunnel = Tunnel(
            route, gateway.options, socket_here, self._configuration, is_reversed=True, lost_after_s=LOST_AFTER_S
        )
        await tunnel.start(_LOGIN_TIMEOUT_S)
        try:
            yield there, tunnel
        finally:
            await tunnel.close()


def served_of(attached: Attached) -> Served:
    """Return what a qemu-nbd opens for what was attached.  Raw, whatever its first bytes say."""
    location = attached.location
    match location.kind:
        case "file":
            return RawFile(Path(location.path))
        case "nbd_unix":
            return NbdExport(Path(location.path), location.export)
    raise AttachError(f"{location.text}: cannot be served to others: it is neither a file nor a socket of this machine")


def access_of(way: Way, *, connections: int) -> Access:
    """Return how a control plane gets at the disks; `connections` to each."""
    kind = PortAccess if isinstance(way, PortOptions) else TunnelAccess
    return kind(way, connections=connections)  # type: ignore[arg-type]  # each to its own


def _listen(address: str, port: int) -> socket.socket:
    """Listen.  Errors: PortTaken; NtxError (the address is none of this machine, or the port is for root alone)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=128)
    except OSError as exc:
        where = f"{address} port {port}"
        if exc.errno == errno.EADDRINUSE:
            raise PortTaken(f"{where}: is taken by another program") from exc
        raise NtxError(f"--ports: cannot listen at {where}: {exc.strerror or exc}") from exc


def _put_credentials(tls: ServerTls, folder: Path) -> ssl.SSLContext:
    """Put the files where qemu-nbd looks for them; return what the server of the links shows and wants.

    Errors: OptionsError: one is missing, wrong, or open to others.
    """
    files = {
        "ca-cert.pem": read_pem(tls.ca),
        "server-cert.pem": read_pem(tls.certificate),
        "server-key.pem": read_pem(tls.key, is_secret=True),
    }
    for name, (_, content) in files.items():
        with open(folder / name, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(folder / "ca-cert.pem")
    except (ssl.SSLError, OSError) as exc:
        raise OptionsError(f"--tls-ca {tls.ca}: has no certificate in PEM: {exc}") from exc
    try:
        context.load_cert_chain(folder / "server-cert.pem", folder / "server-key.pem", password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as exc:
        raise OptionsError(
            f"--tls-cert {tls.certificate}, --tls-key {tls.key}: are not a certificate and its key, without a "
            f"passphrase, in PEM: {exc}"
        ) from exc
    context.verify_mode = ssl.CERT_REQUIRED
    return context

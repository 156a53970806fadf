"""The simulator as a whole: TLS endpoints in front of simulated clusters.

async with Simulator(config, state_dir) as sim:      in the running event loop
with run_in_thread(config, state_dir) as sim:        in a thread of its own
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shlex
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from ntxengine.errors import OptionsError
from ntxengine.sim import made_groups, tls, v2, v2_groups, v3, v4, v4_clusters, v4_content, v4_vm_points, v4_volumes
from ntxengine.sim.auth import Credentials, Tokens
from ntxengine.sim.clusters import Cluster
from ntxengine.sim.config import SimConfig
from ntxengine.sim.faults import Faults
from ntxengine.sim.faults.certificates import spec_of
from ntxengine.sim.front import EndpointName, Front, LoggedRequest, Route
from ntxengine.sim.nfs import NfsContainer, NfsServer
from ntxengine.sim.world import World

DEFAULT_PORT = 9440
_LOG_SIZE = 100_000
_PORT_TRIES = 50

_LAST_ANSWERS_S = 1
"""How long the end waits for requests that are being answered."""


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to the program it runs in, and tells when it answers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers, self.is_over = asyncio.Event(), asyncio.Event()

    async def serve_on(self, listening: socket.socket) -> None:
        try:
            await self.serve([listening])
        finally:
            self.answers.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    async def main_loop(self) -> None:
        # uvicorn's looks ten times a second whether it is over.
        await self.on_tick(0)
        await self.is_over.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn's waits for the TLS farewell of each client, and a tenth of a second where there is none.
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        for connection in self.server_state.connections.copy():
            if (transport := getattr(connection, "transport", None)) is not None:
                transport.abort()
        if self.server_state.tasks:
            _, unanswered = await asyncio.wait(self.server_state.tasks, timeout=_LAST_ANSWERS_S)
            for task in unanswered:
                task.cancel()
        for server in self.servers:
            await server.wait_closed()


class Simulator:
    """Prism Central and Prism Elements on real disk files, below `state_dir`.

    Usable once entered.  `requests` lists what was answered; `faults` may be changed at any time; `disk_lock` keeps
    recovery points from freezing while a test writes to several disks.
    """

    def __init__(
        self, config: SimConfig, state_dir: Path | str, port: int = 0, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.config = config
        self.state_dir = Path(state_dir).absolute()
        self.port = port
        self.requests: deque[LoggedRequest] = deque(maxlen=_LOG_SIZE)
        self._clock = clock
        self._stack = contextlib.AsyncExitStack()
        self._world: World | None = None
        self._password = ""
        self._fronts: dict[EndpointName, Front] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    # -- what callers need to know

    @property
    def world(self) -> World:
        """The simulated cluster."""
        assert self._world is not None, "the simulator was not started"
        return self._world

    @property
    def central_url(self) -> str:
        """Prism Central: v4, and the inventory of v3."""
        return f"https://{self.config.central_host}:{self.port}"

    @property
    def element_url(self) -> str:
        """Prism Element: v2, v3, and the one call of v4 that runs there."""
        return f"https://{self.config.element_host}:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The certificate authority that both endpoints are signed by."""
        return self.state_dir / "tls" / "ca.pem"

    @property
    def username(self) -> str:
        """The account of both endpoints."""
        return self.config.username

    @property
    def password(self) -> str:
        """Its password; Prism Element may have another (`element_password`)."""
        return self._password

    @property
    def element_password(self) -> str:
        """The password of the account on Prism Element."""
        return self.config.element_password or self._password

    @property
    def faults(self) -> Faults:
        """What goes wrong on purpose."""
        return self.config.faults

    def front(self, name: EndpointName) -> Front:
        """Prism Central, or the Prism Element of the first cluster."""
        return self._fronts[name]

    @property
    def disk_lock(self) -> threading.Lock:
        """Held while disks are frozen."""
        return self.world.disk_lock

    @property
    def worker_id(self) -> str | None:
        """The VM that disks are hot-added to."""
        worker = self.world.worker
        return worker.id if worker else None

    @property
    def env(self) -> dict[str, str]:
        """The environment that lets `ntx` use this simulator."""
        values = {
            "NTX_PRISM": self.central_url if "v4" in self.config.families else self.element_url,
            "NTX_PRISM_ELEMENT": self.element_url,
            "NTX_USERNAME": self.username,
            "NTX_PASSWORD_FILE": str(self.state_dir / "password"),
            "NTX_CA_FILE": str(self.ca_file),
            "NTX_DEVICE_DIR": str(self.world.layout.devices),
            "NTX_CONTAINERS": str(self.world.layout.containers),
        }
        if self.worker_id is not None:
            values["NTX_WORKER"] = self.worker_id
        return values

    def vm_id(self, name: str) -> str:
        """Return the uuid of the first VM of this name; KeyError if there is none."""
        for vm in self.world.vms.values():
            if vm.name == name:
                return vm.id
        raise KeyError(name)

    def frozen_path(self, disk_point: str) -> Path:
        """Return the frozen bytes of a disk recovery point (its v4 id, or its v3 snapshot path)."""
        found = self.world.find_frozen(disk_point)
        file = found[2] if found else self.world.find_snapshot_path(disk_point)
        if file is None:
            raise KeyError(disk_point)
        return self.world.frozen_file(file)

    def lose_recovery_points(self) -> int:
        """Delete every recovery point behind the back of its owner, from any thread; return how many there were."""
        if threading.get_ident() == self._thread:
            return self._lose()
        assert self._loop is not None, "the simulator was not started"
        return asyncio.run_coroutine_threadsafe(self._lose_there(), self._loop).result()

    async def _lose_there(self) -> int:
        return self._lose()

    def _lose(self) -> int:
        points = list(self.world.state.points.values())
        for point in points:
            self.world.drop(point)
        return len(points)

    # -- life

    async def __aenter__(self) -> Simulator:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        hosts = [self.config.central_host, *(one.element_host for one in self.config.all_clusters())]
        sockets = _bind(hosts, self.port)
        for listening in sockets:
            self._stack.callback(listening.close)
        self.port = sockets[0].getsockname()[1]
        self._world = World(self.config, self.state_dir, self._clock)
        self._stack.push_async_callback(self._world.target.stop)
        self._stack.push_async_callback(self._world.tasks.close)
        await self._world.target.listen()
        await self._serve_containers()
        await made_groups.serve_again(self._world)
        self._password = self.config.password or _stored_password(self.state_dir / "password")
        tls.write_private(self.state_dir / "password", self._password.encode())
        self._write_env()
        tokens = Tokens(self._clock)
        fronts = {"central": self._front(tokens)}
        for number, cluster in enumerate(self.world.clusters, 1):
            fronts["element" if number == 1 else f"element-{number}"] = self._front(tokens, cluster)
        self._fronts = {"central": fronts["central"], "element": fronts["element"]}
        names = sorted({*hosts, "127.0.0.1", "127.0.0.2", "localhost"})
        kinds = {name: self.faults.certificates.get(name.partition("-")[0], "") for name in fronts}
        files = tls.make(self.state_dir / "tls", {name: spec_of(kind, names) for name, kind in kinds.items()})
        servers = map(_server, fronts.values(), files.servers)
        await self._stack.enter_async_context(_serving(dict(zip(sockets, servers, strict=True))))

    async def _serve_containers(self) -> None:
        """Serve them over NFS, if that is asked for."""
        if not self.config.nfs:
            return
        server = NfsServer(self.state_dir / "nfs")
        self._stack.push_async_callback(server.stop)
        folder = self.world.layout.containers
        everybody = self.config.nfs_allowed
        await server.start(
            [
                NfsContainer(one.name, folder / one.name, everybody if one.nfs_allowed is None else one.nfs_allowed)
                for one in self.config.containers
            ]
        )

    def _front(self, tokens: Tokens, cluster: Cluster | None = None) -> Front:
        """Return the Prism Element of a cluster, Prism Central without one."""
        is_central = cluster is None
        routes: list[Route] = []
        if "v3" in self.config.families:
            routes += v3.routes(is_central=is_central)
            routes += [] if is_central else [*v2.routes(), *v2_groups.routes()]
        if "v4" in self.config.families:
            if is_central:
                parts = (v4, v4_vm_points, v4_clusters, v4_volumes)
                routes += [found for part in parts for found in part.routes()] + v4_content.central_routes(tokens)
            else:
                routes += v4_content.element_routes(tokens)
        password = self._password if is_central else self.element_password
        return Front(self.world, Credentials(self.username, password), routes, self.requests, cluster)

    def _write_env(self) -> None:
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in self.env.items()]
        tls.write_private(self.state_dir / "connect.env", "".join(lines).encode())


def _stored_password(path: Path) -> str:
    """Return the password of an earlier start, or a new one."""
    with contextlib.suppress(FileNotFoundError):
        if stored := path.read_text(encoding="utf-8").strip():
            return stored
    return secrets.token_urlsafe(18)


def _bind(hosts: list[str], port: int) -> list[socket.socket]:
    """Listen on the same port of all hosts; port 0 means any that is free on all of them.

    Errors: OptionsError if the port is taken, or an address is not ours.
    """
    problem: OSError | None = None
    for _ in range(_PORT_TRIES if port == 0 else 1):
        sockets: list[socket.socket] = []
        wanted = port
        try:
            for host in hosts:
                # asyncio sends at once, without Nagle's 40 ms, only where the protocol is named.
                listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
                sockets.append(listening)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind((host, wanted))
                listening.listen(256)
                wanted = listening.getsockname()[1]
        except OSError as exc:
            problem = exc
            for listening in sockets:
                listening.close()
            continue
        return sockets
    where = " and ".join(f"{host}:{port}" for host in hosts)
    cause = problem.strerror if problem else "unknown"
    raise OptionsError(
        f"simulator: cannot listen on {where}: {cause}: choose another port, or stop what uses it"
    ) from problem


def _server(app: ASGIApp, certificate: Path) -> _Server:
    config = uvicorn.Config(
        app,
        ssl_certfile=certificate,
        ssl_keyfile=certificate,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        date_header=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
    )
    return _Server(config)


@contextlib.asynccontextmanager
async def _serving(servers: Mapping[socket.socket, _Server]) -> AsyncIterator[None]:
    """Run each on its socket; all end at once."""
    running = [asyncio.create_task(server.serve_on(listening)) for listening, server in servers.items()]
    try:
        for server in servers.values():
            await server.answers.wait()
        yield
    finally:
        for server in servers.values():
            server.is_over.set()
        await asyncio.gather(*running)


@contextlib.contextmanager
def run_in_thread(
    config: SimConfig, state_dir: Path | str, port: int = 0, *, clock: Callable[[], float] = time.time
) -> Iterator[Simulator]:
    """Run a simulator in a thread with an event loop of its own; yield it once it answers."""
    sim = Simulator(config, state_dir, port, clock=clock)
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def live() -> None:
        async with sim:
            ready.set()
            await stop.wait()
        await asyncio.get_running_loop().shutdown_default_executor()

    def work() -> None:
        try:
            loop.run_until_complete(live())
        finally:
            loop.close()

    with ThreadPoolExecutor(1, thread_name_prefix="ntx-sim") as pool:
        running = pool.submit(work)
        running.add_done_callback(lambda _future: ready.set())
        ready.wait()
        try:
            if not running.done():
                yield sim
        finally:
            if not running.done():
                loop.call_soon_threadsafe(stop.set)
            running.result()

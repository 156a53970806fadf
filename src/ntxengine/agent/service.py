"""The process: its state folder, its signals, what systemd is told; around the scheduler.

| Signal          | What it does                                                                        |
|-----------------|-------------------------------------------------------------------------------------|
| SIGTERM, SIGINT | drain: begin nothing more, wait, cancel what is not done in time, end                |
| a second one    | cancel at once what still runs, and end; what was copied is gone on with             |
| SIGHUP          | read the configuration anew; where that fails, say so, and go on with the old one    |
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ntxengine import __version__
from ntxengine.agent import memory
from ntxengine.agent.clock import Clock
from ntxengine.agent.connection import Connection
from ntxengine.agent.jobs import Setup
from ntxengine.agent.listening import Change, Listeners, Places
from ntxengine.agent.metrics import Metrics
from ntxengine.agent.notify import Notifier
from ntxengine.agent.pings import Pinger
from ntxengine.agent.records import Run
from ntxengine.agent.scheduler import Scheduler
from ntxengine.agent.space import DEFAULT_LIMIT, asking
from ntxengine.agent.state import State
from ntxengine.agent.sweeping import sweep_after_start
from ntxengine.agent.telling import Telling
from ntxengine.agent.traces import open_traces
from ntxengine.agent.watch import Watch
from ntxengine.agent.work import Work
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.dataplane.timetable import parse_timetable
from ntxengine.errors import LockedError, NtxError
from ntxengine.files.durable import make_folder
from ntxengine.files.lock_file import LockFile

log = logging.getLogger(__name__)

LOCK = "agent.lock"
DRAIN_S = 120.0
SWEEP_AFTER_S = 5.0
"""What a killed agent left to be gone on with begins first: it cleans up after itself, and its VMs are not swept."""
PINGS_S = 5.0
"""How long pings that are on their way have at the end."""
STATUS_INTERVAL_S = 30.0


@dataclass(frozen=True)
class Built:
    """What a configuration means: the setup, the connection that it uses, and the work of each job.

    `bandwidth` is the limit of all runs, and `rate` what the configuration says of it; `places` where to listen.
    `recovery_point_limit` is the share of a storage container that our recovery points may hold, 0..1.
    """

    setup: Setup
    connection: Connection
    works: dict[str, Work] = field(default_factory=dict)
    bandwidth: Bandwidth | None = None
    rate: str = "off"
    recovery_point_limit: float = DEFAULT_LIMIT
    places: Places = field(default_factory=Places)


Build = Callable[[State], Built]
"""Reads the configuration; in a thread, after the start.  Errors: NtxError, in one line."""


class Service:
    """An agent, from its start to its end."""

    def __init__(
        self,
        folder: Path,
        build: Build,
        *,
        drain_s: float = DRAIN_S,
        clock: Clock | None = None,
        notifier: Notifier | None = None,
        on_run: Callable[[Run], None] = lambda run: None,
    ) -> None:
        """`folder` is where it remembers; `drain_s`, how long runs have to end when it is told to stop."""
        self.folder = folder
        self._build = build
        self._drain_s = drain_s
        self.clock = clock or Clock()
        self._notifier = notifier or Notifier()
        self._on_run = on_run
        self._built: Built
        self._tasks: set[asyncio.Task[None]] = set()
        self._rereading = asyncio.Lock()
        self._has_worked = False
        self.started_at = datetime.now(UTC)
        self.state: State
        self.scheduler: Scheduler
        self.watch: Watch
        self.metrics: Metrics
        self._listeners: Listeners

    async def run(self) -> None:
        """Serve until a signal ends it.  Errors: LockedError (another agent uses the folder); as State and `build`."""
        make_folder(self.folder)
        lock = LockFile(self.folder / LOCK, f"the state folder {self.folder}")
        try:
            lock.acquire()
        except LockedError as exc:
            raise LockedError(f"{exc}, or give this agent a state folder of its own") from exc
        try:
            self.state = State(self.folder, clock=self.clock.now)
            try:
                await self._serve()
            finally:
                self.state.close()
        finally:
            lock.release()

    async def _serve(self) -> None:
        self._built = self._build(self.state)
        self.started_at = self.clock.now().astimezone(UTC).replace(microsecond=0)
        self.metrics = Metrics(self.state, __version__)
        pinger, traces = Pinger(), open_traces(__version__)
        self.scheduler = Scheduler(
            self.state, self._built.setup, clock=self.clock, telling=Telling(pinger, traces), on_run=self._tell_run
        )
        self.watch = Watch(self.scheduler, self.state, self.clock)
        self.watch.space.limit = self._built.recovery_point_limit
        self.watch.replicas.works = self._built.works
        self.metrics.scheduler, self.metrics.watch = self.scheduler, self.watch
        self._listeners = Listeners(self, self.metrics.text)
        self._listeners.take(self._listeners.prepare(self._built.places))
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self.stop, signal.SIGINT: self.stop, signal.SIGHUP: self.reload}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            await self._listeners.settle()
            self._start(self._sweep(), "sweep")
            self._start(self._keep_telling(), "tell systemd")
            self._start(self._keep_memory_small(), "give back memory")
            self._start(self.watch.keep_looking(), "watch")
            self._start(self.watch.keep_reading(), "read how replicas are")
            self._start(self.watch.keep_asking(asking(lambda: self._built.connection)), "ask what recovery points hold")
            self._notifier.ready()
            log.info("serving %d jobs; state in %s", len(self._built.setup.jobs), self.folder)
            await self.scheduler.run()
        finally:
            await self._listeners.close()
            for number in handlers:
                loop.remove_signal_handler(number)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await pinger.aclose(limit_s=PINGS_S)
            if traces is not None:
                await traces.aclose()
            await self._built.connection.aclose()

    async def _sweep(self) -> None:
        await self.clock.wait(asyncio.Event(), SWEEP_AFTER_S)
        await sweep_after_start(self._works, self.state)

    def _works(self) -> tuple[Connection, Iterable[Work]]:
        return self._built.connection, self._built.works.values()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a defect of ntx: %s ended: %s", task.get_name(), error, exc_info=error)

    def stop(self) -> None:
        """Drain; told a second time, cancel what runs at once."""
        is_again = self.scheduler.is_draining
        running = len(self.scheduler.running)
        if not is_again:
            self._notifier.stopping()
        log.warning(
            "stopping: %d runs %s",
            running,
            "are cancelled now, and gone on with at the next start" if is_again else f"have {self._drain_s:g} s to end",
        )
        self.scheduler.drain(0.0 if is_again else self._drain_s)

    def _tell_run(self, run: Run) -> None:
        self._has_worked |= run.ended_at is not None
        self.metrics.on_run(run)
        self._on_run(run)

    def reload(self) -> None:
        """Read the configuration anew, beside all else.  A bad one is said, and changes nothing."""
        if not self.scheduler.is_draining:
            self._start(self._reload(), "read the configuration anew")

    async def _reload(self) -> None:
        try:
            await self.reread()
        except (NtxError, OSError) as error:
            log.error("the configuration cannot be used, and the one before holds: %s", " ".join(str(error).split()))

    async def reread(self) -> int:
        """The same, for whoever wants to know: return how many jobs there are now.  Errors: NtxError, OSError."""
        async with self._rereading:
            self._check_serving()
            self._notifier.reloading()
            try:
                # In a thread: to read a thousand jobs takes seconds, and everything else goes on.
                built = await to_thread_joined(self._build, self.state)
                self._check_serving()
                change = self._listeners.prepare(built.places)
            finally:
                if not self.scheduler.is_draining:
                    self._notifier.ready()
            return self._use(built, change)

    def _check_serving(self) -> None:
        if self.scheduler.is_draining:
            raise LockedError("the agent is stopping, and reads nothing anew")

    def _use(self, built: Built, change: Change) -> int:
        """Go by another configuration; return how many jobs it has."""
        before, self._built = self._built, built
        self._listeners.take(change)
        self.watch.space.limit = built.recovery_point_limit
        self.watch.replicas.works = built.works
        self._start(self._listeners.settle(), "listen at other places")
        for each in (before, built):  # what a person said of the bandwidth is over
            if each.bandwidth is not None:
                each.bandwidth.change(each.rate)
        self.scheduler.apply(built.setup)
        if before.connection is not built.connection:
            self._start(before.connection.aclose(), "close the old connection")
        log.warning("the configuration was read anew: %d jobs", len(built.setup.jobs))
        return len(built.setup.jobs)

    @property
    def bandwidth(self) -> tuple[Bandwidth, str] | None:
        """The limit of all runs, and what the configuration says of it."""
        built = self._built
        return None if built.bandwidth is None else (built.bandwidth, str(parse_timetable(built.rate)))

    async def _keep_telling(self) -> None:
        """Tell systemd that the loop is alive, and what it does."""
        interval_s = min(self._notifier.watchdog_s / 2 or STATUS_INTERVAL_S, STATUS_INTERVAL_S)
        while True:
            self._notifier.alive()
            running, waiting = len(self.scheduler.running), len(self.scheduler.waiting)
            held = "".join(f"; {scope} is held" for scope in self.scheduler.holds.all)
            self._notifier.status(f"{running} runs, {waiting} wait{held}")
            await asyncio.sleep(interval_s)

    async def _keep_memory_small(self) -> None:
        """Give back what runs leave free."""
        while True:
            await self.clock.wait(asyncio.Event(), memory.INTERVAL_S)
            if self._has_worked:
                self._has_worked = False
                await to_thread_joined(memory.give_back)

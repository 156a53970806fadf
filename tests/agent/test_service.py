"""The process of the agent: one to a state folder, signals, what systemd is told, what a killed one left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ntxengine.agent.capturing import CaptureJob
from ntxengine.agent.connection import Connection
from ntxengine.agent.inventory import Choice, PrismInventory
from ntxengine.agent.jobs import Setup
from ntxengine.agent.notify import Notifier
from ntxengine.agent.records import RunState
from ntxengine.agent.runner import WorkRunner
from ntxengine.agent.service import Built, Service
from ntxengine.agent.state import State
from ntxengine.attach import AttachOptions
from ntxengine.errors import LockedError, OptionsError, PrismConnectionError
from ntxengine.prism import Cluster, Endpoint, Secret
from ntxengine.prism.open import open_cluster
from ntxengine.sim import Simulator
from tests.agent.acting import Acting, Listed, job
from tests.agent.killed import describe
from tests.agent.lab import JOB
from tests.capture.lab import eager_clock

LIMIT_S = 120.0


async def nowhere() -> Cluster:
    raise PrismConnectionError("nobody is there")


def built(*, runner: Acting | None = None, name: str = "hourly") -> Built:
    setup = Setup((job(name, every=timedelta(days=300)),), Listed(**{name: ["a"]}), runner or Acting())
    return Built(setup, Connection(nowhere))


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not is_so():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(folder: Path, build: Callable[[State], Built], **more: Any) -> AsyncIterator[Service]:
    service = Service(folder, build, **more)
    task = asyncio.ensure_future(service.run())
    try:
        await until(lambda: task.done() or (hasattr(service, "scheduler") and service.scheduler.listing.is_known))
        if not task.done():
            yield service
    finally:
        if not task.done() and hasattr(service, "scheduler"):
            service.stop()
            service.stop()
        await task


async def test_two_agents_do_not_share_a_state_folder(tmp_path: Path) -> None:
    async with serving(tmp_path, lambda state: built()):
        with pytest.raises(LockedError, match=r"another process works with it: .* or give this agent a state folder"):
            await Service(tmp_path, lambda state: built()).run()
    async with serving(tmp_path, lambda state: built()):
        pass


async def test_a_signal_drains_and_a_second_one_cancels_what_runs(tmp_path: Path) -> None:
    runner = Acting(takes_s=1000)
    async with serving(tmp_path, lambda state: built(runner=runner), drain_s=1000) as service:
        service.scheduler.ask("a")
        await until(lambda: runner.at_once)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: service.scheduler.is_draining)
        assert runner.at_once
        os.kill(os.getpid(), signal.SIGINT)
        await until(lambda: not runner.at_once)

    state = State(tmp_path)
    assert [run.state for run in state.runs()] == [RunState.INTERRUPTED]
    state.close()


async def test_a_hang_up_reads_the_configuration_anew_and_a_bad_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = [built()]

    def build(state: State) -> Built:
        if not found:
            raise OptionsError("agent.yaml line 3: jobs: evry: no such key, is `every` meant?")
        return found.pop()

    async with serving(tmp_path, build) as service:
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: "the one before holds: agent.yaml line 3" in caplog.text)
        service.scheduler.ask("a", "hourly")

        found.append(built(name="other"))
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: service.scheduler.listing.vms("other"))
        service.scheduler.ask("a", "other")


async def test_everything_goes_on_while_a_large_configuration_is_read(tmp_path: Path) -> None:
    is_read = threading.Event()
    found = [built(), built(name="other")]

    def build(state: State) -> Built:
        if len(found) == 1:
            assert is_read.wait(LIMIT_S), "the event loop waited for us"
        return found.pop(0)

    async with serving(tmp_path / "state", build) as service:
        service.reload()
        service.scheduler.ask("a")
        await until(lambda: service.scheduler.running)
        is_read.set()
        await until(lambda: service.scheduler.jobs == ["other"])


async def test_what_is_read_while_the_agent_stops_is_not_used(tmp_path: Path) -> None:
    is_read = threading.Event()
    found = [built(), built(name="other")]

    def build(state: State) -> Built:
        if len(found) == 1:
            is_read.wait(LIMIT_S)
        return found.pop(0)

    async with serving(tmp_path / "state", build) as service:
        reading = asyncio.create_task(service.reread())
        await until(service._rereading.locked)
        await asyncio.sleep(0)
        service.stop()
        is_read.set()
        with pytest.raises(LockedError, match="is stopping"):
            await reading
        assert service.scheduler.jobs == ["hourly"]


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


async def test_systemd_is_told_that_it_is_ready_alive_and_stopping(tmp_path: Path, systemd: socket.socket) -> None:
    told: list[str] = []
    asyncio.get_running_loop().add_reader(systemd, lambda: told.append(systemd.recv(1000).decode()))
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "100000"})
    async with serving(tmp_path / "state", lambda state: built(), notifier=notifier) as service:
        await until(lambda: told.count("WATCHDOG=1") >= 3)
        await service.reread()
    await until(lambda: "STOPPING=1" in told)
    asyncio.get_running_loop().remove_reader(systemd)

    assert told[0] == "READY=1"
    assert "STATUS=0 runs, 0 wait" in told
    assert [each.partition("=")[0] for each in told if "ING" in each] == ["RELOADING", "STOPPING"]
    assert Notifier({"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}).watchdog_s == 0
    Notifier({"NOTIFY_SOCKET": "/nowhere"}).ready()


async def test_what_a_killed_agent_left_attached_is_removed_at_the_next_start(
    simulator: Simulator, tmp_path: Path
) -> None:
    main = "from tests.agent.killed import main; main()"
    with open(tmp_path / "log", "wb") as log:
        command = [sys.executable, "-c", main, str(tmp_path), describe(simulator), "0"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        await until(lambda: simulator.world.state.clones)
    finally:
        process.kill()
        process.wait()
    assert simulator.world.state.clones

    async def connect() -> Cluster:
        url, password = simulator.central_url, Secret(simulator.password)
        endpoint = Endpoint(url, simulator.username, password, ca_file=str(simulator.ca_file))
        return await open_cluster(endpoint, None, clock=eager_clock())

    def build(state: State) -> Built:
        connection = Connection(connect)
        attach = AttachOptions(simulator.worker_id or "", simulator.world.layout.devices)
        captures = {JOB: CaptureJob(tmp_path / "repository", attach=attach)}
        inventory = PrismInventory(connection, {JOB: Choice(("no such VM",))})
        runner = WorkRunner(connection, captures, state)
        return Built(Setup((job(JOB, every=timedelta(days=300)),), inventory, runner), connection, captures)

    async with serving(tmp_path / "state", build):
        await until(lambda: not simulator.world.state.clones)

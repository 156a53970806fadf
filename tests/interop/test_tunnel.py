"""Copies through a real sshd: each connection by an ssh of its own, and nothing left however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from ntxengine._core.device import Device
from ntxengine.dataplane import checkpoints as due
from ntxengine.dataplane.checkpoints import Checkpoints
from ntxengine.dataplane.copy import CopyOptions, CopyReport, copy
from ntxengine.dataplane.extents import Extents, make, whole
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.dataplane.retry import Patience, retrying
from ntxengine.dataplane.security import ConnectionOptions, SshOptions
from ntxengine.errors import OptionsError, SourceError, TargetError, TransferTimeout
from ntxengine.files.private import PrivateFolder
from ntxengine.tunnel import command
from tests.cli.ntx import COMMAND, environment
from tests.support.ports import reserved_port
from tests.support.servers import nbdkit, qemu_nbd
from tests.support.ssh import Sshd, make_key, ssh_processes, sshd, sshd_left_clean, wait_for_port

SIZE = 12 << 20
SLOW = 8 << 20  # bytes per second: so that something can happen meanwhile


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    with sshd_left_clean(tmp_path, monkeypatch) as server:
        yield server


@contextlib.contextmanager
def disk_there(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve a file; yields the query of the URI, and the file."""
    path = tmp_path / "disk"
    path.write_bytes(bytes(SIZE))
    with qemu_nbd(path, shared=0) as uri:
        yield uri.partition("?")[2], path


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Device]:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(SIZE))
    async with open_source(str(path)) as device:
        yield device


def through(server: Sshd, **options: object) -> ConnectionOptions:
    return ConnectionOptions(ssh=server.options(**options))  # type: ignore[arg-type]


async def copy_once(
    source: Device,
    uri: str,
    connection: ConnectionOptions,
    *,
    options: CopyOptions,
    checkpoints: Checkpoints | None = None,
) -> CopyReport:
    async with open_target(uri, source=source, connection=connection) as target:
        windows = [whole(SIZE)]
        return await copy(source, target.device, windows, options=options, bytes_expected=SIZE, checkpoints=checkpoints)


async def copy_through_trouble(
    source: Device, uri: str, server: Sshd, trouble: Callable[[], None], *, timeout_s: float = 10.0
) -> Checkpoints:
    """Copy, with `trouble` once some of it is stored."""
    options = CopyOptions(bandwidth=SLOW, timeout_s=timeout_s, connections=2)
    made = iter([trouble])

    def keep(_stored_to: int) -> None:  # in a thread of the copy, which cannot end before that
        if (first := next(made, None)) is not None:
            first()

    checkpoints = Checkpoints(keep)
    await retrying(
        lambda: copy_once(source, uri, through(server, processes=2), options=options, checkpoints=checkpoints),
        checkpoints,
        Patience(30, first_wait_s=0.1),
        name="disk",
    )
    return checkpoints


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "DUE_S", 0.1)
    monkeypatch.setattr(due, "_SELDOMER", 0)


def sockets(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "t").glob("*/*.sock"))


# ------------------------------------------------------------------------------------------------- all is well


async def test_every_connection_has_an_ssh_of_its_own(server: Sshd, source: Device, tmp_path: Path) -> None:
    seen = []
    with disk_there(tmp_path) as (query, disk):
        opening = open_target(server.uri(query), source=source, connection=through(server, processes=3))
        async with opening as target:
            seen = ssh_processes(tmp_path)
            report = await copy(source, target.device, [whole(SIZE)], options=CopyOptions(connections=3))
            name = target.device.name

        assert disk.read_bytes() == (tmp_path / "source").read_bytes()
    assert len(seen) == 3
    assert report.connections_refused == 0
    assert name == server.uri(query)


async def test_a_server_that_takes_one_connection_has_one_ssh(server: Sshd, tmp_path: Path) -> None:
    with nbdkit("--filter=multi-conn", "memory", "1M", "multi-conn-mode=disable") as uri:
        async with open_source(server.uri(uri.partition("?")[2]), connection=through(server)) as device:
            assert not device.can_multi_conn
            assert len(ssh_processes(tmp_path)) == 1


async def test_a_jump_host_leads_there(server: Sshd, source: Device, tmp_path: Path) -> None:
    with disk_there(tmp_path) as (query, disk):
        connection = through(server, jump=server.jump, processes=2)
        await copy_once(source, server.uri(query), connection, options=CopyOptions())

        assert disk.read_bytes() == (tmp_path / "source").read_bytes()


# ---------------------------------------------------------------------------------------------------- refused


async def test_another_host_key_is_refused(server: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    server.know(tmp_path / "other.pub")

    with pytest.raises(SourceError, match=r"host key is another than in .*known_hosts.*ssh-keygen -f .* -R"):
        async with open_source(server.uri("port=1"), connection=through(server)):
            pass


async def test_an_unknown_host_is_refused(server: Sshd) -> None:
    server.known_hosts.write_text("")

    with pytest.raises(SourceError, match=r"host key is not in .*known_hosts.*ssh-keyscan -p"):
        async with open_source(server.uri("port=1"), connection=through(server)):
            pass


async def test_another_key_is_refused(server: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "other")

    with pytest.raises(SourceError, match=r"the login was refused.*Permission denied"):
        connection = ConnectionOptions(ssh=SshOptions(tmp_path / "other", server.known_hosts))
        async with open_source(server.uri("port=1"), connection=connection):
            pass


async def test_a_key_that_others_can_read_is_refused_before_anything_is_started(server: Sshd) -> None:
    server.key.chmod(0o640)

    with pytest.raises(OptionsError, match="chmod 600"):
        async with open_source(server.uri("port=1"), connection=through(server)):
            pass


async def test_nobody_at_the_far_end_is_said(server: Sshd, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"nothing answers at {tmp_path}/absent there: start the NBD server"):
        async with open_source(server.uri(f"socket={tmp_path}/absent"), connection=through(server)):
            pass


async def test_a_forwarding_that_the_server_refuses_is_said(tmp_path: Path) -> None:
    with sshd(tmp_path, "PermitOpen none") as server:
        with pytest.raises(SourceError, match=r"does not forward to 127\.0\.0\.1:10809: see PermitOpen"):
            async with open_source(server.uri("port=10809"), connection=through(server)):
                pass

    assert ssh_processes(tmp_path) == []


async def test_the_settings_in_the_documents_let_in_what_they_should_alone(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "tunnels.md").read_text()
    found = re.search(r"^ *Match User backup\n(?:.+\n)+?(?= *```)", text, re.MULTILINE)
    assert found is not None
    match = found[0].replace("backup", getpass.getuser())

    with (
        reserved_port() as port,
        _running(["nbdkit", "-f", "-i", "127.0.0.1", "-p", str(port), "memory", "1M"]),
        sshd(tmp_path, "AllowTcpForwarding yes", "MaxSessions 10", match=match.replace("10809", str(port))) as server,
    ):
        wait_for_port(port)
        async with open_source(server.uri(f"port={port}"), connection=through(server)) as device:
            assert device.size == 1 << 20
        with pytest.raises(SourceError, match="does not forward"):
            async with open_source(server.uri(f"port={server.port}"), connection=through(server)):
                pass
        login = ["-i", str(server.key), "-p", str(server.port), "-o", "BatchMode=yes"]
        login += ["-o", f"UserKnownHostsFile={server.known_hosts}"]
        shell = subprocess.run(["ssh", "-F", "none", *login, "127.0.0.1", "id"], capture_output=True, check=False)

    assert shell.returncode != 0
    assert shell.stdout == b""


@contextlib.contextmanager
def _running(argv: list[str]) -> Iterator[None]:
    process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *argv])
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def test_no_ssh_server_is_said(server: Sshd) -> None:
    server.kill()

    with pytest.raises(SourceError, match=f"no ssh server listens at 127.0.0.1 port {server.port}"):
        async with open_source(server.uri("port=1"), connection=through(server)):
            pass


async def test_an_ssh_server_that_says_nothing_is_given_up_in_time(server: Sshd) -> None:
    server.kill()
    with (
        socket.create_server(("127.0.0.1", server.port)),
        pytest.raises(TransferTimeout, match=r"ssh did not log in within 0\.5 s"),
    ):
        async with open_source(server.uri("port=1"), timeout_s=0.5, connection=through(server)):
            pass


# ----------------------------------------------------------------------------------------------------- trouble


def kill_one(tmp_path: Path) -> None:
    os.kill(ssh_processes(tmp_path)[0], signal.SIGKILL)


def stop_all(tmp_path: Path) -> None:
    for pid in ssh_processes(tmp_path):
        os.kill(pid, signal.SIGSTOP)


@pytest.mark.parametrize(("how", "timeout_s"), [(kill_one, 10.0), (stop_all, 1.0)], ids=["killed", "stalled"])
@pytest.mark.usefixtures("often")
async def test_a_copy_goes_on_when_an_ssh(
    how: Callable[[Path], None], timeout_s: float, server: Sshd, source: Device, tmp_path: Path
) -> None:
    with disk_there(tmp_path) as (query, disk):
        checkpoints = await copy_through_trouble(
            source, server.uri(query), server, lambda: how(tmp_path), timeout_s=timeout_s
        )

        assert disk.read_bytes() == (tmp_path / "source").read_bytes()
    assert checkpoints.retries >= 1


@pytest.mark.usefixtures("often")
async def test_a_copy_goes_on_when_the_ssh_server_was_away(server: Sshd, source: Device, tmp_path: Path) -> None:
    def restart() -> None:
        server.kill()
        server.start()

    with disk_there(tmp_path) as (query, disk):
        checkpoints = await copy_through_trouble(source, server.uri(query), server, restart)

        assert disk.read_bytes() == (tmp_path / "source").read_bytes()
    assert checkpoints.retries >= 1


@pytest.mark.usefixtures("often")
async def test_a_copy_goes_on_when_the_ssh_server_stalls(
    server: Sshd, source: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(command._SETTINGS, "ServerAliveInterval", "1")
    monkeypatch.setitem(command._SETTINGS, "ServerAliveCountMax", "1")
    with disk_there(tmp_path) as (query, disk):
        checkpoints = await copy_through_trouble(source, server.uri(query), server, server.stall, timeout_s=30)
        server.kill()  # qemu-nbd would wait for the connections that hang

        assert disk.read_bytes() == (tmp_path / "source").read_bytes()
    assert checkpoints.retries >= 1


async def test_the_error_of_a_lost_ssh_says_so(server: Sshd, source: Device, tmp_path: Path) -> None:
    def windows() -> Iterator[Extents]:
        yield make([(0, SIZE // 2, 0)])
        for pid in ssh_processes(tmp_path):  # the copy is at work on the first half now
            os.kill(pid, signal.SIGKILL)
        yield make([(SIZE // 2, SIZE // 2, 0)])

    with disk_there(tmp_path) as (query, _):
        opening = open_target(server.uri(query), source=source, connection=through(server, processes=1))
        with pytest.raises(TargetError, match=r"nbd\+ssh://.*; ssh was killed by signal 9"):
            async with opening as target:
                await copy(source, target.device, windows(), options=CopyOptions(bandwidth=SLOW))


async def test_an_ssh_that_ended_is_started_again(server: Sshd, source: Device, tmp_path: Path) -> None:
    with disk_there(tmp_path) as (query, disk):
        opening = open_target(server.uri(query), source=source, connection=through(server, processes=2))
        async with opening as target:
            [last] = ssh_processes(tmp_path, "/1.sock:")  # not that of the connection that is there
            os.kill(last, signal.SIGKILL)
            while len(found := ssh_processes(tmp_path)) < 2 or last in found or len(sockets(tmp_path)) < 2:
                await asyncio.sleep(0.02)
            report = await copy(source, target.device, [whole(SIZE)], options=CopyOptions(connections=2))

        assert disk.read_bytes() == (tmp_path / "source").read_bytes()
    assert report.connections_refused == 0


async def test_nothing_is_left_of_a_copy_that_is_cancelled(server: Sshd, source: Device, tmp_path: Path) -> None:
    with disk_there(tmp_path) as (query, _):
        options = CopyOptions(bandwidth=1 << 20, connections=2)
        working = asyncio.create_task(copy_once(source, server.uri(query), through(server), options=options))
        while len(ssh_processes(tmp_path)) < 3:
            await asyncio.sleep(0.02)
        working.cancel()

        with pytest.raises(asyncio.CancelledError):
            await working


@pytest.mark.parametrize("jump", [False, True], ids=["direct", "jump"])
def test_no_ssh_outlives_a_process_that_is_killed(jump: bool, server: Sshd, tmp_path: Path) -> None:
    arguments = ["--ssh-key", str(server.key), "--ssh-known-hosts", str(server.known_hosts), "--bandwidth", "1M"]
    if jump:
        arguments += ["--ssh-jump", str(server.jump)]
    with disk_there(tmp_path) as (query, _):
        (tmp_path / "source").write_bytes(os.urandom(SIZE))
        env = environment({"TMPDIR": str(tmp_path / "t")})
        argv = [*COMMAND, "copy", str(tmp_path / "source"), server.uri(query), *arguments]
        working = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: len(ssh_processes(tmp_path)) >= 4)
        working.kill()
        working.wait()

        wait_until(lambda: ssh_processes(tmp_path) == [])

    def is_clean() -> bool:
        """The folder of a process that was killed goes with the next one, once nobody it started is left."""
        PrivateFolder().close()
        return list((tmp_path / "t").iterdir()) == []

    wait_until(is_clean)


def wait_until(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)

"""iSCSI through a real ssh server: the disk is read, where a login is handed on too, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from ntxengine.attach import AttachOptions, Iscsi, choose_attacher
from ntxengine.attach.initiator import Waiting
from ntxengine.attach.portal import parse_portal
from ntxengine.errors import AttachError, OptionsError
from ntxengine.prism.cluster import Prism
from ntxengine.prism.findings import Findings, Revisions
from ntxengine.prism.models import Disk, DiskPoint, Vm, VolumeGroup
from ntxengine.tunnel import port as port_module
from ntxengine.tunnel.options import FarEnd, SshGateway
from ntxengine.tunnel.port import LoopbackPort
from ntxengine.tunnel.words import Route
from tests.support.cancelling import cancelled_within
from tests.support.iscsi import VolumeGroupsOf, tgtd
from tests.support.ssh import Sshd, ssh_processes, sshd_left_clean

V4 = Findings("v4", revisions=Revisions("v4.1", "v4.0", "v4.0"))
SIZE = 3 * 1024**2 + 512
POINT = DiskPoint(
    id="A", disk_id="disk-a", recovery_point_id="rp", recovery_point_name="ntx-0a-20261129T075643Z-abcdef"
)
VM = Vm("vm", "db01", "on", "cluster", "host", disks=(Disk("disk-a", SIZE, "scsi", 0, "c"),))
QUICK = Waiting(appear_s=2, answer_s=5, poll_s=0.05)


@pytest.fixture
def prism(tmp_path: Path) -> Iterator[VolumeGroupsOf]:
    path = tmp_path / "disk"
    path.write_bytes(os.urandom(SIZE))
    with tgtd(tmp_path) as server:
        yield VolumeGroupsOf(server, {POINT.id: path})


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    with sshd_left_clean(tmp_path, monkeypatch) as server:
        yield server


def made(prism: VolumeGroupsOf, server: Sshd) -> Iscsi:
    options = AttachOptions(gateway=SshGateway(server.login, server.options()))
    return Iscsi(cast(Prism, prism), options, waiting=QUICK)


async def read(attacher: Iscsi, tmp_path: Path, *, to: str) -> tuple[bytes, int]:
    """Return what the disk holds, and how many ssh went to that place."""
    assert await attacher.can_serve(V4)
    verdict = await attacher.can_serve_vm(VM)
    assert verdict, verdict.reason
    async with attacher.attach(POINT, SIZE) as attached:
        command = ["nbdcopy", attached.location.text, "-"]
        done = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
        return done.stdout, len(ssh_processes(tmp_path, to))


async def test_the_disk_is_read_through_the_ssh_server(prism: VolumeGroupsOf, gateway: Sshd, tmp_path: Path) -> None:
    data, tunnels = await read(made(prism, gateway), tmp_path, to=prism.server.portal)

    assert data == prism.files[POINT.id].read_bytes()
    assert tunnels == 1
    assert prism.groups == {}


async def test_a_login_that_is_handed_on_is_followed_through_it(
    prism: VolumeGroupsOf, gateway: Sshd, tmp_path: Path
) -> None:
    (tmp_path / "cvm").mkdir()
    with tgtd(tmp_path / "cvm", port=3205) as cvm:

        async def admit(group: VolumeGroup, initiator: str, secret: str) -> None:
            cvm.add_target(group.target, user=initiator, secret=secret, file=prism.files[group.id])
            prism.server.add_target(group.target)
            prism.server.tell("bind", "target", "--tid", "1", "-I", "ALL")
            prism.server.redirect(group.target, cvm.portal)

        prism.admit_initiator = admit  # type: ignore[method-assign]
        data, tunnels = await read(made(prism, gateway), tmp_path, to=cvm.portal)

    assert data == prism.files[POINT.id].read_bytes()
    assert tunnels == 1


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_nobody_else_gets_through_the_port(
    prism: VolumeGroupsOf, gateway: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal = parse_portal(prism.server.portal, "")
    route = Route("disk", gateway.login, FarEnd(portal.host, portal.port))
    async with LoopbackPort(route, gateway.options()) as port:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

        reader, writer = await asyncio.open_connection(*port.address)

        assert await reader.read() == b""
        assert ssh_processes(tmp_path) == []
        await close(writer)


async def test_a_connection_of_which_nobody_can_tell_whose_it_is_is_refused_and_the_next_one_taken(
    gateway: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with LoopbackPort(Route("disk", gateway.login, FarEnd(port=1)), gateway.options()) as port:
        with monkeypatch.context() as patched:
            patched.setattr("ntxengine.tunnel.port._CONNECTIONS", tmp_path / "missing")
            reader, writer = await asyncio.open_connection(*port.address)
            assert await reader.read() == b""
            await close(writer)
        assert await port.complaint(within_s=0) is None

        reader, writer = await asyncio.open_connection(*port.address)
        assert await reader.read() == b""
        await close(writer)
        complaint = await port.complaint(within_s=60)

    assert complaint is not None
    assert "nothing answers" in complaint.text


async def test_the_port_is_held_also_while_no_ssh_is_up(gateway: Sshd, tmp_path: Path) -> None:
    gateway.kill()
    async with LoopbackPort(Route("disk", gateway.login, FarEnd(port=1)), gateway.options()) as port:
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*port.address)
            assert await reader.read() == b""
            await close(writer)

            with socket.socket() as thief, pytest.raises(OSError, match="in use"):
                thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                thief.bind(port.address)
        complaint = await port.complaint(within_s=60)

    assert complaint is not None
    assert "no ssh server listens" in complaint.text


async def test_a_port_that_is_cancelled_as_it_begins_leaves_no_folder(
    gateway: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    beginning = LoopbackPort(Route("disk", gateway.login, FarEnd(port=1)), gateway.options()).__aenter__()

    await cancelled_within(monkeypatch, port_module, "make_folder", beginning)


async def test_connections_that_stay_make_room(prism: VolumeGroupsOf, gateway: Sshd, tmp_path: Path) -> None:
    portal = parse_portal(prism.server.portal, "")
    route = Route("disk", gateway.login, FarEnd(portal.host, portal.port))
    async with LoopbackPort(route, gateway.options()) as port:
        connections = [await asyncio.open_connection(*port.address) for _ in range(6)]
        for reader, _ in connections[:2]:
            assert await reader.read() == b""

        assert len(ssh_processes(tmp_path)) <= 4
        for _, writer in connections:
            await close(writer)


async def test_a_portal_that_the_ssh_server_does_not_reach_is_said_before_the_freeze(
    prism: VolumeGroupsOf, gateway: Sshd
) -> None:
    prism.address = "127.0.0.1:1"
    options = AttachOptions(data_services="127.0.0.1:1", gateway=SshGateway(gateway.login, gateway.options()))
    attacher = Iscsi(cast(Prism, prism), options, waiting=QUICK)

    verdict = await attacher.can_serve_vm(VM)

    assert re.search(r"127\.0\.0\.1:1 through .*nothing answers at 127\.0\.0\.1:1 there", verdict.reason)


async def test_an_ssh_server_that_went_away_after_the_freeze_is_said(
    prism: VolumeGroupsOf, gateway: Sshd, tmp_path: Path
) -> None:
    attacher = made(prism, gateway)
    assert await attacher.can_serve(V4)
    assert await attacher.can_serve_vm(VM)
    gateway.kill()

    with pytest.raises(AttachError, match="no ssh server listens at 127"):
        async with attacher.attach(POINT, SIZE):
            pass

    assert prism.groups == {}


@pytest.mark.parametrize("source", ["path", "hotadd", "nfs"])
async def test_a_way_that_goes_through_no_tunnel_is_refused(source: str, prism: VolumeGroupsOf, gateway: Sshd) -> None:
    options = AttachOptions(source=source, gateway=SshGateway(gateway.login, gateway.options()))

    with pytest.raises(OptionsError, match=r"--tunnel: .* does not go through a tunnel, only: iscsi"):
        await choose_attacher(cast(Prism, prism), V4, options)

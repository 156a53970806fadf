"""A control plane behind ssh: disks and links are sockets there."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from ntxengine.errors import PlaceError
from ntxengine.export import access
from ntxengine.export.options import TunnelOptions
from ntxengine.tunnel.options import SshGateway
from tests.capture.lab import MIB
from tests.export.exporting import Exporting
from tests.export.receiver import Client, Notification
from tests.support.ssh import Sshd, ssh_processes, sshd

SETTINGS = (
    "AllowStreamLocalForwarding remote",
    "AllowTcpForwarding remote",
    "PermitListen none",
    "StreamLocalBindUnlink yes",
)


@pytest.fixture
def there() -> Iterator[Path]:
    """The folder on the control plane: the paths of its sockets are short."""
    with tempfile.TemporaryDirectory(prefix="ntx-test-", dir="/tmp") as folder:
        yield Path(folder)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(path)
        return True
    return False


def tunnel_to(server: Sshd, there: Path) -> TunnelOptions:
    return TunnelOptions(SshGateway(server.login, server.options()), str(there))


async def test_full_and_increment_come_through_ssh(exporting: Exporting, there: Path, tmp_path: Path) -> None:
    lab = exporting.lab
    exporting.client = Client(None)
    modes: list[int] = []

    def take(notification: Notification) -> None:
        modes.extend(stat.S_IMODE(each.stat().st_mode) for each in there.iterdir())
        exporting.take_whole(notification)

    exporting.receiver.then = take
    with sshd(tmp_path, *SETTINGS) as server:
        first = await exporting.run(way=tunnel_to(server, there))
        assert exporting.copied() == lab.guest()
        lab.write(0, 2 * MIB, os.urandom(70_000))

        second = await exporting.run(way=tunnel_to(server, there), since=first.recovery_point_id)

        assert ssh_processes(tmp_path) == []
    assert exporting.copied() == lab.guest()
    assert second.disks[0]["changed"]["regions"] > 0
    assert set(modes) == {0o600}
    exporting.assert_clean(kept=[second.recovery_point_id])


async def test_ssh_that_breaks_is_begun_again_at_the_same_socket(
    exporting: Exporting, there: Path, tmp_path: Path
) -> None:
    exporting.client = Client(None)
    with sshd(tmp_path, *SETTINGS) as server:

        def break_first(notification: Notification) -> None:
            server.kill()
            server.start()
            deadline = time.monotonic() + 30
            sockets = [parse_qs(urlsplit(disk["uri"]).query)["socket"][0] for disk in notification["disks"]]
            sockets.append(unquote(urlsplit(notification["done"]).netloc))
            while time.monotonic() < deadline and not all(map(_answers, sockets)):
                time.sleep(0.05)
            exporting.take_whole(notification)

        exporting.receiver.then = break_first

        await exporting.run(way=tunnel_to(server, there))

    assert exporting.copied() == exporting.lab.guest()


async def test_export_ends_when_the_ssh_server_refuses_what_it_took_before(
    exporting: Exporting, there: Path, tmp_path: Path
) -> None:
    with sshd(tmp_path, *SETTINGS) as server:

        def shut_out(notification: Notification) -> None:
            (tmp_path / "authorized_keys").write_text("")
            server.cut()

        exporting.receiver.then = shut_out

        with pytest.raises(PlaceError, match="the login was refused"):
            await exporting.run(way=tunnel_to(server, there), time_limit_s=3600)

        assert ssh_processes(tmp_path) == []
    exporting.assert_clean(kept=[])


async def test_export_ends_when_no_ssh_comes_through_for_too_long(
    exporting: Exporting, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "LOST_AFTER_S", 0.7)
    with sshd(tmp_path, *SETTINGS) as server:
        exporting.receiver.then = lambda notification: server.kill()

        with pytest.raises(PlaceError, match=r"no ssh server listens at .*; lost for \d+ s, and given up"):
            await exporting.run(way=tunnel_to(server, there), time_limit_s=3600)

    exporting.assert_clean(kept=[])


async def test_server_that_makes_no_sockets_is_said_to(exporting: Exporting, there: Path, tmp_path: Path) -> None:
    with sshd(tmp_path, "AllowStreamLocalForwarding no") as server:
        with pytest.raises(PlaceError, match=r"does not make the socket .*AllowStreamLocalForwarding yes or remote"):
            await exporting.run(way=tunnel_to(server, there))

    exporting.assert_clean(kept=[])


async def test_folder_that_is_not_there_is_said_to(exporting: Exporting, there: Path, tmp_path: Path) -> None:
    with sshd(tmp_path, *SETTINGS) as server:
        with pytest.raises(PlaceError, match="its folder must be there"):
            await exporting.run(way=tunnel_to(server, there / "none"))

    exporting.assert_clean(kept=[])

"""Who may connect to the socket of the agent, and what it is made of; tests run as root become somebody else for it."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ntxengine.agent.sockets import Access, TcpSockets, UnixSocket
from ntxengine.config.listening import TcpAddress, parse_listen
from ntxengine.errors import LockedError, NtxError, OptionsError
from tests.support.servers import require_root

NOBODY, A_GROUP = 65534, 12345

CONNECT = """
import os, socket, sys
os.setgroups([int(each) for each in sys.argv[2:]])
os.setgid(65534)
os.setuid(65534)
connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect(sys.argv[1])
except PermissionError:
    print("refused")
else:
    print("connected")
"""


def let_others_through(folder: Path) -> None:
    """Let other users get as far as what lies in a folder of pytest."""
    require_root("becoming another user")
    for each in (folder, *folder.parents):
        if each == Path(tempfile.gettempdir()).resolve():
            return
        each.chmod(each.stat().st_mode | 0o011)  # nothing is taken: with --basetemp these are folders of the machine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    let_others_through(tmp_path)
    return tmp_path


@contextmanager
def opened(path: Path, access: Access | None = None) -> Iterator[UnixSocket]:
    found = UnixSocket(path, access or Access())
    found.open()
    try:
        yield found
    finally:
        found.close()


def as_nobody(path: Path, *groups: int) -> str:
    """Return what becomes of a connection of another user, who is in these groups."""
    require_root("becoming another user")
    command = [sys.executable, "-I", "-c", CONNECT, str(path), *map(str, groups)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd="/")
    return done.stdout.strip()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_user_and_the_group_may_connect(folder: Path) -> None:
    path = folder / "run" / "agent.sock"

    with opened(path, Access(0o660, str(A_GROUP))):
        others, members = as_nobody(path), as_nobody(path, A_GROUP)
        found = (mode_of(path), path.stat().st_gid, mode_of(path.parent))

    assert (others, members) == ("refused", "connected")
    assert found == (0o660, A_GROUP, 0o755)


def test_a_mode_without_the_group_keeps_it_out(folder: Path) -> None:
    path = folder / "agent.sock"

    with opened(path, Access(0o600, str(A_GROUP))) as listening:
        before = as_nobody(path, A_GROUP)
        listening.permit(Access(0o660, str(A_GROUP)))
        permitted = as_nobody(path, A_GROUP)
        listening.permit(Access(0o600))
        after = as_nobody(path, A_GROUP), path.stat().st_gid

    assert (before, permitted, after) == ("refused", "connected", ("refused", os.getegid()))


def test_nobody_may_connect_before_mode_and_group_are_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = folder / "agent.sock", []
    chown, chmod = os.chown, os.chmod

    def look() -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            seen.append((mode_of(path), connection.connect_ex(str(path))))

    monkeypatch.setattr(os, "chown", lambda *args: (look(), chown(*args)))
    monkeypatch.setattr(os, "chmod", lambda *args: (look(), chmod(*args), look()))
    old = os.umask(0)
    try:
        with opened(path, Access(0o660, str(os.getegid()))):
            pass
    finally:
        os.umask(old)

    refused = 111  # nobody listens yet
    assert seen == [(0, refused), (0, refused), (0o660, refused)]


def test_the_umask_takes_nothing_from_the_mode(folder: Path) -> None:
    old = os.umask(0o077)
    try:
        with opened(folder / "new" / "agent.sock") as listening:
            found = mode_of(listening.path), mode_of(listening.path.parent)
    finally:
        os.umask(old)

    assert found == (0o660, 0o755)


def test_a_socket_that_a_killed_agent_left_is_replaced(folder: Path) -> None:
    path = folder / "agent.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))

    with opened(path), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))

    assert not list(folder.iterdir())


def test_a_socket_that_is_listened_to_is_not_taken_away(folder: Path) -> None:
    path = folder / "agent.sock"

    with opened(path):
        with pytest.raises(LockedError, match=r"agent.sock: another process works with it: .* a socket of its own"):
            UnixSocket(path, Access()).open()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(path))
        foreign.listen(0)
        with pytest.raises(LockedError, match="another program listens at it"):
            UnixSocket(path, Access()).open()

    assert path.is_socket()


def test_a_socket_of_which_the_queue_is_full_is_listened_to(folder: Path) -> None:
    path, waiting = folder / "agent.sock", []
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(path))
        foreign.listen(0)
        for _ in range(3):
            waiting.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            waiting[-1].connect_ex(str(path))

        with pytest.raises(LockedError):
            UnixSocket(path, Access()).open()

    for each in waiting:
        each.close()


def test_what_is_no_socket_is_left_alone(folder: Path) -> None:
    path, target = folder / "agent.sock", folder / "precious"
    target.write_text("precious")
    path.symlink_to(target)

    with pytest.raises(OptionsError, match="is there, and is no socket"):
        UnixSocket(path, Access()).open()

    assert target.read_text() == "precious"
    assert sorted(each.name for each in folder.iterdir()) == ["agent.sock", "precious"]


def test_a_path_that_is_too_long_is_one_line(folder: Path) -> None:
    with pytest.raises(OptionsError, match=r"too long for a unix socket: \d+ bytes, 107 at most"):
        UnixSocket(folder / ("x" * 120), Access()).open()

    assert not list(folder.iterdir())


def test_a_group_that_there_is_not_is_one_line(folder: Path) -> None:
    with pytest.raises(OptionsError, match="group 'nosuchgroup': this machine has none of that name"):
        UnixSocket(folder / "agent.sock", Access(group="nosuchgroup")).open()

    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line(folder: Path) -> None:
    (folder / "file").write_text("")

    with pytest.raises(NtxError, match=r"the socket .* cannot be used: Not a directory"):
        UnixSocket(folder / "file" / "agent.sock", Access()).open()


def test_what_took_its_place_is_not_removed(folder: Path) -> None:
    path = folder / "agent.sock"
    with opened(path):
        path.unlink()
        path.write_text("another")

    assert path.read_text() == "another"


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(NtxError, match=rf"the port {port} of 127.0.0.1 cannot be used: another program, or this"):
            TcpSockets(TcpAddress(("127.0.0.1",), port)).open()


def test_an_address_of_another_machine_is_one_line() -> None:
    with pytest.raises(NtxError, match="this machine has no such address"):
        TcpSockets(TcpAddress(("192.0.2.7",), 9108)).open()


@pytest.mark.parametrize(
    ("text", "found", "is_local"),
    [
        ("127.0.0.1:9108", ("127.0.0.1",), True),
        ("127.5.5.5:9108", ("127.5.5.5",), True),
        ("[::1]:9108", ("::1",), True),
        ("[::ffff:127.0.0.1]:9108", ("::ffff:127.0.0.1",), True),
        ("localhost:9108", ("127.0.0.1", "::1"), True),
        ("0.0.0.0:9108", ("0.0.0.0",), False),
        ("[::]:9108", ("::",), False),
        ("[::ffff:10.0.0.1]:9108", ("::ffff:10.0.0.1",), False),
        ("10.0.0.1:9108", ("10.0.0.1",), False),
    ],
)
def test_an_address_is_local_or_not(text: str, found: tuple[str, ...], is_local: bool) -> None:
    address = parse_listen(text)

    assert isinstance(address, TcpAddress)
    assert (address.hosts, address.is_local) == (found, is_local)


@pytest.mark.parametrize(
    "text",
    ["9108", ":9108", "127.evil.example:9108", "localhost.evil:9108", "::1:9108", "[127.0.0.1]:9108", "1.2.3.4:0",
     "1.2.3.4:70000", "1.2.3.4:", "*:9108", "host:9108", "127.1:9108", "\uff11.0.0.1:9108", ""],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(OptionsError):
        parse_listen(text)

"""A real sshd for tests, on a loopback port, with keys and a configuration of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.tunnel.options import SshLogin, SshOptions
from tests.support.ports import reserved_port
from tests.support.processes import processes
from tests.support.servers import START_S, SYSTEM_PATH, require

CONFIGURATION = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/sshd.pid
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowStreamLocalForwarding local
AllowTcpForwarding local
MaxSessions 0
"""


class Sshd:
    """An ssh server that can be stopped, killed with all of its connections, and started again.  See sshd()."""

    def __init__(self, folder: Path, port: int, *settings: str, match: str = "") -> None:
        require("ssh", "ssh-keygen", "setpriv")
        self.folder = folder
        self.port = port
        self.key = folder / "key"
        self.known_hosts = folder / "known_hosts"
        self._process: subprocess.Popen[bytes] | None = None
        make_key(folder / "host_key")
        make_key(self.key)
        shutil.copy(folder / "key.pub", folder / "authorized_keys")
        self.know(folder / "host_key.pub")
        text = "".join(f"{setting}\n" for setting in settings) + CONFIGURATION  # the first that is said of each counts
        (folder / "sshd_config").write_text(text.format(port=self.port, folder=folder) + match)

    def know(self, public: Path) -> None:
        """Let known_hosts have this key for the server."""
        kind, text = public.read_text().split()[:2]
        names = ("127.0.0.1", "localhost")
        self.known_hosts.write_text("".join(f"[{name}]:{self.port} {kind} {text}\n" for name in names))

    @property
    def user(self) -> str:
        return getpass.getuser()

    @property
    def login(self) -> SshLogin:
        return SshLogin("127.0.0.1", self.port, self.user)

    @property
    def jump(self) -> SshLogin:
        """The same server by another name: ssh takes a jump over one host for a loop."""
        return SshLogin("localhost", self.port, self.user)

    def options(self, *, jump: SshLogin | None = None, processes: int = 3) -> SshOptions:
        return SshOptions(self.key, self.known_hosts, jump, processes)

    def uri(self, query: str) -> str:
        return f"nbd+ssh://{self.user}@127.0.0.1:{self.port}/?{query}"

    def start(self) -> None:
        program = shutil.which("sshd", path=SYSTEM_PATH)
        assert program is not None, "sshd is not installed: run scripts/install-packages.sh test"
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with open(self.folder / "sshd.log", "ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for_port(self.port, self._process)

    def stall(self) -> None:
        """Stop all of its connections; new ones are taken."""
        assert self._process is not None
        for pid in descendants(self._process.pid):
            os.kill(pid, signal.SIGSTOP)

    def cut(self) -> None:
        """End all of its connections; new ones are taken."""
        assert self._process is not None
        for pid in descendants(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """End it and all of its connections, without a word."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGSTOP)  # so that it takes no connection that is not listed
        connections = descendants(self._process.pid)
        self._process.kill()
        self._process.wait()
        self._process = None
        for pid in connections:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def sshd(folder: Path, *settings: str, match: str = "") -> Iterator[Sshd]:
    """Serve; `settings` are lines of its configuration, `match` what stands at its end."""
    with reserved_port() as port:
        server = Sshd(folder, port, *settings, match=match)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def sshd_left_clean(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """Serve; tunnels have their files in `folder`/t, and whatever they leave is a failure."""
    temporary = folder / "t"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with sshd(folder) as server:
        yield server
    assert ssh_processes(folder) == []
    assert list(temporary.iterdir()) == []


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


def ssh_processes(folder: Path, text: str = "") -> list[int]:
    """Return the process ids of every ssh that has something to do with `folder`, and `text` in its arguments."""
    return [
        process.pid
        for process in processes()
        if os.path.basename(process.words[0]) == "ssh" and str(folder) in process.command and text in process.command
    ]


def descendants(pid: int) -> set[int]:
    """Return the process ids of everything that a process has started, and what that has."""
    parents = {process.pid: process.parent for process in processes()}
    found, before = {pid}, set[int]()
    while found != before:
        before = set(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found - {pid}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process is None or process.poll() is None, "it has ended: see its log"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    raise RuntimeError("nobody answers")

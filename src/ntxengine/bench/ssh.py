"""An sshd of this machine, and a tunnel of one ssh through it, with keys that are made on the spot.

nbdcopy --- tunnel.sock --- ssh ---+
ntx ------- its own sockets - ssh -+--- sshd there --- socket of the NBD server
                            - ssh -+
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ntxengine.bench import tools
from ntxengine.concurrency.tied import tied
from ntxengine.errors import ToolError
from ntxengine.tunnel.command import command, environment
from ntxengine.tunnel.options import SshLogin, SshOptions

_START_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 5.0
_POLL_S = 0.01
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_CONFIGURATION = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 64
"""


@dataclass(frozen=True)
class SshRoute:
    """The way to one socket.  `tunnel`: the socket of the ssh that stays; `key`, `known_hosts`: to start others."""

    login: SshLogin
    far: Path
    tunnel: Path
    key: Path
    known_hosts: Path
    sshd: int
    ssh: int

    @property
    def uri(self) -> str:
        """Where the NBD server is, for who makes tunnels."""
        return f"nbd+ssh://{self.login}/?socket={self.far}"

    def server_cpu_seconds(self) -> float:
        """Return the CPU time of sshd and all that it ever started; waits for those whose connection has ended."""
        deadline = time.monotonic() + _END_TIMEOUT_S
        # One for the tunnel; each of them is two processes where sshd gives up root.
        while len(_children(self.sshd)) > 1 and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return _tree_cpu_seconds(self.sshd)

    def tunnel_cpu_seconds(self) -> float:
        """Return the CPU time of the ssh that stays."""
        return _tree_cpu_seconds(self.ssh)


@contextmanager
def ssh_route(folder: Path, far: Path) -> Iterator[SshRoute]:
    """Start sshd, and an ssh that leads to `far`.  `folder` is ours alone, and gone afterwards."""
    folder.mkdir(mode=0o700)
    for name in ("host_key", "key"):
        tools.run_tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    with _reserved_port() as port:
        (folder / "sshd_config").write_text(_CONFIGURATION.format(port=port, folder=folder))
        kind, public = (folder / "host_key.pub").read_text().split()[:2]
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {public}\n")
        with _routed(folder, far, SshLogin("127.0.0.1", port, getpass.getuser())) as route:
            yield route
    shutil.rmtree(folder)


@contextmanager
def _routed(folder: Path, far: Path, login: SshLogin) -> Iterator[SshRoute]:
    options = SshOptions(folder / "key", folder / "known_hosts")
    tunnel = folder / "t"
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it wants to be locked in
    sshd = tied(str(tools.find("sshd")), "-D", "-e", "-f", str(folder / "sshd_config"))
    with _running(sshd, tools.environment(), folder / "sshd.log") as server:
        _wait(lambda: _answers(login.port), server, folder / "sshd.log")
        ssh = command(login, options, None, "-N", "-L", f"{tunnel}:{far}")
        with _running(ssh, environment(), folder / "ssh.log") as client:
            _wait(tunnel.exists, client, folder / "ssh.log")
            yield SshRoute(login, far, tunnel, folder / "key", folder / "known_hosts", server.pid, client.pid)


@contextmanager
def _running(argv: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as said:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment, process_group=0
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            how = "did not answer" if process.returncode is None else tools.ending(process.returncode, log.read_text())
            raise ToolError(f"{log.stem} {how}")
        time.sleep(_POLL_S)


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextmanager
def _reserved_port() -> Iterator[int]:
    """Yield a port that the kernel gives to nobody else; sshd listens at it all the same, by SO_REUSEADDR."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _tree_cpu_seconds(pid: int) -> float:
    """Of a process, what it has started, and what of that has ended and been waited for; rounded to ticks."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    own = sum(int(field) for field in fields[11:15]) * _TICK_S  # utime, stime, cutime, cstime
    return own + sum(_tree_cpu_seconds(child) for child in _children(pid))

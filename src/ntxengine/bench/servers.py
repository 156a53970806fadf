"""The NBD servers and block devices of a case: context managers that leave nothing behind.

A server is in a process group of its own, so that Ctrl-C is for us alone, and dies with us, however we die.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shlex
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ntxengine.bench import tools
from ntxengine.bench.certificates import certificates
from ntxengine.bench.ssh import SshRoute, ssh_route
from ntxengine.bench.suite import Target, Transport
from ntxengine.concurrency.tied import tied
from ntxengine.errors import ToolError
from ntxengine.images.process import KEPT_BUFFERS

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 60.0
_POLL_S = 0.005
_PORT_TRIES = 5
_GREETING_TIMEOUT_S = 1.0  # then it is asked again whether the server has ended
_GREETING_SIZE = 18
_ABORT = struct.pack(">I8sII", 1, b"IHAVEOPT", 2, 0)  # fixed newstyle; option ABORT without data
_ABORT_REPLY_SIZE = 20
_BLKFLSBUF = 0x1261  # <linux/fs.h>: write back and drop the page cache of a block device

Command = Callable[[Path | int, Path | None], list[str]]
"""From where to listen, a socket or a port, and the folder with certificates, to an argument vector."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Server:
    """A running server.  `place`: where it listens, as bench/reference/paths.c wants it.

    `certificates`: the folder with those that it is known by, if it speaks TLS.  `ssh`: the way, if it is behind sshd.
    """

    uri: str
    place: str
    pid: int
    certificates: Path | None = None
    ssh: SshRoute | None = None

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has used, ended threads included, and that of the sshd before it.

        It is utime + stime of /proc/PID/stat without their rounding to 10 ms, which would be a tenth of a small run.
        """
        clock = ctypes.c_int()
        problem = _libc.clock_getcpuclockid(self.pid, ctypes.byref(clock))
        if problem:
            raise ToolError(f"the server at {self.place} is gone: {os.strerror(problem)}")
        return time.clock_gettime(clock.value) + (self.ssh.server_cpu_seconds() if self.ssh else 0)


class Sockets:
    """Hands out names of unix sockets: short ones, in a folder of ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    def new(self) -> Path:
        self._count += 1
        return self.folder / f"s{self._count}"


@contextmanager
def target_server(
    target: Target, size: int, image: Path | None, sockets: Sockets, *, drop: Path | None = None
) -> Iterator[Server]:
    """Serve a target of `size` bytes; `image` is the qcow2 that qemu-nbd writes, `drop` the server openssl-null."""
    command = _target_command(target, size, image, drop)
    with ExitStack() as stack:
        is_behind_ssh = target.transport == "ssh"
        server = stack.enter_context(_listening(command, sockets, "unix" if is_behind_ssh else target.transport))
        if is_behind_ssh:
            route = stack.enter_context(ssh_route(sockets.new(), Path(server.place.removeprefix("unix:"))))
            server = replace(server, uri=route.uri, ssh=route)
        yield server


def _target_command(target: Target, size: int, image: Path | None, drop: Path | None) -> Command:
    if target.server == "qemu-nbd":
        how = [f"--cache={target.cache}", "--discard=ignore", "--detect-zeroes=off", "--format=qcow2", str(image)]
        return partial(_qemu_nbd, how)
    if target.server == "openssl-null":
        return partial(_drop, [str(drop), str(size)])
    how = [target.server.removeprefix("nbdkit-"), f"size={size}"]
    if target.delay_ms:
        how = ["--filter=delay", *how, f"rdelay={target.delay_ms}ms", f"wdelay={target.delay_ms}ms"]
    return partial(_nbdkit, how)


@contextmanager
def image_server(image: Path, sockets: Sockets) -> Iterator[Server]:
    """Serve a qcow2 image, and what is below it, for reading."""
    command = partial(_qemu_nbd, ["--read-only", "--format=qcow2", str(image)])
    with _listening(command, sockets, "unix") as server:
        yield server


@contextmanager
def loop_device(image: Path) -> Iterator[str]:
    """Attach a file as a read-only block device past the page cache of the file (root only); yields its path."""
    device = tools.run_tool("losetup", "--find", "--show", "--read-only", "--direct-io=on", str(image)).strip()
    try:
        yield device
    finally:
        tools.run_tool("losetup", "--detach", device)


def forget_device(device: str) -> None:
    """Drop the page cache of a block device: who reads through it would read memory from the second time on."""
    with open(device, "rb", buffering=0) as file:
        fcntl.ioctl(file.fileno(), _BLKFLSBUF)


def _nbdkit(how: Sequence[str], at: Path | int, folder: Path | None) -> list[str]:
    where = ["--unix", str(at)] if isinstance(at, Path) else ["--ipaddr", "127.0.0.1", "--port", str(at)]
    tls = [] if folder is None else ["--tls=require", f"--tls-certificates={folder}"]
    return ["nbdkit", "--foreground", *where, *tls, *how]


def _qemu_nbd(how: Sequence[str], at: Path | int, _: Path | None) -> list[str]:
    # Any number of connections: one that is written to offers several only if it is told to.
    where = ["--socket", str(at)] if isinstance(at, Path) else ["--bind", "127.0.0.1", "--port", str(at)]
    return ["qemu-nbd", "--persistent", "--shared=0", *where, *how]


def _drop(how: Sequence[str], at: Path | int, folder: Path | None) -> list[str]:
    where = f"unix:{at}" if isinstance(at, Path) else str(at)
    tls = [] if folder is None else [str(folder / "server-cert.pem"), str(folder / "server-key.pem")]
    return [*how, where, *tls]


@contextmanager
def _listening(command: Command, sockets: Sockets, transport: Transport) -> Iterator[Server]:
    """Start a server and wait until it answers.  A TCP port that somebody took meanwhile is given up for another."""
    folder = certificates(sockets.folder) if transport == "tls" else None
    if transport == "unix":
        path = sockets.new()
        process = _start(command(path, None), str(path))
        uri, place = f"nbd+unix:///?socket={path}", f"unix:{path}"
    else:
        process, port = _start_on_a_port(command, folder)
        uri, place = f"{'nbds' if folder else 'nbd'}://127.0.0.1:{port}/", f"127.0.0.1:{port}"
    try:
        yield Server(uri, place, process.pid, folder)
    finally:
        _end(process)


def _start_on_a_port(command: Command, folder: Path | None) -> tuple[subprocess.Popen[bytes], int]:
    for rest in reversed(range(_PORT_TRIES)):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        try:
            return _start(command(port, folder), ("127.0.0.1", port)), port
        except ToolError:
            if not rest:
                raise
    raise AssertionError


def _start(command: Sequence[str], address: str | tuple[str, int]) -> subprocess.Popen[bytes]:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            tied(*command),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=KEPT_BUFFERS | tools.environment(),  # as ntx starts its own: the best for all who write to it
            process_group=0,
        )
        try:
            deadline = time.monotonic() + _START_TIMEOUT_S
            while not _answers(address):
                if process.poll() is not None:
                    said.seek(0)
                    words = said.read().decode(errors="replace")
                    raise ToolError(f"{shlex.join(command)} {tools.ending(process.returncode, words)}")
                if time.monotonic() > deadline:
                    raise ToolError(f"{shlex.join(command)} did not answer for {_START_TIMEOUT_S:g} s")
                time.sleep(_POLL_S)
        except BaseException:
            # Not politely: a qemu-nbd that is still starting loses a SIGTERM.
            process.kill()
            process.wait()
            raise
    return process


def _answers(address: str | tuple[str, int]) -> bool:
    """Take part in the handshake up to a polite end: qemu-nbd listens before it has opened its image."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as probe, suppress(OSError):
        probe.settimeout(_GREETING_TIMEOUT_S)
        probe.connect(address)
        if probe.recv(_GREETING_SIZE, socket.MSG_WAITALL).startswith(b"NBDMAGICIHAVEOPT"):
            probe.sendall(_ABORT)
            probe.recv(_ABORT_REPLY_SIZE, socket.MSG_WAITALL)
            return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

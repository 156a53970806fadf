"""One qemu-nbd for one image, on a socket of its own, for as long as it is needed.

    async with QemuNbd(ImageFile(path, backing=[base]), read_only=False, connections=4) as server:
        ... server.uri ...

What it serves is a small value (served.py).

qemu-nbd ends with us whatever happens to us (process.py); that what was written is safe is for the client's flush.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from ntxengine.concurrency.completion import run_to_completion
from ntxengine.concurrency.signals import send
from ntxengine.dataplane.options import FLUSH_TIMEOUT_S
from ntxengine.errors import NtxError, ToolError
from ntxengine.files.private import PrivateFolder
from ntxengine.images import process
from ntxengine.images.served import Served

log = logging.getLogger(__name__)

START_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = FLUSH_TIMEOUT_S
"""After SIGTERM qemu writes its metadata and flushes: a slow disk behind a full cache takes its time."""
STOP_TIMEOUT_S = 5.0
"""Where nothing is to be closed: one that is left in the kernel is not waited for."""

_POLL_S = 0.01
_SPARE_CONNECTIONS = 1
"""A connection that broke is gone for qemu-nbd only later; its successor must not wait for that.  And a writable
qemu-nbd permits several connections only if it is started for more than one."""

_GREETING = b"NBDMAGICIHAVEOPT"
_ABORT = struct.pack(">I8sII", 1, b"IHAVEOPT", 2, 0)  # fixed newstyle; option ABORT without data
_ABORT_REPLY_SIZE = 20


class StartTimeout(ToolError):
    """It was started, and did not answer: whoever has what it is to open may be silent."""


class ServerEnded(ToolError):
    """It ended before it was told to: what its last flush said is stored, no more."""


class PortTaken(ToolError):
    """Another program has the port."""


@dataclass(frozen=True)
class TlsPort:
    """A port instead of a socket: who shows no certificate of the CA gets nothing.

    `address` is that of this machine to listen at; `credentials` a folder that has ca-cert.pem, server-cert.pem and
    server-key.pem.
    """

    address: str
    port: int
    credentials: Path


class QemuNbd:
    """Serves an image at `uri` between `__aenter__` and `__aexit__`, as the export `export`; or at `port` instead.

    A writable image is not for others before `__aexit__` has returned without an error.  After an error, or when
    cancelled meanwhile, it is killed: nobody wants that image.
    """

    def __init__(
        self,
        served: Served,
        *,
        read_only: bool,
        connections: int = 1,
        start_timeout_s: float = START_TIMEOUT_S,
        export: str = "",
        port: TlsPort | None = None,
    ) -> None:
        self._export = export
        self._port = port
        self._served = served
        self._label = served.label
        self._read_only = read_only
        self._connections = connections
        self._start_timeout_s = start_timeout_s
        self._folder: PrivateFolder | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._stderr = b""
        self._drain: asyncio.Task[None] | None = None
        self._is_closing = self._has_ended_early = False

    @property
    def socket_path(self) -> Path:
        """The socket, where there is no port.  Exists while the server runs."""
        return self._in_folder("nbd.sock")

    def _in_folder(self, name: str) -> Path:
        if self._folder is None:
            raise RuntimeError("the server is not running")
        return self._folder.path / name

    @property
    def uri(self) -> str:
        """The NBD URI of the export."""
        return f"nbd+unix:///{quote(self._export)}?socket={quote(str(self.socket_path))}"

    @property
    def pid(self) -> int:
        """The process id of qemu-nbd."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    async def __aenter__(self) -> QemuNbd:
        """Start it, and return when it answers.

        Errors: ToolError (not installed, ended at once); StartTimeout.
        """
        try:
            await self._start()
            await self._wait_until_ready()
        except BaseException:
            # No client has written yet, and a qemu-nbd that is still starting loses a SIGTERM.
            await run_to_completion(self._stop(signal.SIGKILL))
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it: politely, if its image is wanted, then by force.

        Errors: ServerEnded if one that could write had; ToolError if it did not close the image properly.
        """
        try:
            if value is None and not self._read_only:
                await self._close()
        finally:
            by = signal.SIGTERM if self._read_only else signal.SIGKILL
            problem = await run_to_completion(self._stop(by))
        if not problem:
            return
        # One that only reads has nothing to lose: what was asked of it was answered, or is an error already.
        if value is None and not self._read_only:
            kind = ServerEnded if self._has_ended_early else ToolError
            raise kind(f"{self._label}: qemu-nbd {problem}")
        log.warning("%s: qemu-nbd %s", self._label, problem)

    async def ended(self) -> ServerEnded:
        """Wait until it ends by itself, and return that as an error."""
        assert self._process is not None
        status = await self._process.wait()
        if self._drain is not None:
            await asyncio.wait({self._drain})
        words = process.one_line("qemu-nbd", self._stderr) or "it gave no reason"
        return ServerEnded(f"{self._label}: qemu-nbd ended before its time (status {status}): {words}")

    def _listening(self) -> list[str]:
        if self._port is None:
            return [f"--socket={self.socket_path}"]
        folder = str(self._port.credentials).replace(",", ",,")
        return [
            f"--bind={self._port.address}",
            f"--port={self._port.port}",
            f"--object=tls-creds-x509,id=tls,endpoint=server,verify-peer=yes,dir={folder}",
            "--tls-creds=tls",
            # Written once it listens: that somebody answers at the port would not tell who.
            f"--pid-file={self._in_folder('pid')}",
        ]

    def _arguments(self, secrets: Mapping[str, int]) -> list[str]:
        return [
            "--persistent",
            f"--shared={self._connections + _SPARE_CONNECTIONS}",
            *self._listening(),
            f"--export-name={self._export}",
            # A point is synced as a whole at its commit: until then the page cache may collect what is written.
            "--cache=writeback",
            # TRIM is never used as zeroing, and would uncover what lies below: it does nothing.
            "--discard=ignore",
            # The client finds zeros itself.
            "--detect-zeroes=off",
            *(["--read-only"] if self._read_only else []),
            *(f"--object=secret,id={name},file=/dev/fd/{fd}" for name, fd in secrets.items()),
            "--",
            self._served.node(),
        ]

    async def _start(self) -> None:
        self._folder = PrivateFolder()
        with ExitStack() as stack, process.starting("qemu-nbd", action="serving the image", path=self._label):
            secrets = {name: stack.enter_context(_in_memory(text)) for name, text in self._served.secrets.items()}
            self._process = await asyncio.create_subprocess_exec(
                *process.command("qemu-nbd", *self._arguments(secrets)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=tuple(secrets.values()),
                env=process.environment(),
                # An interrupt from the terminal is for us: qemu-nbd has to outlive our clean stop.
                start_new_session=True,
            )
        self._drain = asyncio.create_task(self._collect_stderr(self._process))

    async def _collect_stderr(self, server: asyncio.subprocess.Process) -> None:
        assert server.stderr is not None
        while data := await server.stderr.read(4096):
            self._stderr = (self._stderr + data)[-process.STDERR_LIMIT :]

    async def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            if self._process.returncode is not None:
                raise await self._early_end(self._process.returncode)
            if self._port is not None and self._in_folder("pid").exists():
                return
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                if self._port is None:
                    async with asyncio.timeout(deadline - time.monotonic()):
                        await _greet(self.socket_path)
                    return
            await asyncio.sleep(_POLL_S)
        raise StartTimeout(f"{self._label}: qemu-nbd did not answer for {self._start_timeout_s:g} s")

    async def _early_end(self, status: int) -> NtxError:
        if self._drain is not None:
            await self._drain
        if self._port is not None and b"Address already in use" in self._stderr:
            return PortTaken(f"{self._label}: port {self._port.port} is taken by another program")
        return process.failure("qemu-nbd", self._stderr, status, action="serving the image", path=self._label)

    async def _close(self) -> None:
        """Let it close the image and end, if it runs."""
        if self._process is None or self._process.returncode is not None:
            return
        self._is_closing = True
        send(self._process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._process.wait()

    async def _stop(self, by: signal.Signals) -> str:
        """End the process and remove the socket.  Return what went wrong, "" if nothing."""
        problem = ""
        try:
            if self._process is not None:
                problem = await self._end(self._process, by)
        finally:
            if self._folder is not None:
                self._folder.close()
                self._folder = None
            self._process = None
        return problem

    async def _end(self, server: asyncio.subprocess.Process, by: signal.Signals) -> str:
        # While it closes it may end by itself, but not by a signal: that one is not ours.
        self._has_ended_early = server.returncode is not None and (not self._is_closing or server.returncode < 0)
        was_late = server.returncode is None and self._is_closing
        for signal_now in (by, signal.SIGKILL):
            send(server, signal_now)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await server.wait()
                    break
        if server.returncode is None:
            return "was killed, and is still in the kernel"
        if self._drain is not None:
            await self._drain
        words = process.one_line("qemu-nbd", self._stderr)
        if self._has_ended_early:
            return f"ended before its time (status {server.returncode}): {words or 'it gave no reason'}"
        if was_late:
            return f"did not close the image within {CLOSE_TIMEOUT_S:g} s and was killed: the image is not whole"
        if not self._is_closing or server.returncode == 0:
            return ""
        return f"failed to close the image (status {server.returncode}): {words}"


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[int]:
    """Give a file in memory that holds a secret, for a program to inherit: anybody can read its arguments."""
    with open(os.memfd_create("secret", os.MFD_CLOEXEC), "wb", buffering=0) as file:
        file.write(text.encode())
        yield file.fileno()


async def _greet(path: Path) -> None:
    """Take part in the handshake up to a polite end: only a server that has opened its image answers.

    Errors: OSError, EOFError.
    """
    reader, writer = await asyncio.open_unix_connection(os.fspath(path))
    try:
        greeting = await reader.readexactly(len(_GREETING) + 2)
        if not greeting.startswith(_GREETING):
            raise EOFError(f"no NBD greeting: {greeting!r}")
        writer.write(_ABORT)
        await reader.readexactly(_ABORT_REPLY_SIZE)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

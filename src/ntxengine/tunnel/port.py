"""A port of loopback into a tunnel, for a client that knows no sockets: each connection to it has an ssh of its own.

    client --- port, ours from the first moment to the last --- ssh -W --- sshd there --- far end

Other users of this machine see the port.  They cannot take it, for ssh never binds it: we do, and hand each connection
to ssh as its input and output.  They cannot go through it: the kernel says whose the other end of a connection is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from ntxengine.concurrency.completion import acquire_in_thread, run_to_completion, to_thread_joined
from ntxengine.errors import NtxError, machine_error
from ntxengine.files.private import PrivateFolder
from ntxengine.tunnel import words
from ntxengine.tunnel.command import command, environment, write_configuration
from ntxengine.tunnel.options import FAR_HOST as LOOPBACK
from ntxengine.tunnel.options import SshOptions
from ntxengine.tunnel.several import POLL_S, make_folder
from ntxengine.tunnel.words import Complaint, Route

log = logging.getLogger(__name__)

_CONNECTIONS = Path("/proc/net/tcp")
_ESTABLISHED = "01"
_MOST = 4
"""Connections at a time.  A client has one, and another when that is lost: the oldest makes room."""
_STOP_TIMEOUT_S = 5.0
_PAUSE_S = 0.2

Address = tuple[str, int]


@dataclass(eq=False)
class _Ssh:
    """The ssh of one connection, and the end of what it said."""

    process: asyncio.subprocess.Process
    said: bytearray = field(default_factory=bytearray)
    listening: asyncio.Task[None] | None = None

    @property
    def has_ended(self) -> bool:
        return self.listening is not None and self.listening.done()

    async def listen(self) -> None:
        """Take what it says, until it has ended."""
        assert self.process.stderr is not None
        while data := await self.process.stderr.read(4096):
            self.said += data
            del self.said[: -words.LIMIT]
        await self.process.wait()

    async def end(self) -> None:
        """Kill it and what it started, and wait for it."""
        with suppress(ProcessLookupError):
            if self.process.returncode is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        if self.listening is not None:
            await asyncio.wait({self.listening}, timeout=_STOP_TIMEOUT_S)
            self.listening.cancel()


class LoopbackPort:
    """`address` leads to the far end of `route`, between `__aenter__` and `__aexit__`, for programs of this user.

    Nobody logs in before somebody connects: what goes wrong then is a `complaint`.
    """

    def __init__(self, route: Route, options: SshOptions) -> None:
        self._route = route
        self._options = options
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._ssh: list[_Ssh] = []

    @property
    def address(self) -> Address:
        """Host and port."""
        assert self._listener is not None
        host, port = self._listener.getsockname()
        return host, port

    async def __aenter__(self) -> LoopbackPort:
        """Take a port.  Errors: OptionsError (of a key that others can use, say), MachineError, ToolError."""
        await to_thread_joined(self._options.check)
        self._folder = await acquire_in_thread(make_folder, give_back=PrivateFolder.close)
        try:
            self._configuration = write_configuration(self._folder.path, self._options)
            self._argv()  # says which program is missing
            self._listener = socket.create_server((LOOPBACK, 0))
            self._listener.setblocking(False)
        except BaseException:
            await run_to_completion(self._close())
            raise
        self._accepting = asyncio.create_task(self._accept(self._listener))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the port back, and end every ssh."""
        await run_to_completion(self._close())

    async def complaint(self, *, within_s: float) -> Complaint | None:
        """Return why the last connection was lost, as far as ssh knows; waits for it to say so."""
        deadline = asyncio.get_running_loop().time() + within_s
        while self._ssh:
            last = self._ssh[-1]
            if (last.has_ended and last.process.returncode != 0) or words.has_refused(bytes(last.said)):
                status = last.process.returncode if last.has_ended else None
                return words.explain(bytes(last.said), status, self._route, self._options)
            if last.has_ended or asyncio.get_running_loop().time() >= deadline:
                break
            await asyncio.sleep(POLL_S)
        return None

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, peer = await asyncio.get_running_loop().sock_accept(listener)
                with connection:
                    if await to_thread_joined(_is_ours, peer, self.address):
                        await self._hand_on(connection)
                    else:
                        log.warning("%s: a connection of another user was refused", self._route.label)
            except OSError as exc:  # whose it is cannot be told, or there is no descriptor for it: the next one may do
                log.warning("%s: a connection was refused: %s", self._route.label, exc.strerror or exc)
                await asyncio.sleep(_PAUSE_S)

    async def _hand_on(self, connection: socket.socket) -> None:
        """Let an ssh have the connection."""
        ended = [ssh for ssh in self._ssh if ssh.has_ended]
        for ssh in (ended or self._ssh)[: max(0, len(self._ssh) - _MOST + 1)]:
            await ssh.end()
            self._ssh.remove(ssh)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._argv(),
                stdin=connection.fileno(),
                stdout=connection.fileno(),
                stderr=asyncio.subprocess.PIPE,
                env=environment(),
                start_new_session=True,
            )
        except (OSError, NtxError) as exc:
            fault = machine_error("starting ssh failed", exc) if isinstance(exc, OSError) else None
            log.warning("%s: ssh cannot be started: %s", self._route.label, fault or exc)
            return
        ssh = _Ssh(process)
        ssh.listening = asyncio.create_task(ssh.listen())
        self._ssh.append(ssh)

    def _argv(self) -> list[str]:
        return command(self._route.login, self._options, self._configuration, "-W", str(self._route.far))

    async def _close(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait({self._accepting})
        if self._listener is not None:
            self._listener.close()
        await asyncio.gather(*(ssh.end() for ssh in self._ssh))
        await to_thread_joined(self._folder.close)


def _is_ours(peer: Address, here: Address) -> bool:
    """Say whether a connection to `here` is of a program of this user, by what the kernel says of its other end.

    One that is closed already is nobody's.
    """
    wanted = [_as_told(peer), _as_told(here), _ESTABLISHED]
    with open(_CONNECTIONS, encoding="ascii") as table:
        for line in table:
            fields = line.split()  # number, its address, the other's, state, ..., user at 7
            if fields[1:4] == wanted:
                return fields[7] == str(os.geteuid())
    return False


def _as_told(address: Address) -> str:
    """Return an address as the kernel's table has it: the number in the machine's order, the port in hexadecimal."""
    number = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{number:08X}:{address[1]:04X}"

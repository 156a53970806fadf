"""One ssh: started, waited for until its socket is there, started again when it ends, and ended.

    start ---> up: the socket exists, the login is done ---> ended by itself ---> wait ---> start
                                                        ---> close: killed, waited for

It holds nothing that is worth a polite end: what was written is safe when the NBD server has flushed it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import signal
from contextlib import suppress
from pathlib import Path

from ntxengine.concurrency.completion import run_to_completion
from ntxengine.errors import NtxError, PlaceError, ToolError, TransferTimeout, machine_error
from ntxengine.tunnel import words
from ntxengine.tunnel.command import command, environment
from ntxengine.tunnel.options import SshOptions
from ntxengine.tunnel.words import Complaint, Route

log = logging.getLogger(__name__)

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0

_POLL_S = 0.01
_FLAGS, _ACCEPTS = 3, 0x10000  # a field of /proc/net/unix, and __SO_ACCEPTCON in it
_LAST_WORDS_S = 1.0  # a program that ssh started may hold its stderr open
_STOP_TIMEOUT_S = 5.0
_RECENT_S = 10.0  # a job whose connection was lost ends when its other threads have


class Tunnel:
    """What is written to `socket` goes to the far end of `route`.

    With `is_reversed` the other way: what is written to a socket there, which ssh makes at the path of the far end,
    goes to `socket`, where somebody of ours listens.
    """

    def __init__(
        self,
        route: Route,
        options: SshOptions,
        socket: Path,
        configuration: Path | None,
        *,
        first_wait_s: float = FIRST_WAIT_S,
        is_reversed: bool = False,
        lost_after_s: float = math.inf,
    ) -> None:
        """`lost_after_s`: one that is down for so long is not started again."""
        self._is_reversed = is_reversed
        self.socket = socket
        self._route = route
        self._options = options
        self._configuration = configuration
        self._first_wait_s = first_wait_s
        self._lost_after_s = lost_after_s
        self._process: asyncio.subprocess.Process | None = None
        self._said = b""
        self._listener: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[NtxError] | None = None
        self._last: Complaint | None = None
        self._last_at = -math.inf

    @property
    def pid(self) -> int:
        """The process id of ssh, 0 if there is none."""
        return 0 if self._process is None else self._process.pid

    @property
    def complaint(self) -> Complaint | None:
        """Why it does not do, or did not until a moment ago; None if nothing is known against it."""
        has_said_all = self._listener is not None and self._listener.done()
        if self._process is not None and self._process.returncode is not None and has_said_all:
            return self._explain(self._process.returncode)
        if words.has_refused(self._said):
            return self._explain(None)
        is_recent = asyncio.get_running_loop().time() - self._last_at < _RECENT_S
        return self._last if is_recent else None

    async def start(self, timeout_s: float) -> None:
        """Start ssh, and return when it has logged in; from then on it is started again when it ends.

        Errors: PlaceError with the code that ssh's complaint is like, TransferTimeout, ToolError, MachineError.
        """
        try:
            await self._start(timeout_s)
        except BaseException:
            await run_to_completion(self._end())
            raise
        self._keeper = asyncio.create_task(self._keep())

    async def ended(self) -> NtxError:
        """Wait until it is not started again, though nobody closed it; return why.  After `start`."""
        assert self._keeper is not None
        return await asyncio.shield(self._keeper)

    async def close(self) -> None:
        """End it."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        await self._end()

    async def _start(self, timeout_s: float) -> None:
        route, options = self._route, self._options
        if self._is_reversed:
            # That it is made there is said only with -v.
            forward: tuple[str, ...] = ("-v", "-N", "-R", f"{route.far}:{self.socket}")
        else:
            forward = ("-N", "-L", f"{self.socket}:{route.far}")
            # One that was killed leaves it, and it would be taken for that of the new one.
            self.socket.unlink(missing_ok=True)
        argv = command(route.login, options, self._configuration, *forward)
        if self._listener is not None:
            self._listener.cancel()
        self._said = b""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=environment(),
                # An interrupt from the terminal is for us; and a jump host's ssh is ended with this one.
                start_new_session=True,
            )
        except OSError as exc:
            action = f"{self._route.label}: ssh cannot be started"
            raise machine_error(action, exc) or ToolError(f"{action}: {exc.strerror or exc}") from exc
        self._listener = asyncio.create_task(self._listen(self._process))
        try:
            async with asyncio.timeout(timeout_s):
                await self._wait_until_up(self._process)
        except TimeoutError as exc:
            raise TransferTimeout(f"{self._route.label}: ssh did not log in within {timeout_s:g} s") from exc

    async def _wait_until_up(self, ssh: asyncio.subprocess.Process) -> None:
        while not self._is_up():
            if ssh.returncode is not None:
                await self._hear_out()
                found = self._explain(ssh.returncode)
                raise PlaceError(f"{self._route.label}: {found.text}", errno=found.code)
            await asyncio.sleep(_POLL_S)

    def _is_up(self) -> bool:
        return words.is_made_there(self._said) if self._is_reversed else is_listening(self.socket)

    async def _listen(self, ssh: asyncio.subprocess.Process) -> None:
        assert ssh.stderr is not None
        while data := await ssh.stderr.read(4096):
            self._said = (self._said + data)[-words.LIMIT :]

    async def _hear_out(self) -> None:
        if self._listener is not None:
            await asyncio.wait({self._listener}, timeout=_LAST_WORDS_S)

    def _explain(self, status: int | None) -> Complaint:
        return words.explain(self._said, status, self._route, self._options)

    async def _keep(self) -> NtxError:
        """Start it again whenever it ends, until the reason is one that will not go away, or that stays too long."""
        loop = asyncio.get_running_loop()
        wait_s, up = self._first_wait_s, True
        while True:
            assert self._process is not None
            await self._process.wait()
            await self._hear_out()
            self._last = self._explain(self._process.returncode)
            self._last_at = loop.time()
            if up:
                up, lost_at = False, self._last_at
            left_s = lost_at + self._lost_after_s - self._last_at
            if left_s <= 0:
                return PlaceError(
                    f"{self._route.label}: {self._last.text}; lost for {self._last_at - lost_at:.0f} s, and given up",
                    errno=self._last.code,
                )
            wait_s = min(wait_s, left_s)
            log.warning("%s: %s; starting ssh again in %.1f s", self._route.label, self._last.text, wait_s)
            await asyncio.sleep(wait_s)
            try:
                await self._start(LONGEST_WAIT_S)
                wait_s, up = self._first_wait_s, True
            except TransferTimeout:
                await self._end(keeps_process=True)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            except PlaceError as error:
                if error.errno == errno.EACCES:  # who is refused and comes again is locked out
                    log.warning("%s", error)
                    return error
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            except NtxError as error:
                log.warning("%s", error)
                return error

    async def _end(self, *, keeps_process: bool = False) -> None:
        """Kill ssh and what it started, and wait for it."""
        ssh = self._process
        if ssh is not None:
            with suppress(ProcessLookupError):
                if ssh.returncode is None:
                    os.killpg(ssh.pid, signal.SIGKILL)
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_TIMEOUT_S):
                    await ssh.wait()
        await self._hear_out()
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait({self._listener})
            self._listener = None
        if not keeps_process:
            self._process = None


def is_listening(path: Path) -> bool:
    """Say whether somebody listens at a unix socket: its file is there a moment before."""
    try:
        with open("/proc/net/unix", "rb") as table:
            found = [line.split(maxsplit=7) for line in table if line.rstrip(b"\n").endswith(b" " + os.fsencode(path))]
    except OSError:
        return path.exists()
    return any(int(fields[_FLAGS], 16) & _ACCEPTS for fields in found)

"""The iSCSI target of a simulator: one tgtd that serves the disks of volume groups.

    127.x.y.z:3260         its own address, made of the state folder's name: the data services IP of the cluster
    STATE/iscsi/tgtd.0     its control socket; STATE/iscsi/log is what it says

It is started with the first volume group, and the kernel kills it when we die.  Targets are removed before the daemon
is stopped: one that has targets ignores every signal but KILL.

LIMIT: a secret stands in the arguments of tgtadm for some milliseconds; tgtd has no other way in.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import signal
import socket
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from contextlib import suppress
from pathlib import Path

from ntxengine.concurrency.signals import send
from ntxengine.sim.daemon import ENVIRONMENT, Daemon, absent
from ntxengine.sim.model import Initiator, MadeGroup
from ntxengine.sim.tasks import TaskFailure

PORT = 3260
IQN = "iqn.2010-06.com.nutanix:"
FIRST_LUN = 1
"""tgtd keeps 0 for itself, so the disks of a volume group are counted from 1 here."""

_PROGRAMS = {"tgtd": "tgt", "tgtadm": "tgt", "setpriv": "util-linux"}
_ENVIRONMENT = ENVIRONMENT | {"TGT_IPC_SOCKET": "tgtd"}
"""The control socket is named relative to the folder: its whole path may be longer than a socket's can be."""
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 3.0

_log = logging.getLogger(__name__)


class Target:
    """tgtd; where it is not installed, nothing is served, and one warning says so."""

    def __init__(self, state_dir: Path) -> None:
        self._daemon = Daemon(state_dir / "iscsi")
        self.address = _address(state_dir)
        self._starting = asyncio.Lock()
        self._served: set[int] = set()
        self._absent = absent(_PROGRAMS)
        self._has_warned = False
        self._waiting: asyncio.Server | None = None

    @property
    def pid(self) -> int | None:
        """The process id of tgtd, None while it does not run."""
        return self._daemon.pid

    async def listen(self) -> None:
        """Be there, and end each connection, as tgtd does while it has no target: it is started with the first one."""
        if not self._absent:
            with suppress(OSError):  # another process has the address: it is told when there is something to serve
                self._waiting = await asyncio.start_server(lambda _, writer: writer.close(), self.address, PORT)

    async def serve(self, group: MadeGroup, files: dict[int, Path]) -> None:
        """Offer a volume group: `files` are its disks by their numbers.  Nobody is let in yet."""
        if not await self._is_running():
            return
        tid = str(group.serial)
        self._served.add(group.serial)
        await self._tell("new", "target", "--tid", tid, "-T", IQN + group.target)
        for number, file in files.items():
            lun = ("--tid", tid, "--lun", str(number))
            await self._tell("new", "logicalunit", *lun, "-b", str(file))
            await self._tell("update", "logicalunit", *lun, "--params", "thin_provisioning=1")

    async def admit(self, group: MadeGroup, initiator: Initiator, secret: str) -> None:
        """Let an initiator log in, by its name and `secret`; without a secret by its name alone."""
        if group.serial not in self._served:
            return
        tid = str(group.serial)
        if secret:
            with suppress(TaskFailure):  # it has an account already
                await self._tell("new", "account", "--user", initiator.name, "--password", secret)
            await self._tell("bind", "account", "--tid", tid, "--user", initiator.name)
        await self._tell("bind", "target", "--tid", tid, "-Q", initiator.name)

    async def expel(self, group: MadeGroup, initiator: Initiator, *, is_last: bool) -> None:
        """Let an initiator in no longer; `is_last` if it has no other volume group either."""
        if group.serial not in self._served:
            return
        tid = str(group.serial)
        await self._tell("unbind", "target", "--tid", tid, "-Q", initiator.name)
        if initiator.secret:
            await self._tell("unbind", "account", "--tid", tid, "--user", initiator.name)
            if is_last:
                await self._tell("delete", "account", "--user", initiator.name)

    async def withdraw(self, group: MadeGroup) -> None:
        """Offer a volume group no longer, whoever uses it."""
        if group.serial not in self._served:
            return
        await self._tell("delete", "target", "--tid", str(group.serial), "--force")
        self._served.discard(group.serial)

    async def stop(self) -> None:
        """End tgtd."""
        await self._stop_listening()
        if self.pid is not None:
            with suppress(TaskFailure, TimeoutError):
                async with asyncio.timeout(_STOP_TIMEOUT_S):
                    for serial in sorted(self._served):
                        await self._tell("delete", "target", "--tid", str(serial), "--force")
                    await self._tell("delete", "system")
                    await self._daemon.ended()
        await self._daemon.kill()
        self._served.clear()

    async def _stop_listening(self) -> None:
        if self._waiting is not None:
            # Not by closing alone: a process that was forked just now has the sockets too until it begins its program,
            # and tgtd could not have the address meanwhile.
            for each in self._waiting.sockets:
                each.shutdown(socket.SHUT_RD)
            self._waiting.close()
            await self._waiting.wait_closed()
            self._waiting = None

    async def _is_running(self) -> bool:
        """Start tgtd where it does not run; return whether it can be used at all."""
        if self._absent:
            if not self._has_warned:
                _log.warning("volume groups are not served over iSCSI: install the packages: %s", self._absent)
                self._has_warned = True
            return False
        async with self._starting:
            if self.pid is None:
                await self._start()
        return True

    async def _start(self) -> None:
        await self._stop_listening()
        command = ("tgtd", "-f", "-C", "0", "-t", "1", "--iscsi", f"portal={self.address}:{PORT}")
        if not await self._daemon.start(
            *command, environment=_ENVIRONMENT, is_ready=self._is_ready, timeout_s=_START_TIMEOUT_S
        ):
            raise TaskFailure(f"tgtd does not start at {self.address}:{PORT}: {self._daemon.said()[0]}")

    async def _is_ready(self) -> bool:
        """Return whether it serves; one that goes on without an address, which it cannot have, is ended."""
        try:
            portals = await self._tell("show", "portal")
        except TaskFailure:
            return False
        if self.address not in portals:
            await self._daemon.kill()
            return False
        return True

    async def _tell(self, verb: str, mode: str, *arguments: str) -> str:
        """Tell tgtd something, and return what it says to that.  Errors: TaskFailure."""
        teller = await asyncio.create_subprocess_exec(
            "tgtadm", "-C", "0", "--lld", "iscsi", "--op", verb, "--mode", mode, *arguments,
            stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, cwd=self._daemon.folder, env=_ENVIRONMENT,
        )  # fmt: skip
        try:
            said, _ = await teller.communicate()
        finally:
            if teller.returncode is None:  # cancelled: it waits for a daemon that does not answer
                send(teller, signal.SIGKILL)
                await teller.wait()
        text = said.decode(errors="replace").strip()
        if teller.returncode != 0:
            raise TaskFailure(f"iSCSI target: {verb} {mode}: {text}", code="VOL-10000")
        return text


def _address(state_dir: Path) -> str:
    """Return the loopback address of a simulator: none of 127.0, and always the same for one state folder."""
    digest = hashlib.sha256(os.fsencode(state_dir)).digest()
    return f"127.{1 + digest[0] % 254}.{digest[1]}.{1 + digest[2] % 254}"

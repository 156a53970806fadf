"""An iSCSI portal behind an ssh server.

    qemu-nbd --- port of loopback --- ssh --- sshd there --- data services address
                                  --- ssh --- sshd there --- the CVM that hands the login on to

A target hands a login on to the CVM that has the disk, by an address that qemu would then go to without us.  So we ask
the target first, as qemu is about to, and let qemu log in where that leads.

libiscsi knows no unix sockets: so it is a port, which only programs of this user get through.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace

from ntxengine.attach.initiator import Waiting
from ntxengine.attach.portal import (
    HEADER_SIZE,
    LOGIN_ANSWER,
    LOOK_TIMEOUT_S,
    Portal,
    discovery_keys,
    login_request,
    parse_portal,
)
from ntxengine.errors import AttachError, OptionsError
from ntxengine.images.served import IscsiLun
from ntxengine.tunnel.options import FarEnd, SshGateway
from ntxengine.tunnel.port import LoopbackPort
from ntxengine.tunnel.words import Route

_MOST_HOPS = 3
_MOST_TEXT = 8192  # bytes of keys in one answer, as RFC 7143 has it before more is agreed on
_REDIRECT, _INITIATOR_ERROR, _TARGET_ERROR = 1, 2, 3  # classes of the status of a login
_NOT_FOUND = 3
_REASON_S = 0.5


@dataclass(frozen=True)
class _Way:
    """Where a portal can be reached here; `label` is what messages call it."""

    label: str
    port: LoopbackPort

    @property
    def portal(self) -> Portal:
        return Portal(*self.port.address)


async def portal_problem_through(
    gateway: SshGateway, portal: Portal, initiator: str, *, timeout_s: float = LOOK_TIMEOUT_S
) -> str:
    """As portal_problem, from the ssh server.  Errors: OptionsError (its key, say), ToolError, MachineError."""
    async with _opened(gateway, portal) as way:
        try:
            await _login(way, discovery_keys(initiator), timeout_s)
        except AttachError as error:
            return str(error)
        except TimeoutError:
            return f"{way.label} takes the connection and says nothing for {timeout_s:g} s"
    return ""  # also where it ends the connection, as some do that have no target for us yet


@asynccontextmanager
async def lun_through(gateway: SshGateway, lun: IscsiLun, waiting: Waiting) -> AsyncIterator[IscsiLun]:
    """Give the disk as it can be reached here; a target that is there only after a while is waited for.

    Errors: AttachError with ssh's reason, ToolError, MachineError.
    """
    portal = parse_portal(lun.portal, "--data-services")
    keys = f"InitiatorName={lun.initiator}\0SessionType=Normal\0AuthMethod=CHAP,None\0TargetName={lun.target}\0"
    async with AsyncExitStack() as stack:
        try:
            way = await stack.enter_async_context(_opened(gateway, portal))
            for _ in range(_MOST_HOPS):
                further = await _handed_on(way, keys, waiting)
                if further is None:
                    break
                way = await stack.enter_async_context(_opened(gateway, further))
        except AttachError as error:
            raise AttachError(f"{lun.label}: {error}") from error
        yield replace(lun, portal=str(way.portal))


@asynccontextmanager
async def _opened(gateway: SshGateway, portal: Portal) -> AsyncIterator[_Way]:
    route = Route(f"{portal} through {gateway.login}", gateway.login, FarEnd(portal.host, portal.port))
    async with LoopbackPort(route, gateway.options) as port:
        yield _Way(route.label, port)


async def _handed_on(way: _Way, keys: str, waiting: Waiting) -> Portal | None:
    """Return the portal that a login is handed on to, None if it is not; also if there is no answer: qemu says why."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + waiting.appear_s
    while True:
        try:
            answer = await _login(way, keys, waiting.answer_s)
        except TimeoutError:
            return None
        if answer is not None and answer.status == _REDIRECT:
            return _address_in(answer.keys)
        if answer is None or not answer.is_late or loop.time() >= deadline:
            return None
        await asyncio.sleep(waiting.poll_s)


@dataclass(frozen=True)
class _Answer:
    """The answer to a login: class and detail of its status, and its keys."""

    status: int
    detail: int
    keys: bytes

    @property
    def is_late(self) -> bool:
        """Whether the target may be there in a moment."""
        return self.status == _TARGET_ERROR or (self.status, self.detail) == (_INITIATOR_ERROR, _NOT_FOUND)


async def _login(way: _Way, keys: str, timeout_s: float) -> _Answer | None:
    """Begin to log in, and return the answer; None if it is none.

    Errors: AttachError with ssh's reason; TimeoutError.
    """
    writer = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(*way.port.address)
            writer.write(login_request(keys))
            header = await reader.readexactly(HEADER_SIZE)
            size = int.from_bytes(header[5:8], "big")
            if header[0] & 0x3F != LOGIN_ANSWER or size > _MOST_TEXT:
                return None
            return _Answer(header[36], header[37], await reader.readexactly(size))
    except (OSError, asyncio.IncompleteReadError) as exc:
        if found := await way.port.complaint(within_s=_REASON_S):
            raise AttachError(f"{way.label}: {found.text}") from exc
        if isinstance(exc, TimeoutError):
            raise
        return None
    finally:
        if writer is not None:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def _address_in(text: bytes) -> Portal | None:
    """Return the TargetAddress among the keys of an answer: HOST[:PORT][,GROUP]."""
    for pair in text.decode("utf-8", "replace").split("\0"):
        key, _, value = pair.partition("=")
        if key == "TargetAddress":
            try:
                return parse_portal(value.partition(",")[0], "TargetAddress")
            except OptionsError as exc:
                raise AttachError(f"the target hands the login on to a place that is none: {exc}") from exc
    return None

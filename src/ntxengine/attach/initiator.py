"""Logging in to an iSCSI target, so that its disk can be read here.

| initiator  | the disk is            | is used                                                             |
|------------|------------------------|---------------------------------------------------------------------|
| `Qemu`     | an export of qemu-nbd  | where qemu has a driver for iSCSI: no root, no kernel module        |
| `Kernel`   | a block device         | where it has none, and iscsiadm and its kernel modules are there    |

A target, or its disk, that is there only after a while is waited for.
"""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from ntxengine.attach.export import START_TIMEOUT_S, Export, export_of
from ntxengine.errors import AttachError, ToolError
from ntxengine.images import qemu_img
from ntxengine.images.qemu_nbd import StartTimeout
from ntxengine.images.served import IscsiLun

APPEAR_TIMEOUT_S = 60.0
"""From the end of Prism's task to a disk that can be read."""
POLL_S = 0.5


@dataclass(frozen=True)
class Waiting:
    """How long is waited for a disk that is not there yet."""

    appear_s: float = APPEAR_TIMEOUT_S
    answer_s: float = START_TIMEOUT_S
    poll_s: float = POLL_S


WAITING = Waiting()


class Initiator(ABC):
    """One way to log in."""

    def __init__(self, waiting: Waiting) -> None:
        self.waiting = waiting

    @abstractmethod
    async def missing(self) -> str:
        """Return what this machine lacks for it, "" if nothing."""

    @abstractmethod
    def open(self, lun: IscsiLun) -> AbstractAsyncContextManager[Export]:
        """Log in and wait for the disk; log out on exit.  Errors: AttachError, ToolError."""


@dataclass(frozen=True)
class _Refusal:
    """What a failure to log in means.  `words` are those of libiscsi; `passes`: it may be another in a moment."""

    words: re.Pattern[str]
    meaning: str
    passes: bool


_PORTS = "let TCP 3260 through to the data services address, and TCP 3205 to every CVM, which the login is handed on to"
_NO_CAPACITY = "the target offers the disk without a size: try again, or another way (--source)"
_REFUSALS = (
    _Refusal(
        re.compile("Authentication failure"),
        "the target refuses the CHAP secret that its volume group was made with: does something else change the "
        "initiators of volume groups?  Nothing was read; try again, or another way (--source)",
        passes=False,
    ),
    _Refusal(
        re.compile("Target not found|Authorization failure|Target removed"),
        "there is no such target for us, although the volume group was made and we were admitted to it: is that the "
        "data services address of the VM's cluster (--data-services)?",
        passes=True,
    ),
    _Refusal(
        re.compile("LOGICAL_UNIT_NOT_SUPPORTED|LOGICAL_UNIT_NOT_READY|INCORRECT_LUN"),
        "the target does not have the disk",
        passes=True,
    ),
    _Refusal(
        re.compile("iscsi_service|[Cc]onnect\\(|Can not reconnect|Service unavailable|Failed to start full connect"),
        f"no connection: {_PORTS}",
        passes=True,
    ),
)


class Qemu(Initiator):
    """qemu itself, in user space."""

    async def missing(self) -> str:
        """Return what to install."""
        return await qemu_img.no_driver("iscsi")

    @asynccontextmanager
    async def open(self, lun: IscsiLun) -> AsyncIterator[Export]:
        """As Initiator.open."""
        async with AsyncExitStack() as stack:
            yield await self._appear(stack, lun)

    async def _appear(self, stack: AsyncExitStack, lun: IscsiLun) -> Export:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.waiting.appear_s
        while True:
            cause: ToolError | None = None
            try:
                async with AsyncExitStack() as attempt:
                    export = await attempt.enter_async_context(export_of(lun, timeout_s=self.waiting.answer_s))
                    # The name may be there before the capacity is.
                    if export.size > 0:
                        stack.push_async_exit(attempt.pop_all())
                        return export
                problem = _NO_CAPACITY
            except StartTimeout as error:
                raise AttachError(f"{lun.label}: no answer in {self.waiting.answer_s:g} s: {_PORTS}") from error
            except ToolError as error:
                refusal = next((one for one in _REFUSALS if one.words.search(str(error))), None)
                if refusal is None:
                    raise
                problem, cause = refusal.meaning, error
                if not refusal.passes:
                    raise AttachError(f"{lun.label}: {problem}") from error
            if loop.time() >= deadline:
                raise AttachError(f"{lun.label}: {problem} (waited {self.waiting.appear_s:g} s for it)") from cause
            await asyncio.sleep(self.waiting.poll_s)

"""A guest that is shut down for its last cycle, and runs again if that fails.

    asked by ACPI -> off, within a limit -> the last cycle -> cut over: it stays off
                  |<---- a failure: it is powered on ---->|

LIMIT: a guest that was asked and takes longer than the limit may still shut down afterwards; Prism cannot take it back.
       After SIGKILL nobody powers it on: it is off, and the next `ntx cutover` goes on from there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from ntxengine.concurrency.completion import run_to_completion
from ntxengine.errors import NtxError, PrismStatusError, PrismTimeout
from ntxengine.events import Emitter, Event, Stage, StageBegan, Subject, Warned
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import Vm
from ntxengine.units import format_span

GRACE_S = 60.0
"""How long a guest that was asked may take to be off before it is powered on again, when the cutover has failed."""

log = logging.getLogger(__name__)


@dataclass
class Stopped:
    """How long the guest took to shut down."""

    seconds: float = 0.0


@asynccontextmanager
async def guest_stopped(
    prism: Prism, vm: Vm, *, timeout_s: float, is_final: Callable[[], Awaitable[bool]], emit: Emitter
) -> AsyncIterator[Stopped]:
    """Shut the guest of `vm` down for the block; if that fails, power it on again, unless `is_final` says otherwise.

    Errors: PrismTimeout: it is not off within `timeout_s`; TaskFailed, PrismStatusError: it cannot be asked.
    """
    subject: Subject = {"vm_id": vm.id, "vm_name": vm.name}
    stopping = _Stopping(prism, vm, timeout_s, emit, subject)
    try:
        yield await stopping.stop()
    except BaseException:
        if not await run_to_completion(_is_final(is_final)):
            await run_to_completion(stopping.back())
        raise


async def _is_final(is_final: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await is_final()
    except NtxError:
        return False


class _Stopping:
    def __init__(self, prism: Prism, vm: Vm, timeout_s: float, emit: Emitter, subject: Subject) -> None:
        self._prism = prism
        self._vm = vm
        self._timeout_s = timeout_s
        self._emit = emit
        self._subject = subject
        self._was_asked = False
        self._did_not_listen = False

    async def stop(self) -> Stopped:
        self._emit(StageBegan(stage=Stage.SHUT_DOWN, **self._subject))
        began_s = time.monotonic()
        self._was_asked = True
        try:
            await self._prism.shut_down_guest(self._vm)
        except PrismStatusError as error:
            self._was_asked = error.status >= 500  # then it may have been, as where a task failed
            raise
        if not await self._prism.becomes(self._vm, "off", within_s=self._timeout_s):
            self._did_not_listen = True
            limit = format_span(timedelta(seconds=self._timeout_s))
            raise PrismTimeout(
                f"VM {self._vm.name!r} ({self._vm.id}): its guest was asked to shut down, and runs after {limit}: shut "
                f"it down by hand and cut over again, or allow it longer (--shutdown-timeout); it may still shut down"
            )
        return Stopped(round(time.monotonic() - began_s, 3))

    async def back(self) -> None:
        """Let it run again.  A failure is told, not raised: that of the cutover is the one to raise."""
        if not self._was_asked:
            return
        try:
            grace_s = 0.0 if self._did_not_listen else GRACE_S
            if await self._prism.becomes(self._vm, "off", within_s=grace_s):
                self._tell(StageBegan(stage=Stage.POWER_ON, **self._subject))
                await self._prism.power_on(self._vm)
        except NtxError as error:
            text = f"VM {self._vm.name!r} was shut down and cannot be powered on again, do it in Prism: {error}"
            log.warning("%s", text)
            self._tell(Warned(text=text, **self._subject))

    def _tell(self, event: Event) -> None:
        """Tell an event to whoever may be the one that failed: that keeps no VM off."""
        with suppress(Exception):
            self._emit(event)

"""Waiting for the power state of a VM."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ntxengine.errors import PrismTimeout
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.models import PowerState, Vm
from ntxengine.prism.tasks import Deadline, poll

ON_TIMEOUT_S = 120.0
"""How long Prism may take to let a VM run."""


async def power_becomes(
    read: Callable[[str], Awaitable[Vm]], vm: Vm, wanted: PowerState, clock: Clock, within_s: float
) -> bool:
    """As PowerStates.becomes.  `read` asks for a VM by its id."""

    async def look() -> bool | None:
        return True if (await read(vm.id)).power_state == wanted else None

    try:
        return await poll(look, what=f"VM {vm.name!r} being {wanted}", deadline=Deadline(clock, within_s))
    except PrismTimeout:
        return False


async def must_run(read: Callable[[str], Awaitable[Vm]], vm: Vm, clock: Clock) -> None:
    """Wait until a VM runs that was asked to.  Errors: PrismTimeout."""
    if not await power_becomes(read, vm, "on", clock, ON_TIMEOUT_S):
        raise PrismTimeout(f"VM {vm.name!r} ({vm.id}) was powered on, and does not run after {ON_TIMEOUT_S:g} s")

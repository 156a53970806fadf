"""Captures of several VMs that wait for each other, so that one recovery point freezes all of them at one moment.

    each VM   lock, plan, begin -> [all have come] -> record -> [all have recorded] -> copy, commit, release: alone
                                    check, agree                 one recovery point

One that fails before the recovery point is asked for lets all fail: a group that lacks a VM is not what was asked for.
After it each is on its own.  A VM that is captured alone is one that waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Generic, TypeVar

from ntxengine.capture.freeze import freeze
from ntxengine.capture.options import CaptureOptions
from ntxengine.capture.plan import CapturePlan
from ntxengine.errors import OptionsError, OtherFailed
from ntxengine.prism.cluster import RecoveryPoints
from ntxengine.prism.models import RecoveryPoint, Vm
from ntxengine.repository import StoredMember

Brought = TypeVar("Brought")
Made = TypeVar("Made")

Warn = Callable[[str], None]


class _Barrier(Generic[Brought, Made]):
    """So many wait for each other, each with something of its own; the last makes of it what all get."""

    def __init__(self, count: int, make: Callable[[list[Brought]], Awaitable[Made]]) -> None:
        self._count = count
        self._make = make
        self._brought: list[Brought] = []
        self._made: asyncio.Future[Made] = asyncio.get_running_loop().create_future()
        self._made.add_done_callback(lambda made: made.cancelled() or made.exception())

    async def wait(self, brought: Brought) -> Made:
        """Wait for the others and return what is made.  Errors: as `make`, and what `fail` was told."""
        self._brought.append(brought)
        if len(self._brought) == self._count and not self._made.done():
            try:
                self._made.set_result(await self._make(self._brought))
            except asyncio.CancelledError:
                self._made.cancel()
                raise
            except BaseException as error:
                self._made.set_exception(error)
                raise
        return await asyncio.shield(self._made)

    def fail(self, error: Exception) -> None:
        """Let all who wait, or will, fail."""
        if not self._made.done():
            self._made.set_exception(error)


class Gathering:
    """The captures of `vms`, each of which calls `agree`, then `freeze`.  At most `at_once` of them copy at a time."""

    def __init__(self, prism: RecoveryPoints, vms: Sequence[Vm], options: CaptureOptions, *, at_once: int) -> None:
        self._prism = prism
        self._options = options
        self._order = [vm.id for vm in vms]
        self._members: tuple[StoredMember, ...] = ()
        self._plans: list[CapturePlan] = []
        self._planned: _Barrier[tuple[CapturePlan, str], None] = _Barrier(len(vms), self._agree)
        self._frozen: _Barrier[tuple[str, Warn], dict[str, RecoveryPoint]] = _Barrier(len(vms), self._freeze)
        self._turns = asyncio.Semaphore(at_once)
        self._readers: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def members(self) -> tuple[StoredMember, ...]:
        """The VMs, each with the point that it is to become; none if it is alone.  Known once they have agreed."""
        return self._members

    @property
    def is_of_several(self) -> bool:
        """Whether one recovery point is to hold several VMs."""
        return len(self._order) > 1

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Return the context in which one of them copies."""
        return self._turns

    def reading(self, disk_point_id: str) -> AbstractAsyncContextManager[None]:
        """Return the context in which one of them has a disk of a volume group attached that others have too.

        What is attached is called after the disk, so two at once would take each other's away.
        """
        return self._readers[disk_point_id]

    async def agree(self, plan: CapturePlan, point_id: str) -> CapturePlan:
        """Wait until all are planned; return the plan with what is asked for of all.

        Errors: OptionsError, NtxError (they cannot be frozen together), OtherFailed.
        """
        await self._planned.wait((plan, point_id))
        return next(each for each in self._plans if each.vm.id == plan.vm.id)

    async def freeze(self, vm_id: str, name: str, warn: Warn) -> RecoveryPoint:
        """Wait until all are recorded, and freeze them; return the recovery point as this VM sees it.

        Errors: as Prism.create_shared_recovery_point; OtherFailed.
        """
        return (await self._frozen.wait((name, warn)))[vm_id]

    def fail(self, vm: Vm, error: Exception) -> None:
        """Tell the others, if they wait, that one of them has failed."""
        if isinstance(error, OtherFailed):
            return
        other = OtherFailed(f"nothing was frozen: VM {vm.name!r} ({vm.id}), which was to be frozen with it, failed")
        other.__cause__ = error
        self._planned.fail(other)
        self._frozen.fail(other)

    async def _agree(self, brought: list[tuple[CapturePlan, str]]) -> None:
        if len(brought) == 1:
            self._plans = [brought[0][0]]
            return
        brought = sorted(brought, key=lambda each: self._order.index(each[0].vm.id))
        plans = plans_together(self._prism, [plan for plan, _ in brought])
        self._members = tuple(StoredMember(plan.vm.id.lower(), plan.vm.name, point_id) for plan, point_id in brought)
        self._plans = plans

    async def _freeze(self, brought: list[tuple[str, Warn]]) -> dict[str, RecoveryPoint]:
        def warn_all(text: str) -> None:
            for _, warn in brought:
                warn(text)

        name, _ = brought[0]  # that of all
        points = await freeze(self._prism, self._plans, name=name, options=self._options, warn=warn_all)
        return {plan.vm.id: point for plan, point in zip(self._plans, points, strict=True)}


def check_together(prism: RecoveryPoints, vms: Sequence[Vm]) -> None:
    """Refuse VMs that one recovery point cannot hold, or that need none together.  Errors: OptionsError."""
    if len(vms) < 2:
        raise OptionsError(f"{len(vms)} VM to be frozen together: give two or more, or capture it alone")
    if obstacle := prism.shared_obstacle(vms):
        raise OptionsError(f"these VMs cannot be frozen together: {obstacle}; nothing was made")


def plans_together(prism: RecoveryPoints, plans: Sequence[CapturePlan]) -> list[CapturePlan]:
    """Return the plans as one recovery point carries them out.  Errors: as check_together."""
    check_together(prism, [plan.vm for plan in plans])
    return _in_agreement(plans)


def _in_agreement(plans: Sequence[CapturePlan]) -> list[CapturePlan]:
    """Return the plans with one consistency for all: a recovery point has one, and what one VM cannot none can."""
    unable = next((plan for plan in plans if plan.consistency == "crash"), None)
    if unable is None:
        return list(plans)
    why = f"VM {unable.vm.name!r}, which is frozen at the same moment: {unable.consistency_reason}"
    return [
        plan
        if plan.consistency == "crash"
        else replace(plan, consistency="crash", consistency_reason=why, vss=None, quiescing="")
        for plan in plans
    ]

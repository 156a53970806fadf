"""Pruning the VMs of a repository, one after another, each while nobody captures it.

    what a killed prune left is brought to its end
    per point that takes over others:  new images, read back  ->  point.json  ->  what is on top of it  ->  removal
    points that nothing is on top of are removed, unless somebody reads from them

point.json alone says which image is a disk, and is replaced for all disks of a point at once: whoever reads finds the
old images or the new ones, and both hold the same bytes.  What cannot be removed now is removed by the next prune.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from ntxengine.concurrency.completion import run_to_completion
from ntxengine.concurrency.parallel import map_limited
from ntxengine.dataplane.bandwidth import Bandwidth, Rate
from ntxengine.dataplane.buffers import split_buffers
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.errors import LockedError, NtxError, OptionsError, TargetError
from ntxengine.events import Emitter, OnEvent, Removed, Subject, log_event
from ntxengine.files.free_space import free_bytes
from ntxengine.prune.cost import Cost, cost_of
from ntxengine.prune.merge import Merging, merge_disk, merged_point
from ntxengine.prune.plan import Merge, Plan, plan
from ntxengine.repository import Point, Repository, Upkeep, VmLock, all_points
from ntxengine.units import format_size

log = logging.getLogger(__name__)

DEFAULT_MAX_WASTE = 0.2
_LOOK_S = 1.0


@dataclass(frozen=True)
class PruneOptions:
    """How to prune.

    `max_waste`: a merge is put off until it frees at least this part (0..1) of what it has to write.  `parallel`: disks
    of a point at a time.  `bandwidth`: as CopyOptions has it.  `wait_s`: how long to wait for a VM that is locked.
    """

    max_waste: float = DEFAULT_MAX_WASTE
    parallel: int = 2
    bandwidth: Rate | Bandwidth = 0
    wait_s: float = 0

    def __post_init__(self) -> None:
        if not 0 <= self.max_waste <= 1:
            raise OptionsError(f"max waste {self.max_waste}: a part between 0 and 1")
        if self.parallel < 1:
            raise OptionsError(f"parallel {self.parallel}: at least one disk at a time")
        object.__setattr__(self, "bandwidth", CopyOptions(bandwidth=self.bandwidth).bandwidth)


@dataclass(frozen=True)
class Merged:
    """A point that took over those below it, or would.

    `cost` is what that writes and frees, as far as it is known beforehand.  `put_off`: it is not worth it yet.
    `problem` says why it could not, and then nothing was changed.
    """

    merge: Merge
    cost: Cost
    put_off: bool = False
    problem: str = ""


@dataclass(frozen=True)
class VmPruned:
    """What became of the points of one VM.

    `removed` are gone, or would be; `in_use` could not be removed, as somebody reads from them: the next prune removes
    them.  `error` is why the VM was left alone: a LockedError, where somebody captures it.
    """

    vm_id: str
    vm_name: str = ""
    merged: tuple[Merged, ...] = ()
    removed: tuple[Point, ...] = ()
    in_use: tuple[Point, ...] = ()
    error: NtxError | None = field(default=None, compare=False)

    @property
    def problem(self) -> str:
        """Why the VM was left alone, "" if it was not."""
        return "" if self.error is None else str(self.error)

    @property
    def problems(self) -> list[str]:
        """Everything that went wrong, one line each."""
        return list(filter(None, [self.problem, *(each.problem for each in self.merged)]))


@dataclass(frozen=True)
class PruneReport:
    """What became of the VMs, in the order in which they were named.  `bytes_freed`: by how much they are smaller."""

    vms: tuple[VmPruned, ...]
    dry_run: bool
    bytes_freed: int
    seconds: float
    options: PruneOptions = field(default_factory=PruneOptions)


async def prune(
    repository: Repository,
    vm_ids: Sequence[str],
    *,
    options: PruneOptions | None = None,
    dry_run: bool = False,
    besides: Mapping[str, Collection[str]] | None = None,
    on_event: OnEvent = log_event,
) -> PruneReport:
    """Give back the space of the points of these VMs that are forgotten.

    `besides`: points, by VM id, that a dry run takes for forgotten, too.
    What goes wrong with one VM does not keep the others from being pruned: see the report.
    Errors: what `on_event` raises.
    """
    options = options or PruneOptions()
    began_s = time.monotonic()
    emit = Emitter(on_event)
    with emit.first():
        pruner = _Pruner(repository, options, emit, dry_run=dry_run, besides=(besides or {}) if dry_run else {})
        vms = [await pruner.prune(vm_id) for vm_id in vm_ids]
    return PruneReport(tuple(vms), dry_run, pruner.bytes_freed, time.monotonic() - began_s, options)


async def shorten(
    repository: Repository,
    lock: VmLock,
    point: Point,
    *,
    below: int,
    options: PruneOptions | None = None,
    on_event: OnEvent = log_event,
) -> None:
    """Let the disks of a point have fewer than `below` images on top of each other (at least 2); the VM is locked.

    What is forgotten below the point is taken over first, whatever that is worth.  Where that is not enough the point
    takes over all that it shows, and stands alone: the points below it stay.
    Errors: as Upkeep; RepositoryError, SourceError, TargetError, ToolError; what `on_event` raises.
    """
    emit = Emitter(on_event)
    with emit.first():
        await _Pruner(repository, options or PruneOptions(), emit).shorten(Upkeep(repository, lock), point, below)


class _Pruner:
    """The steps, with what they share."""

    def __init__(
        self,
        repository: Repository,
        options: PruneOptions,
        emit: Emitter,
        *,
        dry_run: bool = False,
        besides: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self._repository = repository
        self._options = options
        self._emit = emit
        self._dry_run = dry_run
        self._besides = besides or {}
        self.bytes_freed = 0

    async def prune(self, vm_id: str) -> VmPruned:
        try:
            if self._dry_run:
                return await self._plan_only(vm_id)
            async with self._lock(vm_id) as lock:
                return await self._prune(Upkeep(self._repository, lock), vm_id)
        except NtxError as exc:
            self._emit.raise_failure()
            return VmPruned(vm_id, error=exc)

    @asynccontextmanager
    async def _lock(self, vm_id: str) -> AsyncIterator[VmLock]:
        """Hold the lock of a VM, once it is free."""
        deadline_s = time.monotonic() + self._options.wait_s
        async with AsyncExitStack() as stack:
            while True:
                try:
                    lock = await stack.enter_async_context(self._repository.lock(vm_id))
                    break
                except LockedError:
                    if time.monotonic() >= deadline_s:
                        raise
                await asyncio.sleep(_LOOK_S)
            yield lock

    async def shorten(self, upkeep: Upkeep, point: Point, below: int) -> None:
        await upkeep.finish()
        points, planned = await self._look(point.vm_id)
        now = {each.id: each for each in points}
        line = {each.id for each in await self._repository.chain(point)}
        for merge in planned.merges:
            if merge.point.id in line:
                await self._make(upkeep, _as_now(merge, now), now)
        point = await self._repository.read_point(point.path)
        depths = [len(await self._repository.images(point, disk)) for disk in point.disks]
        if max(depths, default=0) >= below:
            *lower, point = await self._repository.chain(point)
            await self._make(upkeep, Merge(point, tuple(reversed(lower)), None), now)
        await upkeep.finish()
        await upkeep.remove({each.id for each in planned.goes})
        await upkeep.drop_retention_of_gone()

    async def _plan_only(self, vm_id: str) -> VmPruned:
        points, planned = await self._look(vm_id)
        merged = [
            Merged(merge, cost, put_off=not cost.is_worth(self._options.max_waste))
            for merge in planned.merges
            for cost in [await self._cost(merge, planned.shares)]
        ]
        stays = _stays(merged)
        goes = [point for point in planned.goes if point.id not in stays]
        return VmPruned(vm_id, points[-1].vm_name if points else "", tuple(merged), tuple(goes))

    async def _prune(self, upkeep: Upkeep, vm_id: str) -> VmPruned:
        before = await upkeep.bytes_allocated()
        await upkeep.finish()
        points, planned = await self._look(vm_id)
        now = {point.id: point for point in points}
        merged = [await self._merge(upkeep, merge, planned.shares, now) for merge in planned.merges]
        await upkeep.finish()
        removal = await upkeep.remove({point.id for point in planned.goes} - _stays(merged))
        for point in removal.removed:
            subject: Subject = {"vm_id": vm_id, "vm_name": point.vm_name, "point_id": point.id}
            self._emit(Removed(**subject, kind="point", id=point.id, name=point.vm_name, dry_run=False))
        await upkeep.drop_retention_of_gone()
        self.bytes_freed += before - await upkeep.bytes_allocated()
        name = points[-1].vm_name if points else ""
        return VmPruned(vm_id, name, tuple(merged), removal.removed, removal.in_use)

    async def _look(self, vm_id: str) -> tuple[Sequence[Point], Plan]:
        points = await all_points(self._repository, vm_id)
        retention = await self._repository.retention(vm_id)
        forgotten = retention.forgotten.union(self._besides.get(vm_id, ()))
        return points, plan(points, forgotten, await self._pinned(vm_id))

    async def _pinned(self, vm_id: str) -> set[str]:
        """Return what captures are on top of that were interrupted and can be gone on with."""
        found = await self._repository.interrupted(vm_id)
        return {each.resume.parent_id for each in found if each.resume and each.resume.parent_id}

    async def _cost(self, merge: Merge, shares: Mapping[str, float]) -> Cost:
        return await cost_of(merge, least=self._options.max_waste, shares=shares)

    async def _merge(self, upkeep: Upkeep, merge: Merge, shares: Mapping[str, float], now: dict[str, Point]) -> Merged:
        """Make a point anew.  `now` are all points by their ids, as the merges before have left them."""
        merge = _as_now(merge, now)
        cost = Cost(0, 0)
        try:
            cost = await self._cost(merge, shares)
            if not cost.is_worth(self._options.max_waste):
                return Merged(merge, cost, put_off=True)
            await self._make(upkeep, merge, now, cost)
        except NtxError as exc:
            self._emit.raise_failure()
            now.update({point.id: point for point in await upkeep.points()})
            return Merged(merge, cost, problem=f"point {merge.point.id} cannot take over what is below it: {exc}")
        return Merged(merge, cost)

    def _check_room(self, point: Point, cost: Cost) -> None:
        free = free_bytes(point.path)
        if cost.bytes_written > free:
            raise TargetError(
                f"{point.path}: its file system has {format_size(free)} free, and {format_size(cost.bytes_written)} "
                f"are to be written before anything is freed: free some space"
            )

    async def _make(self, upkeep: Upkeep, merge: Merge, now: dict[str, Point], cost: Cost | None = None) -> None:
        """Make the new images of a point, and let it have them.  Errors: TargetError (no room), as merge_disk."""
        if cost is None:
            cost = await cost_of(merge, least=0, shares={})
        self._check_room(merge.point, cost)
        disks = [disk for disk in merge.point.disks if merge.taken_from(disk)]
        options = split_buffers(
            CopyOptions(bandwidth=self._options.bandwidth), max(1, min(self._options.parallel, len(disks)))
        )
        merging = Merging(self._repository, merge, tuple(now.values()), options, self._emit)
        merged = merged_point(merge)
        try:
            await map_limited(disks, partial(merge_disk, merging), at_once=self._options.parallel)
            now[merged.id] = await upkeep.rewrite(merged)
        except BaseException:
            await run_to_completion(self._tidy(upkeep))
            raise

    async def _tidy(self, upkeep: Upkeep) -> None:
        """Remove the new images again, unless the point says already that they are its own."""
        try:
            await upkeep.finish()
        except NtxError as exc:
            log.warning("%s; the next prune removes what this one has left", exc)


def _stays(merged: Sequence[Merged]) -> set[str]:
    """Return the points that are needed by those that did not take them over, or will not."""
    return {point.id for each in merged if each.put_off or each.problem for point in each.merge.below}


def _as_now(merge: Merge, now: Mapping[str, Point]) -> Merge:
    return Merge(
        now[merge.point.id],
        tuple(now[point.id] for point in merge.below),
        None if merge.onto is None else now[merge.onto.id],
    )

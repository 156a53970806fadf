"""Syncing the VMs of a repository into another, one after another, oldest points first."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.bandwidth import Bandwidth, Rate
from ntxengine.dataplane.buffers import split_buffers
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.errors import NtxError, OptionsError, RepositoryError
from ntxengine.events import Emitter, OnEvent, PointCommitted, log_event
from ntxengine.repository import Point, Repository, VmLock, all_points, copy_distrust, reading
from ntxengine.sync.plan import missing, parent_of
from ntxengine.sync.point import PointCopy

log = logging.getLogger(__name__)

MAX_CHAIN = 100
"""Images on top of each other there, or half of what qemu can open: as of captures."""


@dataclass(frozen=True)
class SyncOptions:
    """How to sync.  `parallel`: disks of a point at a time.  `bandwidth`: as CopyOptions has it."""

    parallel: int = 2
    bandwidth: Rate | Bandwidth = 0

    def __post_init__(self) -> None:
        if self.parallel < 1:
            raise OptionsError(f"parallel {self.parallel}: at least one disk at a time")
        object.__setattr__(self, "bandwidth", CopyOptions(bandwidth=self.bandwidth).bandwidth)


@dataclass(frozen=True)
class SyncedPoint:
    """A point that was copied, or would be.  `bytes_stored` are those of its images there.

    `problem` says why it was not, "" if it was.
    """

    point: Point
    bytes_stored: int = 0
    problem: str = ""


@dataclass(frozen=True)
class VmSynced:
    """What became of the points of one VM: `present` of them were there already.

    `unreadable` says of points why they cannot be read here.  `error` is why none was looked at: a LockedError, where
    somebody writes to the VM there.
    """

    vm_id: str
    vm_name: str = ""
    present: int = 0
    points: tuple[SyncedPoint, ...] = ()
    unreadable: tuple[str, ...] = ()
    error: NtxError | None = field(default=None, compare=False)

    @property
    def problem(self) -> str:
        """What went wrong but with points that could be read, "" if nothing."""
        return "; ".join(self.unreadable) if self.error is None else str(self.error)

    @property
    def problems(self) -> list[str]:
        """Everything that went wrong, one line each."""
        of_vm = self.unreadable if self.error is None else (self.problem,)
        return [*of_vm, *(each.problem for each in self.points if each.problem)]


@dataclass(frozen=True)
class SyncReport:
    """What became of the VMs, in the order in which they were named."""

    vms: tuple[VmSynced, ...]
    dry_run: bool
    seconds: float


async def sync(
    here: Repository,
    there: Repository | None,
    vm_ids: Sequence[str],
    *,
    options: SyncOptions | None = None,
    dry_run: bool = False,
    on_event: OnEvent = log_event,
) -> SyncReport:
    """Write the points of these VMs that `there` lacks, with their tags, holds and what audits found.

    Points that are forgotten here are not copied.  A point is compared with the digests of its capture while it is
    read, and read back there.  Interrupted, the next sync goes on.  `there` is None for a dry run where nothing is yet.
    What goes wrong with one point does not keep the others from being copied: see the report.
    Errors: OptionsError (one lies in the other, or `there` is nowhere); what `on_event` raises.
    """
    options = options or SyncOptions()
    began_s = time.monotonic()
    if there is None and not dry_run:
        raise OptionsError("there is no repository to copy to: make one")
    if there is not None:
        await to_thread_joined(check_apart, here.path, there.path)
    emit = Emitter(on_event)
    with emit.first():
        vms = [await _VmSync(here, vm_id, options, emit).run(there, dry_run=dry_run) for vm_id in vm_ids]
    return SyncReport(tuple(vms), dry_run, time.monotonic() - began_s)


def check_apart(here: Path, there: Path) -> None:
    """Refuse a directory `there`, which need not exist, that is that of a repository, lies in it, or holds it.  Blocks.

    Errors: OptionsError.
    """
    one, other = here.resolve(), there.resolve()
    if one == other or (there.exists() and here.samefile(there)):
        raise OptionsError(f"{there}: is the repository itself: name another one to copy to")
    if other.is_relative_to(one) or one.is_relative_to(other):
        raise OptionsError(f"{there}: one repository would lie in the other, {here}: name another directory")


class _VmSync:
    """The steps for one VM, with what they share."""

    def __init__(self, here: Repository, vm_id: str, options: SyncOptions, emit: Emitter) -> None:
        self._here = here
        self._vm_id = vm_id
        self._options = options
        self._emit = emit

    async def run(self, there: Repository | None, *, dry_run: bool) -> VmSynced:
        vm_id, name = self._vm_id, ""
        try:
            health = await self._here.health(vm_id, from_catalog=False)
            name = health.points[-1].vm_name if health.points else ""
            for error in (*health.unknown_retention.values(), *health.unknown_distrust.values()):
                raise RepositoryError(f"{error}; and none is copied, as nobody knows which, or what to say of them")
            known = () if there is None else await all_points(there, vm_id)
            lacking = missing(health.points, known)
            present = len(health.points) - len(lacking)
            unreadable = tuple(str(error) for error in health.unreadable.values())
            if there is None or dry_run:
                copied = [SyncedPoint(point) for point in lacking]
            elif lacking or present:
                async with there.lock(vm_id) as lock:
                    await copy_distrust(self._here, there, lock, {point.id for point in (*known, *lacking)})
                    copied = [each for point in lacking if (each := await self._copy(there, lock, point))]
            else:
                copied = []
            return VmSynced(vm_id, name, present, tuple(copied), unreadable)
        except NtxError as exc:
            self._emit.raise_failure()
            return VmSynced(vm_id, name, error=exc)

    async def _copy(self, there: Repository, lock: VmLock, point: Point) -> SyncedPoint | None:
        """Copy a point; None if it was forgotten and pruned here meanwhile."""
        try:
            async with reading([point]):
                chain = (await self._here.chain(await self._here.read_point(point.path)))[::-1]
                parent = await self._parent(there, chain)
                disks = max(1, min(self._options.parallel, len(point.disks)))
                options = split_buffers(CopyOptions(bandwidth=self._options.bandwidth), disks)
                copy = PointCopy(self._here, there, lock, chain, parent, options, self._options.parallel, self._emit)
                made = await copy.run()
            self._emit(PointCommitted(vm_id=point.vm_id, vm_name=point.vm_name, point_id=point.id))
            return SyncedPoint(point, await to_thread_joined(_bytes_stored, made))
        except NtxError as exc:
            self._emit.raise_failure()
            if await to_thread_joined(lambda: point.path.parent.exists() and not point.path.exists()):
                return None
            return SyncedPoint(point, problem=f"point {point.id} is not copied: {exc}")

    async def _parent(self, there: Repository, chain: Sequence[Point]) -> Point | None:
        """Return what a point goes on top of there: nothing where that is damaged, or has as many images as may be."""
        parent = parent_of(chain, await all_points(there, self._vm_id))
        if parent is None:
            return None
        if problem := await there.find_problem(parent):
            log.warning("point %s is copied whole: %s", chain[0].id, problem)
            return None
        most = min(MAX_CHAIN, there.longest_chain(self._vm_id) // 2)
        depths = [len(await there.images(parent, disk)) for disk in parent.disks]
        return parent if max(depths, default=0) < most else None


def _bytes_stored(point: Point) -> int:
    return sum(point.image_path(disk).stat().st_blocks * 512 for disk in point.disks)

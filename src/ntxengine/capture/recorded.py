"""What a record says that a capture made on a cluster: found there again, and removed.

    announce -> the recovery point is made -> complete -> disks -> commit -> release (those of the points before)
                 any failure: take_back

Only what is recorded is looked for.  A recovery point is the recorded one if it has the name and the VM that were
recorded; what was left attached, the attachers know again (attach/).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable

from ntxengine.attach import Attacher, AttachOptions, Trace, find_leftovers
from ntxengine.errors import NotFoundError, NtxError, PrismProtected
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import RecoveryPoint, Vm
from ntxengine.repository import ClusterRecord, Point, Repository, UnfinishedPoint, VmLock
from ntxengine.units import utc_now


def recorded_points(listed: Iterable[RecoveryPoint], record: ClusterRecord, vm_id: str) -> list[RecoveryPoint]:
    """Return the recorded recovery point, where the cluster still has it.  Two, if the first attempt left one."""
    return [point for point in listed if point.name == record.name and point.vm_id.lower() == vm_id.lower()]


def trace_of(record: ClusterRecord) -> Trace:
    """Return what the attachers know again what they left by."""
    return Trace(record.worker_id, record.sources, record.name, record.source)


async def remove_recorded(prism: Prism, record: ClusterRecord, vm_id: str) -> bool:
    """Remove all that is recorded and can be seen; return whether there was a recovery point to remove.

    What cannot be removed does not keep the rest from being removed.
    Errors: PrismError, NtxError: something may be left.  The first of them is raised, once all was tried.
    """
    failures: list[NtxError] = []

    async def attempt(removal: Awaitable[None]) -> None:
        try:
            await removal
        except NtxError as error:
            failures.append(error)

    left = await find_leftovers(prism, AttachOptions(), trace_of(record))
    failures += [error for _, error in left.unseen]
    for leftover in left.found:
        await attempt(leftover.remove())
    # The known one first: it must not stay because the cluster cannot list the others.
    known = record.recovery_point_id
    if known:
        await attempt(prism.delete_recovery_point(known))
    # By name too: an attempt before it may have left one whose deletion failed.
    listed: list[RecoveryPoint] = []
    try:
        listed = recorded_points(await prism.recovery_points(name=record.name), record, vm_id)
    except NtxError as error:
        failures.append(error)
    for point in listed:
        if point.id != known:
            await attempt(prism.delete_recovery_point(point.id))
    if failures:
        raise failures[0]
    return bool(known or listed)


class Recorder:
    """Records what one capture makes on the cluster, and removes what earlier ones made.  The VM is locked."""

    def __init__(self, prism: Prism, repository: Repository, lock: VmLock, vm: Vm, warn: Callable[[str], None]) -> None:
        self._prism = prism
        self._repository = repository
        self._lock = lock
        self._vm = vm
        self._warn = warn
        self._record: ClusterRecord | None = None

    async def announce(self, unfinished: UnfinishedPoint, attacher: Attacher) -> str:
        """Record durably what is about to be asked for; return the name that the recovery point must get."""
        name = self._repository.recovery_point_name(unfinished.id)
        await self._write(ClusterRecord(unfinished.id, name, attacher.worker_id, source=attacher.name))
        return name

    async def complete(self, point: RecoveryPoint) -> None:
        """Record what was made; say at once if it will not go away again when it is not needed any more."""
        assert self._record is not None
        sources = tuple(disk.id for disk in point.disks)
        await self._write(dataclasses.replace(self._record, recovery_point_id=point.id, sources=sources))
        if point.protection:
            self._warn(f"recovery point {point.id} will stay on the cluster after it is needed: {point.protection}")

    async def take_back(self) -> None:
        """Remove all of it, and the record, unless a create that is not over may make the recovery point yet.

        Errors: PrismError, NtxError, TargetError; the record stays then.
        """
        assert self._record is not None
        was_there = await remove_recorded(self._prism, self._record, self._vm.id)
        if was_there or self._record.is_settled(utc_now()):
            await self._repository.remove_cluster_record(self._lock, self._record)

    async def release(self, point: Point, reference: Point | None) -> None:
        """Remove what the points before `point` have on the cluster: it replaces them.

        What stays costs space there, not the point: it is a warning, whatever the reason.  `reference` is the point
        whose recovery point was compared with, if any was.
        """
        try:
            await self._release_all(point, reference)
        except NtxError as error:
            self._warn(f"what earlier points have on the cluster was not looked at: {error}; `ntx sweep` removes it")

    async def _release_all(self, point: Point, reference: Point | None) -> None:
        records = await self._repository.cluster_records(self._vm.id)
        for problem in records.problems:
            self._warn(f"{problem}; what it recorded on the cluster stays there until it expires")
        for record in records.own:
            if record.point_id != point.id:
                await self._release(record)
        if reference is None or reference.id in (record.point_id for record in records.own):
            return
        if reference.id in (record.point_id for record in records.foreign):
            self._leave(reference, "was made by the directory that this repository was copied or restored from")
        elif mismatch := await self._repository.find_mismatch():
            self._leave(reference, f"may be needed by another repository ({mismatch})")
        else:
            await self._release_unrecorded(reference)

    async def _release(self, record: ClusterRecord) -> None:
        try:
            await remove_recorded(self._prism, record, self._vm.id)
            if record.is_settled(utc_now()):
                await self._repository.remove_cluster_record(self._lock, record)
        except PrismProtected as error:
            self._warn(f"recovery point {record.name}, which is not needed any more, stays for now: {error}")
        except NtxError as error:
            self._not_released(record.recovery_point_id or record.name, error)

    async def _release_unrecorded(self, reference: Point) -> None:
        """Delete the recovery point of a point of an older ntxengine, which kept no records: it has our name."""
        try:
            found = await self._prism.recovery_point(reference.recovery_point_id, self._vm)
            if found.name != self._repository.recovery_point_name(reference.id):
                self._leave(reference, "was made by another repository")
                return
            await self._prism.delete_recovery_point(found.id)
        except NotFoundError:
            return
        except NtxError as error:
            self._not_released(reference.recovery_point_id, error)

    def _leave(self, reference: Point, why: str) -> None:
        self._warn(
            f"recovery point {reference.recovery_point_id} of point {reference.id} is not deleted: it {why}; "
            f"it stays on the cluster until it expires"
        )

    def _not_released(self, name: str, error: NtxError) -> None:
        self._warn(
            f"recovery point {name}, which is not needed any more, could not be deleted: {error}; "
            f"`ntx sweep` deletes it, or the cluster when it expires"
        )

    async def _write(self, record: ClusterRecord) -> None:
        self._record = record
        await self._repository.write_cluster_record(self._lock, record)

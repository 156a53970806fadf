"""What a record says that a capture made on a cluster: found there again, and removed.

    announce -> the recovery point is made -> complete -> disks -> commit -> release (those of the points before)
                 any failure: take_back

Only what is recorded is looked for.  A recovery point is the recorded one if it has the name and the VMs that were
recorded; what was left attached, the attachers know again (attach/).

A recovery point of several VMs is recorded for each of them.  Whoever does not need it any more says so in its record
first, and looks at the records of the others after that: so the last one deletes it, and if two are the last at once
both do.  A VM that is killed in between is seen by the next sweep.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

from ntxengine.attach import Attacher, AttachOptions, Trace, find_leftovers
from ntxengine.errors import NotFoundError, NtxError, PrismError, PrismProtected, PrismStatusError, TargetError
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import RecoveryPoint, Vm
from ntxengine.repository import (
    ClusterRecord,
    Point,
    Records,
    Repository,
    Sharing,
    StoredMember,
    StoredReferenceDisk,
    VmLock,
)
from ntxengine.units import utc_now

log = logging.getLogger(__name__)


def recorded_points(listed: Iterable[RecoveryPoint], record: ClusterRecord, vm_id: str) -> list[RecoveryPoint]:
    """Return the recorded recovery point, where the cluster still has it.  Two, if the first attempt left one."""
    allowed = {each.lower() for each in (vm_id, *record.together)}
    return [
        point for point in listed if point.name == record.name and point.held_vm_ids and point.held_vm_ids <= allowed
    ]


def trace_of(record: ClusterRecord, sharing: Sharing) -> Trace:
    """Return what the attachers know again what they left by; not what another VM's capture reads now."""
    sources = tuple(source for source in record.sources if source not in sharing.sources_in_use)
    return Trace(record.worker_id, sources, record.name, record.source)


async def give_up(repository: Repository, lock: VmLock, record: ClusterRecord) -> Sharing:
    """Say durably that a VM does not need its recovery point any more, and return who else does.

    Where that cannot be written (the file system is full) it is removed by whoever sees nobody else.
    """
    if not record.together:
        return Sharing()
    try:
        await repository.write_cluster_record(lock, dataclasses.replace(record, is_released=True))
    except TargetError as error:
        log.debug("record of recovery point %s: %s", record.name, error)
    return await repository.sharing(lock.vm_id, record)


async def remove_recorded(prism: Prism, repository: Repository, lock: VmLock, record: ClusterRecord) -> bool:
    """Remove all that is recorded, can be seen and is needed by nobody else; return whether there was a recovery point
    to remove, or others take care of it.

    What cannot be removed does not keep the rest from being removed.
    Errors: PrismError, NtxError: something may be left.  The first of them is raised, once all was tried.
    """
    sharing = await give_up(repository, lock, record)
    failures: list[NtxError] = []

    async def attempt(removal: Awaitable[None]) -> None:
        try:
            await removal
        except NtxError as error:
            failures.append(error)

    left = await find_leftovers(prism, AttachOptions(), trace_of(record, sharing))
    failures += [error for _, error in left.unseen]
    for leftover in left.found:
        await attempt(leftover.remove())
    was_there = bool(sharing.vm_ids)
    if not was_there:
        # The known one first: it must not stay because the cluster cannot list the others.
        known = record.recovery_point_id
        if known:
            await attempt(prism.delete_recovery_point(known))
        # By name too: an attempt before it may have left one whose deletion failed.
        listed: list[RecoveryPoint] = []
        try:
            listed = recorded_points(await prism.recovery_points(name=record.name), record, lock.vm_id)
        except NtxError as error:
            failures.append(error)
        for point in listed:
            if point.id != known:
                await attempt(prism.delete_recovery_point(point.id))
        was_there = bool(known or listed)
    if failures:
        raise failures[0]
    return was_there


async def remove_attached(prism: Prism, repository: Repository, lock: VmLock, record: ClusterRecord) -> list[NtxError]:
    """Remove what a killed capture left attached, for one that goes on with it; return why something may be left."""
    sharing = await repository.sharing(lock.vm_id, record)
    left = await find_leftovers(prism, AttachOptions(), trace_of(record, sharing))
    failures = [error for _, error in left.unseen]
    for leftover in left.found:
        try:
            await leftover.remove()
        except NtxError as error:
            failures.append(error)
    return failures


class Recorder:
    """Records what one capture makes on the cluster, and removes what earlier ones made.  The VM is locked."""

    def __init__(self, prism: Prism, repository: Repository, lock: VmLock, vm: Vm, warn: Callable[[str], None]) -> None:
        self._prism = prism
        self._repository = repository
        self._lock = lock
        self._vm = vm
        self._warn = warn
        self._record: ClusterRecord | None = None
        self._has_doubt = False
        self._writing = asyncio.Lock()

    async def announce(self, point_id: str, attacher: Attacher, together: Sequence[StoredMember] = ()) -> str:
        """Record durably what is about to be asked for; return the name that the recovery point must get.

        `together` are the VMs that it is to hold, if they are several: it is named after the point of the first.
        """
        name = self._repository.recovery_point_name(point_id)
        if together:
            name = self._repository.shared_point_name(together[0].point_id)
        record = ClusterRecord(point_id, name, attacher.worker_id, source=attacher.name)
        await self._write(dataclasses.replace(record, together=tuple(member.vm_id for member in together)))
        return name

    def take_over(self, record: ClusterRecord) -> None:
        """Go on with what an interrupted capture recorded."""
        self._record = record

    async def complete(self, point: RecoveryPoint) -> None:
        """Record what was made; say at once if it will not go away again when it is not needed any more."""
        assert self._record is not None
        sources = tuple(disk.id for disk in point.disks)
        await self._write(dataclasses.replace(self._record, recovery_point_id=point.id, sources=sources))
        if point.protection:
            self._warn(f"recovery point {point.id} will stay on the cluster after it is needed: {point.protection}")

    @asynccontextmanager
    async def attaching(self) -> AsyncIterator[None]:
        """Record that a clone is asked for, while that is done: who is killed meanwhile cannot tell if it was made."""
        assert self._record is not None
        await self._write(dataclasses.replace(self._record, attached_at=utc_now()))
        try:
            yield
        except BaseException as error:
            is_clear = isinstance(error, NtxError) and not isinstance(error, PrismError)
            self._has_doubt |= not (is_clear or isinstance(error, PrismStatusError))
            raise

    async def end_attaching(self) -> None:
        """Record that all clones were made, and can be seen where they are left."""
        assert self._record is not None
        if self._record.attached_at is not None:
            await self._write(dataclasses.replace(self._record, attached_at=None))

    async def keep(self, reference: Sequence[StoredReferenceDisk]) -> None:
        """Record that the recovery point is what is compared with next time, and is not removed any more."""
        assert self._record is not None
        await self._write(dataclasses.replace(self._record, reference=tuple(reference)))

    async def take_back(self) -> None:
        """Remove all of it, and the record, unless a create that is not over may make something yet.

        Errors: PrismError, NtxError, TargetError; the record stays then.
        """
        assert self._record is not None
        if not self._has_doubt:
            with suppress(TargetError):  # of a full disk: then the record stays a while longer
                await self.end_attaching()
        was_there = await remove_recorded(self._prism, self._repository, self._lock, self._record)
        if not self._has_doubt and (was_there or self._record.is_settled(utc_now())):
            await self._repository.remove_cluster_record(self._lock, self._record)

    async def release_own(self) -> None:
        """Remove what this one has on the cluster, which nobody is to be compared with.  Failing is a warning."""
        assert self._record is not None
        await self._release(self._record)

    async def release_replaced(self, needed: Collection[str] = ()) -> None:
        """Remove what exports, or cycles of a replica, before this one have on the cluster: it replaces them.

        Those of `needed`, by the ids of their records, stay: another replica of the VM is compared with them.  What
        cannot be removed is a warning, as of `release`.
        """
        assert self._record is not None
        try:
            own = (await self._records()).own
        except NtxError as error:
            self._warn(f"what was made before on the cluster was not looked at: {error}")
            return
        for record in own:
            if record.point_id != self._record.point_id and record.point_id not in needed:
                await self._release(record)

    async def release(self, point: Point, reference: Point | None) -> None:
        """Remove what the points before `point` have on the cluster: it replaces them.  References of exports stay.

        What stays costs space there, not the point: it is a warning, whatever the reason.  `reference` is the point
        whose recovery point was compared with, if any was.
        """
        try:
            await self._release_all(point, reference)
        except NtxError as error:
            self._warn(f"what earlier points have on the cluster was not looked at: {error}; `ntx sweep` removes it")

    async def _release_all(self, point: Point, reference: Point | None) -> None:
        records = await self._records()
        for record in records.own:
            if record.point_id != point.id and not record.reference:
                await self._release(record)
        if reference is None or reference.id in (record.point_id for record in records.own):
            return
        if reference.id in (record.point_id for record in records.foreign):
            self._leave(reference, "was made by the directory that this repository was copied or restored from")
        elif mismatch := await self._repository.find_mismatch():
            self._leave(reference, f"may be needed by another repository ({mismatch})")
        else:
            await self._release_unrecorded(reference)

    async def _records(self) -> Records:
        records = await self._repository.cluster_records(self._vm.id)
        for problem in records.problems:
            self._warn(f"{problem}; what it recorded on the cluster stays there until it expires")
        return records

    async def _release(self, record: ClusterRecord) -> None:
        try:
            was_there = await remove_recorded(self._prism, self._repository, self._lock, record)
            now = utc_now()
            if not record.may_attach_yet(now) and (was_there or record.is_settled(now)):
                await self._repository.remove_cluster_record(self._lock, record)
        except PrismProtected as error:
            self._warn(f"recovery point {record.name}, which is not needed any more, is still on the cluster: {error}")
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
        async with self._writing:
            self._record = record
            await self._repository.write_cluster_record(self._lock, record)

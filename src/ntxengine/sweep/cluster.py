"""What captures that were killed left on a cluster: recovery points, and what was left attached.

Only what this very directory records is removed (repository/cluster_record.py), and what the points of an older
ntxengine record, which kept no records.  What merely has our name is told of and left alone: it may be of a copy of
this repository, or of its original.

    per VM, while its lock is held:   attached disks  ->  recovery points  ->  records
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from ntxengine.attach import AttachOptions, Trace, find_leftovers
from ntxengine.capture.plan import disk_point_from
from ntxengine.capture.recorded import give_up, recorded_points, trace_of
from ntxengine.errors import LockedError, NtxError, PrismProtected, RepositoryError
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import RecoveryPoint
from ntxengine.repository import NAME_PREFIX, ClusterRecord, Records, Repository, Sharing, VmLock
from ntxengine.sweep.report import SweepReport, Swept
from ntxengine.units import utc_now

log = logging.getLogger(__name__)


class ClusterSweep:
    """Removes from a cluster what a repository records."""

    def __init__(
        self,
        prism: Prism,
        repository: Repository,
        attach: AttachOptions,
        report: SweepReport,
        *,
        gives_up: bool = False,
    ) -> None:
        self._prism = prism
        self._repository = repository
        self._attach = attach
        self._report = report
        self._gives_up = gives_up
        self._seen: set[str] = set()
        self._given_up: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Sweep the cluster, one VM after the other.  Errors: PrismError, RepositoryError: as sweep."""
        if mismatch := await self._repository.find_mismatch():
            raise RepositoryError(
                f"{mismatch}; nothing was removed from the cluster; if this is to be a repository of its own: "
                f"`ntx repository adopt {self._repository.path}`, then sweep again"
            )
        ours = await self._prism.recovery_points(name_prefix=NAME_PREFIX)
        listed = [point for point in ours if point.held_vm_ids]
        prefix = self._repository.recovery_point_name()
        named = [point for point in listed if point.name.startswith(prefix)]
        for vm_id in await self._repository.vm_ids():
            is_recorded = await self._repository.has_cluster_records(vm_id)
            if not is_recorded and not any(vm_id in point.held_vm_ids for point in named):
                continue
            try:
                async with self._repository.lock(vm_id) as lock:
                    await self._sweep_vm(lock, [point for point in listed if vm_id in point.held_vm_ids])
            except LockedError:
                self._report.locked_vms.append(vm_id)
                self._seen |= {point.id for point in named if vm_id in point.held_vm_ids}
            except NtxError as error:
                self._report.problems.append(f"VM {vm_id}: {error}")
        for point in named:
            if point.id not in self._seen:
                self._report.not_recorded.append(Swept("recovery-point", point.id, point.name, point.vm_id))

    async def _sweep_vm(self, lock: VmLock, listed: list[RecoveryPoint]) -> None:
        """Sweep one VM.  Its lock is held, so what is kept is decided on what was really committed."""
        vm_id = lock.vm_id
        records = await self._repository.cluster_records(vm_id)
        self._report.problems += records.problems
        if not all(recorded_points(listed, record, vm_id) for record in (*records.own, *records.foreign)):
            # It may have been made after we asked, by a capture that has ended since; and no filter is trusted to say
            # that something is gone.
            listed = [point for point in await self._prism.recovery_points() if vm_id in point.held_vm_ids]
        # Also of a point that cannot be read: what it needs stays.  Nothing goes on top of a forgotten one.
        kept = await self._repository.last_listed_id(vm_id)
        needed = {kept, *await self._resumable(vm_id)}
        for record in records.own:
            # A reference of an export is kept as long as the cluster does; the record of one that is gone is not.
            is_reference = bool(record.reference and recorded_points(listed, record, vm_id))
            await self._sweep_record(lock, record, listed, is_kept=is_reference or record.point_id in needed)
        for record in records.foreign:
            if not self._report.dry_run and not recorded_points(listed, record, vm_id):
                await self._repository.remove_cluster_record(lock, record)
        await self._sweep_unrecorded(vm_id, records, listed, kept)

    async def _resumable(self, vm_id: str) -> list[str]:
        """Return the ids of the points whose captures were interrupted, and can be gone on with."""
        if self._gives_up:
            return []
        now = utc_now()
        return [each.point_id for each in await self._repository.interrupted(vm_id) if each.can_be_resumed(now)]

    async def _sweep_record(
        self, lock: VmLock, record: ClusterRecord, listed: list[RecoveryPoint], *, is_kept: bool
    ) -> None:
        vm_id = lock.vm_id
        sharing = await self._sharing(lock, record, is_kept=is_kept)
        # Nobody works on this VM, so what is attached of our recovery points, also of the kept one, was left.
        is_clean = await self._remove_attached(vm_id, trace_of(record, sharing))
        for point in recorded_points(listed, record, vm_id):
            self._seen.add(point.id)
            if sharing.vm_ids and record.recovery_point_id in ("", point.id):
                continue
            if not is_kept or record.recovery_point_id not in ("", point.id):
                found = Swept("recovery-point", point.id, point.name, vm_id)
                is_clean &= await self._remove_point(found, point)
        if not is_clean or is_kept or self._report.dry_run:
            return
        now = utc_now()
        if not record.may_attach_yet(now) and (sharing.vm_ids or record.is_settled(now)):
            await self._repository.remove_cluster_record(lock, record)
        else:
            log.info("recovery point %s stays recorded for a while: the cluster may make it yet", record.name)

    async def _sharing(self, lock: VmLock, record: ClusterRecord, *, is_kept: bool) -> Sharing:
        """Return who else needs a recovery point.  What is not kept is given up before; in a dry run that is noted."""
        if not is_kept and not self._report.dry_run:
            return await give_up(self._repository, lock, record)
        found = await self._repository.sharing(lock.vm_id, record)
        if not is_kept:
            self._given_up.add((lock.vm_id, record.name))
        needing = (vm_id for vm_id in found.vm_ids if (vm_id, record.name) not in self._given_up)
        return dataclasses.replace(found, vm_ids=tuple(needing))

    async def _sweep_unrecorded(
        self, vm_id: str, records: Records, listed: list[RecoveryPoint], kept: str | None
    ) -> None:
        """Sweep what the points of an older ntxengine tell of."""
        recorded = {record.point_id for record in (*records.own, *records.foreign)}
        by_id = {point.id: point for point in listed}
        for committed in await self._repository.points(vm_id, with_forgotten=True):
            point = by_id.get(committed.recovery_point_id)
            if committed.id in recorded or point is None:
                continue
            if point.name != self._repository.recovery_point_name(committed.id):
                continue
            self._seen.add(point.id)
            sources = tuple(disk_point_from(disk).id for disk in committed.recovery_point_disks.values())
            await self._remove_attached(vm_id, Trace("", sources, point.name))
            if committed.id != kept:
                await self._remove_point(Swept("recovery-point", point.id, point.name, vm_id), point)

    async def _remove_attached(self, vm_id: str, trace: Trace) -> bool:
        """Remove what was left attached, in whatever way.  Return whether nothing of it is left."""
        left = await find_leftovers(self._prism, self._attach, trace)
        self._report.problems += [f"{place}: {error}" for place, error in left.unseen]
        is_clean = not left.unseen
        for leftover in left.found:
            found = Swept(leftover.kind, leftover.id, leftover.name, vm_id)
            is_clean &= await self._remove(found, leftover.remove, leftover.protection)
        return is_clean

    async def _remove_point(self, found: Swept, point: RecoveryPoint) -> bool:
        return await self._remove(found, partial(self._prism.delete_recovery_point, point.id), point.protection)

    async def _remove(self, found: Swept, removal: Callable[[], Awaitable[None]], protection: str) -> bool:
        """Remove it, unless this is a dry run.  Return whether it is gone, or would be."""
        if self._report.dry_run and protection:
            self._report.protected.append((found, protection))
            return False
        if not self._report.dry_run:
            try:
                await removal()
            except PrismProtected as error:
                self._report.protected.append((found, str(error)))
                return False
            except NtxError as error:
                self._report.problems.append(f"{found.kind} {found.id}: {error}")
                return False
        self._report.removed.append(found)
        return True

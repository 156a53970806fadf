"""What is compared with where there are no points: a recovery point that was kept for that, and is still there.

A control plane, or a replica, says which by its id.  Only what the state folder records is believed: nobody can have a
VM compared with something that was never taken whole, and the record has the sizes that no cluster tells afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ntxengine.capture.plan import disk_point_from
from ntxengine.changes import Previous
from ntxengine.errors import NotFoundError
from ntxengine.prism.cluster import RecoveryPoints
from ntxengine.prism.models import Disk, DiskPoint, Vm
from ntxengine.repository import Repository, StoredReferenceDisk
from ntxengine.units import format_time


@dataclass(frozen=True)
class Reference:
    """`id` is "" if nothing can be compared with, and then `lost` says why.  `disks` by id, in lower case; of those in
    `lost_disks` alone nothing can be compared."""

    id: str
    lost: str = ""
    disks: Mapping[str, StoredReferenceDisk] = field(default_factory=dict)
    lost_disks: Mapping[str, str] = field(default_factory=dict)

    def previous(self, disk: Disk, now: DiskPoint) -> Previous | None:
        """Return what a disk is compared with, None if it is new, or there is nothing."""
        found = self.disks.get(disk.id.lower())
        if found is None:
            return None
        if lost := self.why_not(disk):
            return Previous(found.size, None, lost)
        return Previous.of(found.size, disk_point_from(found.point), "", now=now)

    def why_not(self, disk: Disk) -> str:
        """Return why a disk cannot be compared, "" if it can."""
        if self.lost:
            return self.lost
        if disk.id.lower() not in self.disks:
            return f"recovery point {self.id} does not hold this disk"
        if disk.is_moving:
            return "the disk is being moved to another storage container"
        return self.lost_disks.get(disk.id.lower(), "")


async def find_reference(prism: RecoveryPoints, state: Repository, vm: Vm, since: str) -> Reference:
    """Find the recovery point `since`, "" for none.  Changes nothing.  Errors: PrismError."""
    if not since:
        return Reference("", "no recovery point to compare with was named")
    shown = f"recovery point {since[:80]}"
    records = await state.cluster_records(vm.id)
    every = (*records.own, *records.foreign)
    record = next((each for each in every if each.reference and each.recovery_point_id == since), None)
    if record is None:
        damaged = f" ({'; '.join(records.problems)})" if records.problems else ""
        return Reference("", f"{state.path} records no {shown} of this VM that was taken whole{damaged}")
    try:
        found = await prism.recovery_point(since, vm)
    except NotFoundError:
        return Reference("", f"the cluster no longer has {shown}")
    if found.held_vm_ids and vm.id.lower() not in found.held_vm_ids:
        return Reference("", f"{shown} is of another VM")
    if found.cluster_ids and vm.cluster_id and vm.cluster_id not in found.cluster_ids:
        return Reference("", f"the VM was moved to cluster {vm.cluster_id}, and {shown} is not there")
    disks = {disk.point.disk_id.lower(): disk for disk in record.reference}
    held = {disk.id for disk in found.disks}
    gone = {
        disk_id: f"{shown} of {_time(found.created_at)} no longer holds this disk"
        for disk_id, disk in disks.items()
        # A path (v3) tells the file of the disk too: that is compared once there is a new one.
        if disk.point.path is None and disk.point.id not in held
    }
    return Reference(since, "", disks, gone)


def _time(when: datetime | None) -> str:
    return "an unknown time" if when is None else format_time(when)

"""The v4 answers about recovery points, and how they become our models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ntxengine.errors import PrismAnswerError
from ntxengine.prism.http.parse import Uuid, bytes_from, time_from
from ntxengine.prism.models import Consistency, Disk, DiskPoint, RecoveryPoint, Vm
from ntxengine.prism.v4.schema import SECURE, Camel

_APPLICATION = "APPLICATION_CONSISTENT"


class DiskRecoveryPoint(Camel):
    """One disk in a recovery point."""

    disk_recovery_point_ext_id: Uuid
    disk_ext_id: str | None = None


class VmRecoveryPoint(Camel):
    """One VM in a recovery point."""

    ext_id: Uuid
    vm_ext_id: str | None = None
    recovery_point_type: str | None = None
    disk_recovery_points: list[DiskRecoveryPoint] | None = None


class GroupRecoveryPoint(Camel):
    """One volume group in a recovery point.  No other call tells its disks."""

    ext_id: Uuid
    volume_group_ext_id: str | None = None
    disk_recovery_points: list[DiskRecoveryPoint] | None = None


class VmRecoveryPointAnswer(Camel):
    """One VM in a recovery point, with its disks."""

    data: VmRecoveryPoint


class _Location(Camel):
    location_ext_id: str | None = None


class _Source(Camel):
    cluster_ext_ids: list[str] | None = None


class RecoveryPointState(Camel):
    """A recovery point; its disks may be missing here (nutanix-api, 5.1)."""

    ext_id: Uuid
    name: str | None = None
    status: str | None = None
    recovery_point_type: str | None = None
    creation_time: Any = None
    expiration_time: Any = None
    is_secure: bool | None = None
    is_worm_protected: bool | None = None
    vm_recovery_points: list[VmRecoveryPoint] | None = None
    volume_group_recovery_points: list[GroupRecoveryPoint] | None = None
    source_location: _Source | None = None
    location_references: list[_Location] | None = None
    total_exclusive_usage_bytes: Any = None

    @property
    def protection(self) -> str:
        """Why Prism does not delete it when it is told to; empty if it does."""
        if self.is_secure:
            return SECURE
        if self.is_worm_protected:
            return "it is write-once (isWormProtected): Prism keeps it until it expires"
        return ""

    def cluster_ids(self) -> frozenset[str]:
        """Return the clusters where it lies, as far as that is told."""
        made_on = (self.source_location.cluster_ext_ids if self.source_location else None) or []
        kept_on = [place.location_ext_id for place in self.location_references or ()]
        return frozenset(found for found in [*made_on, *kept_on] if found)

    def vm_ids(self) -> set[str]:
        """Return the VMs that it holds."""
        return {point.vm_ext_id for point in self.vm_recovery_points or () if point.vm_ext_id}


class RecoveryPointAnswer(Camel):
    """One recovery point."""

    data: RecoveryPointState


def recovery_point_from(
    found: RecoveryPointState, *, vm_id: str, disks: tuple[DiskPoint, ...] = (), vm_type: str | None = None
) -> RecoveryPoint:
    """Return a recovery point as our model.  A type that Prism does not name proves nothing: crash-consistent.

    `vm_type` is what the VM's part of it says, if it does: one of several VMs may have fared worse than it was asked.
    """
    is_application = found.recovery_point_type == _APPLICATION and vm_type in (None, _APPLICATION)
    consistency: Consistency = "application" if is_application else "crash"
    return RecoveryPoint(
        id=found.ext_id,
        name=found.name or "",
        vm_id=vm_id,
        consistency=consistency,
        created_at=time_from(found.creation_time),
        expires_at=time_from(found.expiration_time),
        disks=disks,
        vm_ids=frozenset(found.vm_ids()),
        cluster_ids=found.cluster_ids(),
        protection=found.protection,
        exclusive_bytes=bytes_from(found.total_exclusive_usage_bytes),
    )


def disk_points_from(found: VmRecoveryPoint, *, vm: Vm, recovery_point_id: str) -> tuple[DiskPoint, ...]:
    """Return the disk recovery points of the VM's own disks, in their order; others (UEFI variables) are left out.

    Errors: PrismAnswerError if a disk is there twice, or two disks have one disk recovery point.
    """
    own = [disk for disk in vm.disks if disk.group is None]
    known = _known_disks(found.disk_recovery_points, own, recovery_point_id)
    return tuple(
        DiskPoint(id=known[disk.id], disk_id=disk.id, recovery_point_id=recovery_point_id, vm_point_id=found.ext_id)
        for disk in own
        if disk.id in known
    )


def group_disk_points_from(found: RecoveryPointState, vm: Vm) -> tuple[DiskPoint, ...]:
    """Return the disk recovery points of the disks that the VM has in volume groups, as far as they are told.

    Errors: PrismAnswerError if a group or a disk is there twice.
    """
    disks = [disk for disk in vm.disks if disk.group is not None]
    points: dict[str, DiskPoint] = {}
    for part in found.volume_group_recovery_points or ():
        own = [disk for disk in disks if disk.group is not None and disk.group.id == part.volume_group_ext_id]
        known = _known_disks(part.disk_recovery_points, own, found.ext_id)
        if points.keys() & known.keys():
            raise PrismAnswerError(
                f"recovery point {found.ext_id} holds volume group {part.volume_group_ext_id} more than once"
            )
        points |= {
            disk_id: DiskPoint(id=point_id, disk_id=disk_id, recovery_point_id=found.ext_id, group_point_id=part.ext_id)
            for disk_id, point_id in known.items()
        }
    return tuple(points[disk.id] for disk in disks if disk.id in points)


def untold_groups(found: RecoveryPointState) -> set[str]:
    """Return the volume groups that a recovery point holds without telling their disks: null, not an empty list."""
    return {
        part.volume_group_ext_id
        for part in found.volume_group_recovery_points or ()
        if part.volume_group_ext_id is not None and part.disk_recovery_points is None
    }


def _known_disks(
    listed: Iterable[DiskRecoveryPoint] | None, disks: Iterable[Disk], recovery_point_id: str
) -> dict[str, str]:
    """Return the disk recovery points of these disks, by disk.

    Errors: PrismAnswerError if a disk is there twice, or two disks have one disk recovery point.
    """
    known: dict[str, str] = {}
    wanted = {disk.id for disk in disks}
    for point in listed or ():
        if point.disk_ext_id is None or point.disk_ext_id not in wanted:
            continue
        if point.disk_ext_id in known:
            raise PrismAnswerError(f"recovery point {recovery_point_id} lists disk {point.disk_ext_id} twice")
        known[point.disk_ext_id] = point.disk_recovery_point_ext_id
    if len(set(known.values())) != len(known):
        raise PrismAnswerError(f"recovery point {recovery_point_id} has one disk recovery point for two disks")
    return known

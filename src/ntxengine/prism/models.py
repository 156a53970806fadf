"""What Prism tells us, in our words: checked on the way in, the same for v3 and v4.

Everything here is frozen and plain.  Sizes and offsets are bytes, times are aware datetimes in UTC.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Family = Literal["v3", "v4"]
Consistency = Literal["application", "crash"]
PowerState = Literal["on", "off", "paused", "unknown"]


@dataclass(frozen=True)
class Disk:
    """A data disk of a VM (no CD-ROM, no volume group).

    `id` is what disk recovery points refer to: v4 backingInfo.diskExtId, v3 device uuid.
    `vmdisk_id` is the name of its file on storage, where the API tells it (v2 vm_disk_info), else None.
    `cloned_from` is the `DiskPoint.id` that it is a clone of, None if it is none, or Prism does not say so.
    """

    id: str
    size: int
    bus: str
    index: int
    container_id: str
    container_name: str | None = None
    vmdisk_id: str | None = None
    cloned_from: str | None = None

    @property
    def label(self) -> str:
        """The address as people write it: `scsi.0`."""
        return f"{self.bus.lower()}.{self.index}"


@dataclass(frozen=True)
class GuestTools:
    """State of Nutanix Guest Tools in the VM."""

    installed: bool = False
    enabled: bool = False
    reachable: bool = False
    can_quiesce: bool = False
    version: str = ""


@dataclass(frozen=True)
class Vm:
    """A virtual machine.  `config` is the entity as Prism gave it; `excluded` names disks that a VM recovery point does
    not hold (CD-ROMs, volume groups), for the report."""

    id: str
    name: str
    power_state: PowerState
    cluster_id: str
    host_id: str | None
    disks: tuple[Disk, ...]
    guest_tools: GuestTools = GuestTools()
    excluded: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class DiskPoint:
    """One disk in a recovery point (v4: disk recovery point; v3: snapshot file).

    `id` is the disk recovery point's id (v4) or the snapshot file path (v3); `disk_id` is the `Disk.id` it belongs to.
    `path` is the path below the cluster's storage, `/container/...`, where the API gives one (v3), never built by us.
    """

    id: str
    disk_id: str
    recovery_point_id: str
    vm_point_id: str = ""
    path: str | None = None


@dataclass(frozen=True)
class RecoveryPoint:
    """A VM frozen at a moment, as it exists on the cluster."""

    id: str
    name: str
    vm_id: str
    consistency: Consistency
    created_at: datetime | None
    expires_at: datetime | None
    disks: tuple[DiskPoint, ...] = ()


@dataclass(frozen=True)
class RegionPage:
    """One page of changed regions: `regions` in the dtype EXTENT, in the order that Prism gave.

    `disk_size` is the size of the newer file; `next_offset` is None on the last page.
    """

    regions: NDArray[np.void]
    disk_size: int | None
    next_offset: int | None


@dataclass(frozen=True)
class AttachedDisk:
    """A disk that was hot-added to the worker VM from a recovery point.

    `vmdisk_id` is the file name on storage, which the guest sees in /dev/disk/by-id with `_` for `-`.
    `source` is the `DiskPoint.id` that it was cloned from.
    """

    id: str
    vmdisk_id: str
    worker_id: str
    source: str


class Prism(Protocol):
    """What a capture needs from a cluster.  Two implementations: v4 on Prism Central, v3/v2 on a Prism Element.

    Every method raises PrismError or one of its kinds; a thing that is not there is NotFoundError.
    """

    family: Family

    async def vms(self) -> list[Vm]:
        """Return every VM that we may see, all pages, no duplicates, sorted by name then id."""
        ...

    async def vm(self, vm_id: str) -> Vm:
        """Return one VM."""
        ...

    async def create_recovery_point(
        self, vm: Vm, *, name: str, consistency: Consistency, expires_at: datetime
    ) -> RecoveryPoint:
        """Freeze all disks of `vm` at one moment and return the finished recovery point with its disks.

        If it fails or is cancelled after Prism accepted it, what was made is deleted before the error goes on.
        """
        ...

    async def recovery_point(self, recovery_point_id: str, vm: Vm) -> RecoveryPoint:
        """Return a recovery point with its disks; NotFoundError if the cluster no longer has it."""
        ...

    async def recovery_points(self) -> list[RecoveryPoint]:
        """Return every recovery point that we may see, without `.disks`."""
        ...

    async def delete_recovery_point(self, recovery_point_id: str) -> None:
        """Delete, and wait until it is gone.  One that does not exist is deleted already."""
        ...

    def changed_regions(self, disk: DiskPoint, reference: DiskPoint | None) -> AsyncIterator[RegionPage]:
        """Yield the pages of what differs between `reference` and `disk`; without one, of what is allocated."""
        ...

    async def attach_disk(self, worker_id: str, disk: DiskPoint) -> AttachedDisk:
        """Hot-add a clone of `disk` to the worker VM."""
        ...

    async def attached_disks(self, worker_id: str) -> list[AttachedDisk]:
        """Return the disks of the worker VM that were hot-added from a recovery point."""
        ...

    async def detach_disk(self, disk: AttachedDisk) -> None:
        """Remove it from the worker VM.  One that is not there is detached already."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...

"""What Prism tells us, in our words: checked on the way in, the same for v3 and v4.

Everything here is frozen and plain.  Sizes and offsets are bytes, times are aware datetimes in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ntxengine.prism.guest import GuestTools as GuestTools
from ntxengine.prism.versions import AosVersion

Family = Literal["v3", "v4"]
Consistency = Literal["application", "crash"]
PowerState = Literal["on", "off", "paused", "unknown"]
VssBackup = Literal["copy", "full"]

GROUP_PREFIX = "vg:"
"""What the label of a disk of a volume group begins with."""

MAX_TOLD = 5
"""How many odd things one warning names."""


@dataclass(frozen=True)
class DiskGroup:
    """The volume group that a disk is in.  `name` is fit to stand in a label."""

    id: str
    name: str


@dataclass(frozen=True)
class Disk:
    """A data disk of a VM (no CD-ROM), or of a volume group that is attached to it (`group`).

    `id` is what disk recovery points refer to: v4 backingInfo.diskExtId or the volume disk, v3 device uuid.
    `vmdisk_id` is the name of its file on storage, where the API tells it (v2 vm_disk_info), else None.
    `cloned_from` is the `DiskPoint.id` that it is a clone of, None if it is none, or Prism does not say so.
    `external_storage` names the volume of a storage system outside the cluster that it lies on, None if on none.
    `is_moving`: it is being moved to another storage container.
    """

    id: str
    size: int
    bus: str
    index: int
    container_id: str
    container_name: str | None = None
    vmdisk_id: str | None = None
    cloned_from: str | None = None
    external_storage: str | None = None
    is_moving: bool = False
    group: DiskGroup | None = None

    @property
    def label(self) -> str:
        """The address as people write it: `scsi.0`; `vg:NAME.0` in a volume group."""
        place = self.bus.lower() if self.group is None else f"{GROUP_PREFIX}{self.group.name}"
        return f"{place}.{self.index}"


@dataclass(frozen=True)
class GroupSlot:
    """Where a volume group is attached to a VM: its id, and the address as people write it."""

    id: str
    label: str


@dataclass(frozen=True)
class AttachedGroup:
    """A volume group that is attached to a VM, with its disks.

    `obstacle` says why they cannot be captured with the VM, "" if they can; `disks` is empty then.  `is_shared`: other
    machines may be attached to it as well.
    """

    slot: GroupSlot
    name: str
    disks: tuple[Disk, ...] = ()
    is_shared: bool = False
    obstacle: str = ""


@dataclass(frozen=True)
class Vm:
    """A virtual machine.

    `config` is the entity as Prism gave it, empty for a VM of a list; `excluded` names disks that a VM recovery point
    does not hold (CD-ROMs, volume groups of v3), for the report.  `groups` are volume groups of which a recovery point
    can hold the disks; those that are to be captured are among `disks`.  `is_moving`: it is being moved to another
    cluster.  `categories` are written `key=value`; None where they were not asked for, or are not told.
    `may_have_other_categories`: it may have one more of those that somebody looks for, which Prism does not tell.
    """

    id: str
    name: str
    power_state: PowerState
    cluster_id: str
    host_id: str | None
    disks: tuple[Disk, ...]
    guest_tools: GuestTools = field(default_factory=GuestTools)
    excluded: tuple[str, ...] = ()
    groups: tuple[GroupSlot, ...] = ()
    is_moving: bool = False
    categories: tuple[str, ...] | None = None
    may_have_other_categories: bool = False
    config: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class OddVm:
    """A VM of a list that cannot be read: its id and name as far as Prism tells them, else "", and why."""

    id: str
    name: str
    reason: str


@dataclass(frozen=True)
class VmList:
    """All VMs that we may see, sorted by name then id.  Those that cannot be read are `odd`."""

    vms: tuple[Vm, ...]
    odd: tuple[OddVm, ...] = ()

    @property
    def complaint(self) -> str:
        """What is odd, on one line; "" if nothing is."""
        if not self.odd:
            return ""
        told = [f"{vm.name!r} ({vm.id or 'no id'}): {vm.reason}" for vm in self.odd[:MAX_TOLD]]
        more = len(self.odd) - len(told)
        count = f"{len(self.odd)} VM{'s' if len(self.odd) > 1 else ''}"
        return f"{count} cannot be read and left out: {'; '.join(told)}{f'; and {more} more' if more else ''}"


@dataclass(frozen=True)
class ClusterFacts:
    """The cluster that a VM runs on, as far as Prism tells: "" and an unknown version where it does not.

    `address` is the IP address that its Prism Element is reached at, "" if what is told is none.  `storage_type` is
    Prism's word for what it stores on: ALL_FLASH, MIXED, ALL_HDD.  `nfs_allowed` are the clients that may mount its
    storage containers, as Prism writes them, None where that is not told.  `is_encrypted`: all that it stores is, at
    rest; False where its storage containers say it each, None where that is not told.  `encryption` is Prism's word for
    how: SOFTWARE, HARDWARE.  `encrypts_traffic`: what its controller VMs send each other.  `may_be_told_later`: Prism
    could not tell anything now.
    """

    id: str
    name: str = ""
    version: AosVersion = field(default_factory=AosVersion)
    address: str = ""
    storage_type: str = ""
    nfs_allowed: tuple[str, ...] | None = None
    is_encrypted: bool | None = None
    encryption: str = ""
    encrypts_traffic: bool | None = None
    may_be_told_later: bool = False


NO_FACTS = ClusterFacts("")
NO_FACTS_NOW = ClusterFacts("", may_be_told_later=True)


@dataclass(frozen=True)
class Container:
    """A storage container; None is what Prism does not say, "" a cluster that it does not name.

    `nfs_allowed` are the clients that may mount it, as Prism writes them; None if it has no list of its own
    (`inherits_nfs`): then that of its cluster counts.  `is_internal`: it is of the system, not of users.  `capacity` is
    in bytes, of the disks below it.
    """

    id: str
    name: str
    cluster_id: str = ""
    is_compressed: bool | None = None
    has_dedup: bool | None = None
    is_encrypted: bool | None = None
    is_erasure_coded: bool | None = None
    is_internal: bool | None = None
    inherits_nfs: bool | None = None
    nfs_allowed: tuple[str, ...] | None = None
    capacity: int | None = None


@dataclass(frozen=True)
class Host:
    """A host of a cluster.

    `cvm_address` is the IP address of its controller VM, "" if none is told, or what is told is no IP address.
    `tiers` are Prism's words for its disks, each once: PCIE_SSD, SATA_SSD, HDD, CLOUD.  A host that only computes has
    none.
    """

    id: str
    name: str
    cluster_id: str = ""
    cvm_address: str = ""
    tiers: tuple[str, ...] = ()


@dataclass(frozen=True)
class DiskUsage:
    """What a disk takes on storage, in bytes, as far as that is told, and Prism's words for the tiers that it is on."""

    used: int | None = None
    tiers: tuple[str, ...] = ()


@dataclass(frozen=True)
class DiskPoint:
    """One disk in a recovery point (v4: disk recovery point; v3: snapshot file).

    `id` is the disk recovery point's id (v4) or the snapshot file path (v3); `disk_id` is the `Disk.id` it belongs to.
    `group_point_id` is the volume group's part of the recovery point, "" where the disk is in that of the VM.
    `path` is the path below the cluster's storage, `/container/...`, where the API gives one (v3), never built by us.
    `recovery_point_name` is the name that a capture asked for, "" in what Prism and points tell.
    """

    id: str
    disk_id: str
    recovery_point_id: str
    vm_point_id: str = ""
    path: str | None = None
    group_point_id: str = ""
    recovery_point_name: str = ""


@dataclass(frozen=True)
class RecoveryPoint:
    """A VM frozen at a moment, as it exists on the cluster: perhaps one of several in one recovery point (`vm_ids`).

    `protection` says why the cluster does not delete it when it is told to; empty if it does.  `cluster_ids` are the
    clusters that it lies on, empty if that is not told.  `exclusive_bytes` is what would be free without it, None if
    that is not told.
    """

    id: str
    name: str
    vm_id: str
    consistency: Consistency
    created_at: datetime | None
    expires_at: datetime | None
    disks: tuple[DiskPoint, ...] = ()
    vm_ids: frozenset[str] = frozenset()
    cluster_ids: frozenset[str] = frozenset()
    protection: str = ""
    exclusive_bytes: int | None = None

    @property
    def held_vm_ids(self) -> frozenset[str]:
        """The VMs that it holds, in lower case."""
        return frozenset(vm_id.lower() for vm_id in self.vm_ids or {self.vm_id} if vm_id)


@dataclass(frozen=True)
class RegionPage:
    """One page of changed regions: `regions` in the dtype EXTENT, in the order that Prism gave.

    `disk_size` is the size of the newer file; `next_offset` is None on the last page.
    """

    regions: NDArray[np.void]
    disk_size: int | None
    next_offset: int | None


@dataclass(frozen=True)
class RegionSample:
    """The first page of what is allocated in the beginning of a disk; `by` is the Prism that computed it.

    `revision` is that of v4 which its token was good for, "" with v3.
    """

    page: RegionPage
    by: str
    revision: str = ""


@dataclass(frozen=True)
class AttachedDisk:
    """A disk that was hot-added to the worker VM from a recovery point.

    `vmdisk_id` is the file name on storage, which the guest sees in /dev/disk/by-id with `_` for `-`.
    `source` is the `DiskPoint.id` that it was cloned from.  `is_told`: Prism says that it is that disk; else it is
    taken for it because no other came.
    """

    id: str
    vmdisk_id: str
    worker_id: str
    source: str
    is_told: bool = True


@dataclass(frozen=True)
class VolumeGroup:
    """A volume group with a clone of one disk of a recovery point, offered over iSCSI.

    `target` is the whole name of its iSCSI target (`iqn...`), "" while Prism does not tell it; `lun` is the number of
    the disk there.  `protection` says why the cluster does not delete it when it is told to; empty if it does.
    """

    id: str
    name: str
    cluster_id: str
    target: str = ""
    lun: int = 0
    protection: str = ""

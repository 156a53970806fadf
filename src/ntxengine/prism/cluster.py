"""A cluster that we are connected to: what can be asked of it, in parts, and what was found out about it.

| part             | what it is for                                          |
|------------------|---------------------------------------------------------|
| `Inventory`      | which VMs there are, and their disks                    |
| `Facts`          | what containers and hosts are like, names of networks   |
| `PowerStates`    | shut a guest down, and let it run again                 |
| `RecoveryPoints` | freeze VMs, find what was frozen, delete it             |
| `AttachedGroups` | the volume groups that are attached to a VM             |
| `ChangedRegions` | where a recovery point differs from an older one        |
| `HotAddDisks`    | a disk of a recovery point, added to a VM               |
| `VolumeGroups`   | a disk of a recovery point, offered over iSCSI          |

A use case takes the part that it needs; `Prism` is all of them, and what v3 and v4 each implement.  Another way to the
cluster is another part here, a capability in findings.py that says whether it can be used, and its methods in v3/ or
v4/.

Every method raises PrismError or one of its kinds; a thing that is not there is NotFoundError.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

from ntxengine.errors import NotFoundError, OptionsError, PrismAnswerError
from ntxengine.ids import is_uuid
from ntxengine.prism.findings import Findings
from ntxengine.prism.models import (
    AttachedDisk,
    AttachedGroup,
    ClusterFacts,
    Consistency,
    Container,
    DiskPoint,
    DiskUsage,
    Family,
    Host,
    OddVm,
    PowerState,
    RecoveryPoint,
    RegionPage,
    RegionSample,
    Vm,
    VmList,
    VolumeGroup,
    VssBackup,
)


class Inventory(Protocol):
    """The VMs."""

    async def vms(self) -> list[Vm]:
        """Return every VM that we may see, sorted by name then id.  A warning tells which cannot be read."""
        ...

    async def list_vms(self) -> VmList:
        """Return every VM that we may see, and those that cannot be read, with the reason."""
        ...

    def stream_vms(self, *, categories: Collection[str] = ()) -> AsyncIterator[Vm | OddVm]:
        """Yield the same as pages arrive, each once, in the order of the server: only their ids are held.

        v4 tells the names of categories by a list of their own, which is asked for only if somebody looks for
        some `categories` (`key=value`).  All VMs are told of, whether they have them or not.
        Errors: PrismStatusError if that may not be read; PrismBusy, PrismAnswerError as for any list.
        """
        ...

    async def ids_named(self, name: str) -> list[str]:
        """Return the ids of the VMs of this name, "" for one that has none.  Reads no more of a VM than id and name."""
        ...

    async def vm(self, vm_id: str) -> Vm:
        """Return one VM."""
        ...

    async def cluster(self, cluster_id: str) -> ClusterFacts:
        """Return what Prism tells of a cluster.  What it does not, or may not, tell is unknown: no error.

        Kept as facts are.
        """
        ...


class Facts(Protocol):
    """Storage containers, hosts, and the names of networks.

    They only inform: what may not be read, or cannot be read now, is left out, which is no error.  Asked once and kept
    for a while, and for a minute if it failed for a reason that may pass.
    """

    async def containers(self) -> list[Container]:
        """Return the storage containers that we may see, sorted by name then id."""
        ...

    async def hosts(self, cluster_id: str) -> list[Host]:
        """Return the hosts of a cluster, sorted by name then id."""
        ...

    async def network_names(self, network_ids: Collection[str]) -> Mapping[str, str]:
        """Return the names of networks by their ids.  None of v3: a VM tells them with their ids."""
        ...

    async def disk_usage(self) -> Mapping[str, DiskUsage]:
        """Return what each disk takes, by `Disk.id`.  None of v4: that would be a request for each disk."""
        ...


async def cvm_of(facts: Facts, vm: Vm) -> str:
    """Return the IP address of the controller VM on the host that `vm` runs on, "" if that is not known.

    A VM that does not run has no host.  That the host holds a replica of what is read, no API says.
    """
    if vm.host_id is None:
        return ""
    return next((host.cvm_address for host in await facts.hosts(vm.cluster_id) if host.id == vm.host_id), "")


async def nfs_server_of(prism: Prism, vm: Vm) -> str:
    """Return the IP address that the files of `vm` are best read at over NFS, "" if none is known."""
    return await cvm_of(prism, vm) or (await prism.cluster(vm.cluster_id)).address


async def storage_words_of(facts: Facts, cluster: ClusterFacts) -> list[str]:
    """Return Prism's words for what a cluster stores on, each once: its own, and those for the disks of its hosts."""
    of_hosts = [tier for host in await facts.hosts(cluster.id) for tier in host.tiers]
    return list(dict.fromkeys(word for word in (cluster.storage_type, *of_hosts) if word))


async def vm_named(inventory: Inventory, name: str) -> Vm:
    """Return the VM with this UUID or name.  Few requests however many VMs there are, where Prism looks up names.

    Errors: NotFoundError if there is none; OptionsError if several have the name; PrismAnswerError if it is a VM that
            cannot be read; PrismError.
    """
    if is_uuid(name):
        return await inventory.vm(name.lower())
    ids = await inventory.ids_named(name)
    if not ids:
        raise NotFoundError(f"no VM is named {name!r}: `ntx vms` lists those that this account may see")
    if len(ids) > 1:
        known = ", ".join(vm_id or "one without a UUID" for vm_id in ids)
        raise OptionsError(f"{len(ids)} VMs are named {name!r}: name one by its UUID: {known}")
    if not is_uuid(ids[0]):
        raise PrismAnswerError(f"VM {name!r} has no UUID by which it could be asked for: Prism calls it {ids[0]!r}")
    try:
        return await inventory.vm(ids[0])
    except PrismAnswerError as error:
        raise type(error)(f"VM {name!r}: {error}") from error


class PowerStates(Protocol):
    """Whether VMs run."""

    async def shut_down_guest(self, vm: Vm) -> None:
        """Ask the guest of `vm` to shut down, by ACPI.  Returns when it was asked: whether it does is its own matter.

        Errors: PrismStatusError; below 500 it was not asked.  After any other it may have been.
        """
        ...

    async def power_on(self, vm: Vm) -> None:
        """Let `vm` run, and wait until Prism says that it does.  One that runs already is left as it is."""
        ...

    async def becomes(self, vm: Vm, wanted: PowerState, *, within_s: float) -> bool:
        """Wait until the power state of `vm` is that; return false if it is not within this time."""
        ...


class RecoveryPoints(Protocol):
    """VMs that are frozen at a moment.  `can_choose_vss`: what VSS makes of a Windows guest can be chosen."""

    can_choose_vss: bool

    def obstacle(self, vm: Vm) -> str:
        """Return why a recovery point of `vm` would be made in vain, "" if nothing that is known says so."""
        ...

    async def create_recovery_point(
        self, vm: Vm, *, name: str, consistency: Consistency, expires_at: datetime, vss: VssBackup | None = "copy"
    ) -> RecoveryPoint:
        """Freeze all disks of `vm` at one moment and return the finished recovery point with its disks.

        `vss` is what VSS is told, if anything and if it can be chosen; it is of use to application consistency alone.
        If it fails or is cancelled after Prism accepted it, what was made is deleted before the error goes on.
        """
        ...

    def shared_obstacle(self, vms: Sequence[Vm]) -> str:
        """Return why one recovery point of all these VMs cannot be had, "" if nothing that is known says so."""
        ...

    async def create_shared_recovery_point(
        self,
        vms: Sequence[Vm],
        *,
        name: str,
        consistency: Consistency,
        expires_at: datetime,
        vss: Mapping[str, VssBackup | None],
    ) -> list[RecoveryPoint]:
        """Freeze all disks of all these VMs at one moment; return the one recovery point as each VM sees it.

        `vss` is by VM.  Else as create_recovery_point.
        """
        ...

    async def recovery_point(self, recovery_point_id: str, vm: Vm) -> RecoveryPoint:
        """Return a recovery point with its disks; NotFoundError if the cluster no longer has it."""
        ...

    async def recovery_points(self, *, name: str = "", name_prefix: str = "") -> list[RecoveryPoint]:
        """Return every recovery point that we may see, of one name or whose names begin so, without `.disks`."""
        ...

    async def extend_recovery_point(self, point: RecoveryPoint, expires_at: datetime) -> None:
        """Let the cluster keep a recovery point until then, and wait until it says that it does."""
        ...

    async def delete_recovery_point(self, recovery_point_id: str) -> None:
        """Delete, and wait until it is gone.  One that does not exist is deleted already."""
        ...


class AttachedGroups(Protocol):
    """The volume groups that are attached to VMs."""

    async def attached_groups(self, vm: Vm) -> list[AttachedGroup]:
        """Return the groups of `vm.groups` with their disks, or with what keeps them from being captured.

        Errors: PrismError that may pass (busy, no answer): what is only not allowed, or odd, is an obstacle.
        """
        ...


class ChangedRegions(Protocol):
    """What differs between recovery points.  `family` is the API that says so: a point records it."""

    family: Family

    def changed_regions(self, disk: DiskPoint, reference: DiskPoint | None) -> AsyncIterator[RegionPage]:
        """Yield the pages of what differs between `reference` and `disk`; without one, of what is allocated."""
        ...

    async def sample_regions(self, disk: DiskPoint, length: int) -> RegionSample:
        """Return the first page of what is allocated in the first `length` bytes of `disk`: to see that it is told."""
        ...

    async def reach_element(self, cluster: ClusterFacts, reference: DiskPoint | None) -> None:
        """Make sure that whoever computes changed regions can be asked, as far as `reference` or `cluster` say who.

        Errors: PrismConnectionError (its certificate is not trusted, or nobody is there), PrismTimeout.
        """
        ...


class HotAddDisks(Protocol):
    """Disks of recovery points that are added to a running VM."""

    @property
    def no_hot_add(self) -> str:
        """Why it cannot be done here, "" if it can."""
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


class VolumeGroups(Protocol):
    """Disks of recovery points that are offered over iSCSI: each by a volume group of its own."""

    @property
    def no_volume_groups(self) -> str:
        """Why none can be made here, "" if they can."""
        ...

    async def data_services(self, cluster_id: str) -> str:
        """Return the address that a cluster tells for iSCSI, "" if it has none, or does not tell it."""
        ...

    async def make_volume_group(self, disk: DiskPoint, *, name: str, cluster_id: str, secret: str) -> VolumeGroup:
        """Make a volume group with a clone of `disk`; its target, which is told, wants `secret` by CHAP.

        `name` must be of this one alone.  If it fails or is cancelled after Prism accepted it, what was made is deleted
        before the error goes on.
        """
        ...

    async def admit_initiator(self, group: VolumeGroup, initiator: str, secret: str) -> None:
        """Let the initiator of this name (`iqn...`), which proves itself by `secret`, log in to the target."""
        ...

    async def volume_groups(self, name_prefix: str) -> list[VolumeGroup]:
        """Return the volume groups whose names begin so, without `target` and `lun`: to remove them."""
        ...

    async def remove_volume_group(self, group: VolumeGroup) -> None:
        """Take its initiators off, delete it, and wait until it is gone.  One that does not exist is deleted already.

        Errors: PrismError also if somebody has to approve it (`protection`).
        """
        ...


class Prism(
    Inventory,
    Facts,
    PowerStates,
    RecoveryPoints,
    AttachedGroups,
    ChangedRegions,
    HotAddDisks,
    VolumeGroups,
    Protocol,
):
    """All that can be asked of a cluster: v4 through Prism Central, or v3 and v2 of a Prism Element.

    `findings` is what was found out about it.
    """

    findings: Findings

    async def aclose(self) -> None:
        """Close the connections."""
        ...


@dataclass(frozen=True)
class Cluster:
    """A context that closes its connections."""

    prism: Prism
    findings: Findings

    async def aclose(self) -> None:
        """Close the connections."""
        await self.prism.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

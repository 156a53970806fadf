"""Prism by v4, through Prism Central: the VMs here, the rest in its own file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime

from ntxengine.prism.findings import TOO_OLD_TO_HOT_ADD, Findings, Revisions
from ntxengine.prism.http.error_body import not_found_as
from ntxengine.prism.http.parse import given_id
from ntxengine.prism.http.session import Session
from ntxengine.prism.listing import each_vm, ids_named, sorted_list
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
from ntxengine.prism.pages import Listed
from ntxengine.prism.power import must_run, power_becomes
from ntxengine.prism.tasks import log
from ntxengine.prism.v4.api import CentralApi
from ntxengine.prism.v4.calls import name_is
from ntxengine.prism.v4.categories import category_names
from ntxengine.prism.v4.disks import CentralDisks
from ntxengine.prism.v4.facts import CentralFacts
from ntxengine.prism.v4.groups import CentralGroups
from ntxengine.prism.v4.pages import entities, name_of
from ntxengine.prism.v4.points import CentralPoints, too_many
from ntxengine.prism.v4.power import CentralPower
from ntxengine.prism.v4.regions import RegionReader
from ntxengine.prism.v4.schema import Entity, vm_from
from ntxengine.prism.v4.tasks import CentralTasks
from ntxengine.prism.v4.volumes import CentralVolumes
from ntxengine.prism.v4.volumes_api import VolumesApi


class CentralPrism:
    """The `Prism` of a Prism Central."""

    family: Family = "v4"
    can_choose_vss = True

    def __init__(
        self,
        session: Session,
        revisions: Revisions,
        open_element: Callable[[str], Awaitable[Session]],
        *,
        project: str | None = None,
        findings: Findings | None = None,
    ) -> None:
        self.findings = findings or Findings("v4", revisions=revisions)
        self._session = session
        self._api = CentralApi(session, revisions, project)
        self._tasks = CentralTasks(self._api, session.clock)
        self._disks = CentralDisks(self._api, self._tasks)
        self._facts = CentralFacts(self._api)
        self._power = CentralPower(self._api, self._tasks)
        volumes = VolumesApi(session, revisions.volumes or "v4.0", project)
        self._volumes = CentralVolumes(self._api, volumes, self._tasks, self.no_volume_groups)
        self._regions = RegionReader(self._api, open_element, session.clock)
        self._points = CentralPoints(self._api, self._tasks, session.clock)
        self._groups = CentralGroups(volumes)

    @property
    def no_hot_add(self) -> str:
        """Why disks cannot be hot-added, "" if they can."""
        return "" if self._api.revisions.can_hot_add else TOO_OLD_TO_HOT_ADD

    @property
    def no_volume_groups(self) -> str:
        """Why no volume groups can be made, "" if they can."""
        return self.findings.no_volume_groups

    def obstacle(self, vm: Vm) -> str:
        """Return why a recovery point of `vm` would be made in vain, "" if nothing that is known says so."""
        outside = [f"{disk.label} ({disk.external_storage})" for disk in vm.disks if disk.external_storage is not None]
        if not outside:
            return too_many([vm])
        return (
            f"{', '.join(outside)} on external storage: nothing says that changed regions or a clone of it can be had; "
            f"move it to a storage container of the cluster"
        )

    async def aclose(self) -> None:
        """Close the connections to Prism Central and to the Prism Elements."""
        await self._regions.aclose()
        await self._session.aclose()

    async def vms(self) -> list[Vm]:
        """Return every VM that can be read."""
        found = await self.list_vms()
        if found.complaint:
            log.warning("Prism %s: %s", self._session.name, found.complaint)
        return list(found.vms)

    async def list_vms(self) -> VmList:
        """Return every VM that we may see."""
        return await sorted_list(self.stream_vms())

    async def stream_vms(self, *, categories: Collection[str] = ()) -> AsyncIterator[Vm | OddVm]:
        """Yield the VMs as pages arrive."""
        names = await category_names(self._api, categories) if categories else None

        async def read(listed: Listed) -> Vm:
            return vm_from(listed.raw, request=listed.request, with_config=False, names=names)

        async for vm in each_vm(entities(self._api.list_vms, order_by="name"), read, name_of):
            yield vm

    async def ids_named(self, name: str) -> list[str]:
        """Return the ids of the VMs of this name."""
        found = entities(self._api.list_vms, filter_text=name_is(name), order_by="name")
        return await ids_named(found, name, name_of)

    async def vm(self, vm_id: str) -> Vm:
        """Return one VM."""
        with not_found_as(f"VM {vm_id}"):
            answer = await self._api.get_vm(given_id(vm_id, "VM"))
        return vm_from(answer.decode(Entity).data, request=answer.request)

    async def cluster(self, cluster_id: str) -> ClusterFacts:
        """Return what Prism tells of a cluster; nothing where it does not, may not, or cannot now."""
        return await self._facts.cluster(cluster_id)

    async def containers(self) -> list[Container]:
        """Return the storage containers of all clusters."""
        return await self._facts.containers()

    async def hosts(self, cluster_id: str) -> list[Host]:
        """Return the hosts of a cluster."""
        return await self._facts.hosts(cluster_id)

    async def network_names(self, network_ids: Collection[str]) -> Mapping[str, str]:
        """Return the names of networks by their ids."""
        return await self._facts.network_names(network_ids)

    async def disk_usage(self) -> Mapping[str, DiskUsage]:
        """Return nothing: only statistics of each single disk say it."""
        return {}

    async def shut_down_guest(self, vm: Vm) -> None:
        """Ask the guest to shut down."""
        await self._power.shut_down(vm)

    async def power_on(self, vm: Vm) -> None:
        """Let the VM run, unless it does."""
        if (await self.vm(vm.id)).power_state != "on":
            await self._power.power_on(vm)
            await must_run(self.vm, vm, self._session.clock)

    async def becomes(self, vm: Vm, wanted: PowerState, *, within_s: float) -> bool:
        """Wait for a power state."""
        return await power_becomes(self.vm, vm, wanted, self._session.clock, within_s)

    async def create_recovery_point(
        self, vm: Vm, *, name: str, consistency: Consistency, expires_at: datetime, vss: VssBackup | None = "copy"
    ) -> RecoveryPoint:
        """Freeze all disks of `vm`; delete what was made if that does not come to a good end."""
        (point,) = await self._points.create(
            [vm], name=name, consistency=consistency, expires_at=expires_at, vss={vm.id: vss}
        )
        return point

    async def create_shared_recovery_point(
        self,
        vms: Sequence[Vm],
        *,
        name: str,
        consistency: Consistency,
        expires_at: datetime,
        vss: Mapping[str, VssBackup | None],
    ) -> list[RecoveryPoint]:
        """Freeze all disks of all these VMs at one moment."""
        return await self._points.create(vms, name=name, consistency=consistency, expires_at=expires_at, vss=vss)

    def shared_obstacle(self, vms: Sequence[Vm]) -> str:
        """Return why one recovery point of all these VMs cannot be had: they are too many, or too far apart."""
        clusters = {vm.cluster_id: vm.name for vm in vms if vm.cluster_id}
        if len(clusters) > 1:
            apart = ", ".join(f"VM {name!r} on cluster {cluster_id}" for cluster_id, name in sorted(clusters.items()))
            return f"a recovery point lies on one cluster: {apart}"
        return too_many(vms)

    async def attached_groups(self, vm: Vm) -> list[AttachedGroup]:
        """Return the groups that are attached to a VM."""
        return await self._groups.of(vm)

    async def recovery_point(self, recovery_point_id: str, vm: Vm) -> RecoveryPoint:
        """Return a recovery point with those of the disks of `vm` that it holds."""
        return await self._points.get(recovery_point_id, vm)

    async def recovery_points(self, *, name: str = "", name_prefix: str = "") -> list[RecoveryPoint]:
        """Return every recovery point that we may see; `vm_id` is empty for one of several VMs."""
        return await self._points.listed(name, name_prefix)

    async def extend_recovery_point(self, point: RecoveryPoint, expires_at: datetime) -> None:
        """Let the cluster keep it until then."""
        await self._points.extend(point, expires_at)

    async def delete_recovery_point(self, recovery_point_id: str) -> None:
        """Delete, and wait until it is gone."""
        await self._points.delete(recovery_point_id)

    def changed_regions(self, disk: DiskPoint, reference: DiskPoint | None) -> AsyncIterator[RegionPage]:
        """Yield the pages of what differs between `reference` and `disk`; without one, of what is allocated."""
        return self._regions.pages(disk, reference)

    async def sample_regions(self, disk: DiskPoint, length: int) -> RegionSample:
        """Return the first page of what is allocated in the first `length` bytes of `disk`."""
        return await self._regions.sample(disk, length)

    async def reach_element(self, cluster: ClusterFacts, reference: DiskPoint | None) -> None:
        """Make sure that the Prism Element can be asked."""
        await self._regions.reach_element(cluster, reference)

    async def attach_disk(self, worker_id: str, disk: DiskPoint) -> AttachedDisk:
        """Hot-add a clone of `disk` to the worker VM."""
        return await self._disks.attach(worker_id, disk)

    async def attached_disks(self, worker_id: str) -> list[AttachedDisk]:
        """Return the disks of the worker VM that were hot-added from a recovery point."""
        return await self._disks.attached(worker_id)

    async def detach_disk(self, disk: AttachedDisk) -> None:
        """Remove it from the worker VM."""
        await self._disks.detach(disk)

    async def data_services(self, cluster_id: str) -> str:
        """Return the address that a cluster tells for iSCSI, "" if it has none, or does not tell it."""
        return await self._volumes.data_services(cluster_id)

    async def make_volume_group(self, disk: DiskPoint, *, name: str, cluster_id: str, secret: str) -> VolumeGroup:
        """Make a volume group with a clone of `disk`."""
        return await self._volumes.make(disk, name=name, cluster_id=cluster_id, secret=secret)

    async def admit_initiator(self, group: VolumeGroup, initiator: str, secret: str) -> None:
        """Let the initiator of this name log in to the target."""
        await self._volumes.admit(group, initiator, secret)

    async def volume_groups(self, name_prefix: str) -> list[VolumeGroup]:
        """Return the volume groups whose names begin so."""
        return await self._volumes.found(name_prefix)

    async def remove_volume_group(self, group: VolumeGroup) -> None:
        """Take its initiators off, delete it, and wait until it is gone."""
        await self._volumes.remove(group)

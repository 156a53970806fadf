"""Prism by v3 and v2 of a Prism Element, where there is no v4: the VMs here, the rest in its own file."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime

from ntxengine.errors import OptionsError, PrismAnswerError, PrismError, PrismStatusError
from ntxengine.prism.findings import Findings
from ntxengine.prism.http.error_body import not_found_as
from ntxengine.prism.http.parse import given_id
from ntxengine.prism.http.session import Answer, Session
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
from ntxengine.prism.regions import page_v3, walk
from ntxengine.prism.tasks import Deadline, log
from ntxengine.prism.v3 import schema
from ntxengine.prism.v3.api import ElementApi
from ntxengine.prism.v3.disks import ElementDisks
from ntxengine.prism.v3.facts import ElementFacts
from ntxengine.prism.v3.pages import entities, name_of
from ntxengine.prism.v3.points import ElementPoints, not_ahv
from ntxengine.prism.v3.tasks import ElementTasks
from ntxengine.prism.v3.volumes import ElementVolumes

_PLAIN_NAME = re.compile(r"[\w-]+", re.ASCII)
"""Names that mean themselves in a filter of v3; of others (`db.*`, `a;b`) the whole list is asked for."""

_ONE_VM = (
    "a snapshot of v3 holds one VM: several are frozen at one moment only through a Prism Central that has v4; capture"
    " them one by one, each at a moment of its own"
)


class ElementPrism:
    """The `Prism` of a Prism Element."""

    family: Family = "v3"
    can_choose_vss = False
    no_hot_add = ""
    no_volume_groups = ""

    def __init__(self, session: Session, findings: Findings | None = None) -> None:
        self.findings = findings or Findings("v3")
        self._session = session
        self._api = ElementApi(session)
        self._facts = ElementFacts(self._api)
        self._disks = ElementDisks(self._api, session.clock)
        self._volumes = ElementVolumes(self._api, session.clock)
        self._points = ElementPoints(self._api, session.clock)

    def obstacle(self, vm: Vm) -> str:
        """Return why a snapshot of `vm` would be made in vain, "" if nothing that is known says so."""
        if problem := not_ahv(vm):
            return problem
        unknown = [f"{disk.label} ({disk.id})" for disk in vm.disks if disk.vmdisk_id is None]
        if not unknown:
            return ""
        return (
            f"Prism names no storage file of {', '.join(unknown)} (v2, vm_disk_info), so nobody could tell it in a "
            f"snapshot; capture it through a Prism Central that has v4"
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.aclose()

    async def vms(self) -> list[Vm]:
        """Return every VM that can be read."""
        found = await self.list_vms()
        if found.complaint:
            log.warning("Prism %s: %s", self._session.name, found.complaint)
        return list(found.vms)

    async def list_vms(self) -> VmList:
        """Return every VM that we may see.  Which file on storage a disk is, only `vm` tells."""
        return await sorted_list(self.stream_vms())

    def stream_vms(self, *, categories: Collection[str] = ()) -> AsyncIterator[Vm | OddVm]:
        """Yield the VMs as pages arrive; v3 tells their categories with them."""
        return each_vm(entities(self._api, "vm"), self._read, name_of)

    async def ids_named(self, name: str) -> list[str]:
        """Return the ids of the VMs of this name."""
        filter_text = f"vm_name=={name}" if _PLAIN_NAME.fullmatch(name) else ""
        return await ids_named(entities(self._api, "vm", filter_text=filter_text), name, name_of)

    async def vm(self, vm_id: str) -> Vm:
        """Return one VM."""
        with not_found_as(f"VM {vm_id}"):
            answer = await self._api.get_vm(given_id(vm_id, "VM"))
            files = (await self._api.get_vm_v2(vm_id)).files()
        return schema.vm_from(answer.body, files, request=answer.request)

    async def cluster(self, cluster_id: str) -> ClusterFacts:
        """Return what Prism tells of its cluster; nothing where it does not, may not, or cannot now."""
        return await self._facts.cluster(cluster_id)

    async def containers(self) -> list[Container]:
        """Return the storage containers."""
        return await self._facts.containers()

    async def hosts(self, cluster_id: str) -> list[Host]:
        """Return the hosts."""
        return await self._facts.hosts(cluster_id)

    async def network_names(self, network_ids: Collection[str]) -> Mapping[str, str]:
        """Return none: v3 tells them with a VM."""
        return {}

    async def disk_usage(self) -> Mapping[str, DiskUsage]:
        """Return what each disk takes, by its device uuid."""
        return await self._facts.disk_usage()

    async def shut_down_guest(self, vm: Vm) -> None:
        """Ask the guest to shut down."""
        await self._set_power(vm, "ACPI_SHUTDOWN", f"shutting down the guest of VM {vm.name!r} ({vm.id})")

    async def power_on(self, vm: Vm) -> None:
        """Let the VM run, unless it does."""
        if (await self.vm(vm.id)).power_state != "on":
            await self._set_power(vm, "ON", f"powering on VM {vm.name!r} ({vm.id})")
            await must_run(self.vm, vm, self._session.clock)

    async def _set_power(self, vm: Vm, transition: str, what: str) -> None:
        with not_found_as(f"VM {vm.id}"):
            task_id = await self._api.set_power_state_v2(given_id(vm.id, "VM"), transition)
        await ElementTasks(self._api).wait(task_id, what, Deadline(self._session.clock))

    async def becomes(self, vm: Vm, wanted: PowerState, *, within_s: float) -> bool:
        """Wait for a power state."""
        return await power_becomes(self.vm, vm, wanted, self._session.clock, within_s)

    async def create_recovery_point(
        self, vm: Vm, *, name: str, consistency: Consistency, expires_at: datetime, vss: VssBackup | None = "copy"
    ) -> RecoveryPoint:
        """Freeze all disks of `vm`; delete what was made if that does not come to a good end."""
        return await self._points.create(vm, name=name, consistency=consistency, expires_at=expires_at, vss=vss)

    async def create_shared_recovery_point(
        self,
        vms: Sequence[Vm],
        *,
        name: str,
        consistency: Consistency,
        expires_at: datetime,
        vss: Mapping[str, VssBackup | None],
    ) -> list[RecoveryPoint]:
        """Refuse it."""
        raise PrismError(_ONE_VM)

    def shared_obstacle(self, vms: Sequence[Vm]) -> str:
        """Return why it cannot be had."""
        return _ONE_VM

    async def attached_groups(self, vm: Vm) -> list[AttachedGroup]:
        """Return none: what a VM has is in `excluded`."""
        return []

    async def recovery_point(self, recovery_point_id: str, vm: Vm) -> RecoveryPoint:
        """Return a snapshot with those of the disks of `vm` that it holds."""
        return await self._points.get(recovery_point_id, vm)

    async def recovery_points(self, *, name: str = "", name_prefix: str = "") -> list[RecoveryPoint]:
        """Return every snapshot that we may see, of one name or whose names begin so: there is no filter for it."""
        return await self._points.listed(name, name_prefix)

    async def extend_recovery_point(self, point: RecoveryPoint, expires_at: datetime) -> None:
        """Let the cluster keep it until then."""
        await self._points.extend(point, expires_at)

    async def delete_recovery_point(self, recovery_point_id: str) -> None:
        """Delete, and wait until it is gone."""
        await self._points.delete(recovery_point_id)

    async def changed_regions(self, disk: DiskPoint, reference: DiskPoint | None) -> AsyncIterator[RegionPage]:
        """Yield the pages of what differs between `reference` and `disk`; without one, of what is allocated."""
        if disk.path is None or (reference is not None and reference.path is None):
            raise OptionsError(f"recovery point disk {disk.id} or its reference has no storage path: it is not of v3")
        older = reference.path if reference is not None else None

        async def ask(start: int) -> Answer:
            with not_found_as(f"snapshot file {disk.path}" + (f" or its reference {older}" if older else "")):
                return await self._api.changed_regions(disk.path, older, start)

        async for page in walk(ask, page_v3):
            yield page

    async def sample_regions(self, disk: DiskPoint, length: int) -> RegionSample:
        """Return the first page of what is allocated in the first `length` bytes of `disk`."""
        if disk.path is None:
            raise OptionsError(f"recovery point disk {disk.id} has no storage path: it is not of v3")
        with not_found_as(f"snapshot file {disk.path}"):
            answer = await self._api.changed_regions(disk.path, None, 0, length)
        return RegionSample(page_v3(answer.body, start=0, request=answer.request), self._session.name)

    async def reach_element(self, cluster: ClusterFacts, reference: DiskPoint | None) -> None:
        """Nothing to do: it is the one that told of the VM."""

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

    async def _read(self, listed: Listed) -> Vm:
        try:
            return schema.vm_from(listed.raw, {}, request=listed.request, with_config=False)
        except PrismAnswerError:
            # Where v3 does not tell the size of a disk, v2 may.
            with contextlib.suppress(PrismStatusError, PrismAnswerError):
                files = (await self._api.get_vm_v2(listed.id)).files()
                return schema.vm_from(listed.raw, files, request=listed.request, with_config=False)
            raise

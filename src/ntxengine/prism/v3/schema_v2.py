"""The v2 answers of a Prism Element: which storage file is which disk, and tasks.

A disk has two names: v3 knows the device's uuid, storage the vmdisk's.  Only v2 tells which is which
(nutanix-api, fact 5).
"""

from __future__ import annotations

import contextlib

import msgspec

from ntxengine.errors import PrismAnswerError
from ntxengine.ids import is_uuid
from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.http.parse import Size, Uuid, decode, ip_address_from
from ntxengine.prism.iscsi import target_from
from ntxengine.prism.models import ClusterFacts, VolumeGroup
from ntxengine.prism.versions import read_version

_MAX_TOLD = 10
_SNAPSHOT_FOLDERS = ("/.snapshot/", "/.acropolis/snapshot/")


class _V2Address(msgspec.Struct):
    device_uuid: str | None = None
    device_bus: str | None = None
    device_index: int | None = None
    vmdisk_uuid: str | None = None
    ndfs_filepath: str | None = None


class V2Disk(msgspec.Struct):
    """A disk slot of a VM with the storage file behind it."""

    disk_address: _V2Address | None = None
    source_disk_address: _V2Address | None = None
    is_cdrom: bool | None = None
    size: Size | None = None

    @property
    def vmdisk_id(self) -> str | None:
        """The name of its file, if it is one that storage can have."""
        found = self.disk_address.vmdisk_uuid if self.disk_address else None
        return found if is_uuid(found) else None

    @property
    def source_path(self) -> str | None:
        """The path of the file that it was cloned from."""
        return self.source_disk_address.ndfs_filepath if self.source_disk_address else None

    @property
    def cloned_from(self) -> str | None:
        """The path of the snapshot file that it is a clone of, if it is one."""
        path = self.source_path
        return path if path is not None and any(folder in path for folder in _SNAPSHOT_FOLDERS) else None


class V2Vm(msgspec.Struct):
    """A VM as v2 knows it."""

    uuid: Uuid
    vm_disk_info: list[msgspec.Raw] | None = None

    def slots(self) -> list[V2Disk]:
        """Return the disk slots that can be read: one that cannot hides no other."""
        found = []
        for raw in self.vm_disk_info or ():
            with contextlib.suppress(PrismAnswerError):
                found.append(decode(raw, V2Disk, request=f"v2: VM {self.uuid}"))
        return found

    def files(self) -> dict[str, V2Disk]:
        """Return the disks by their device uuid, and those that are told without one by their address."""
        return {
            address.device_uuid or label_key(address.device_bus, address.device_index): disk
            for disk in self.slots()
            if (address := disk.disk_address) is not None and not disk.is_cdrom
        }


class _V2Metadata(msgspec.Struct):
    grand_total_entities: int | None = None


class V2List(msgspec.Struct):
    """A page of entities, each still as bytes."""

    entities: list[msgspec.Raw]
    metadata: _V2Metadata | None = None

    @property
    def total(self) -> int | None:
        """How many there are in all, None if that is not told."""
        return self.metadata.grand_total_entities if self.metadata is not None else None


class V2Cluster(msgspec.Struct):
    """The cluster of a Prism Element."""

    name: str | None = None
    version: str | None = None
    full_version: str | None = None
    storage_type: str | None = None
    cluster_external_data_services_ipaddress: str | None = None
    global_nfs_white_list: list[str] | None = None
    cluster_external_ipaddress: str | None = None
    encrypted: bool | None = None

    @property
    def data_services(self) -> str:
        """The IP address for iSCSI, "" if none is told."""
        return ip_address_from(self.cluster_external_data_services_ipaddress or "")

    def facts(self, cluster_id: str) -> ClusterFacts:
        """Return it as our model."""
        clients = self.global_nfs_white_list
        return ClusterFacts(
            cluster_id,
            one_line(self.name or ""),
            read_version(one_line(self.full_version or ""), one_line(self.version or "")),
            address=ip_address_from(self.cluster_external_ipaddress or ""),
            storage_type=one_line(self.storage_type or ""),
            nfs_allowed=None if clients is None else tuple(map(one_line, clients)),
            is_encrypted=self.encrypted,
        )


class _V2GroupDisk(msgspec.Struct):
    index: int | None = None


class V2Attachment(msgspec.Struct):
    """An initiator, or a VM, that a volume group is attached to."""

    iscsi_initiator_name: str | None = None
    initiator_ip_address: str | None = None

    @property
    def initiator(self) -> str:
        """Its name, or its address where that is all; "" for a VM."""
        return self.iscsi_initiator_name or self.initiator_ip_address or ""


class V2Group(msgspec.Struct):
    """A volume group."""

    uuid: Uuid
    name: str | None = None
    iscsi_target: str | None = None
    is_deleted: bool | None = None
    disk_list: list[_V2GroupDisk] | None = None
    attachment_list: list[V2Attachment] | None = None

    @property
    def luns(self) -> list[int | None]:
        """The numbers of its disks."""
        return [disk.index for disk in self.disk_list or ()]

    def model(self, cluster_id: str) -> VolumeGroup:
        """Return it as our model."""
        what = f"volume group {one_line(self.name or self.uuid)}"
        lun = next((lun for lun in self.luns if lun is not None), 0)
        return VolumeGroup(self.uuid, self.name or "", cluster_id, target_from(self.iscsi_target, what=what), lun)


class V2Value(msgspec.Struct):
    """The answer to what is done at once: whether it was done."""

    value: bool | None = None


class V2TaskAccepted(msgspec.Struct):
    """The answer to everything that takes time in v2."""

    task_uuid: Uuid


class _MetaResponse(msgspec.Struct):
    error_detail: str | None = None


class _TaskEntity(msgspec.Struct):
    entity_id: str
    entity_type: str | None = None


class V2Task(msgspec.Struct):
    """A task as it stands."""

    uuid: str | None = None
    progress_status: str | None = None
    meta_response: _MetaResponse | None = None
    entity_list: list[msgspec.Raw] | None = None

    @property
    def groups(self) -> list[str]:
        """The ids of what may be volume groups of what it says that it touched: how it calls them differs."""
        found = []
        for raw in self.entity_list or ():
            with contextlib.suppress(PrismAnswerError):
                entity = decode(raw, _TaskEntity, request=f"v2: task {self.uuid}")
                if is_uuid(entity.entity_id) and "group" in (entity.entity_type or "group").lower():
                    found.append(entity.entity_id)
        return found[:_MAX_TOLD]

    @property
    def state(self) -> str:
        """Its status in lower case: both spellings are documented."""
        return (self.progress_status or "").lower()


def label_key(bus: str | None, index: int | None) -> str:
    """Return an address as a key beside device uuids: `scsi.0`."""
    return f"{(bus or '').lower()}.{index}"

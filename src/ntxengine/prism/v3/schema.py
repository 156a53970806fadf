"""The v3 answers of a Prism Element, as far as a capture reads them, and how they become our models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from ntxengine.errors import PrismAnswerError
from ntxengine.ids import UUID_PATTERN, is_uuid
from ntxengine.prism.http.error_body import one_line, with_details
from ntxengine.prism.http.parse import Size, Uuid, decode, decode_object, time_from, time_from_msecs
from ntxengine.prism.models import Consistency, Disk, DiskPoint, PowerState, RecoveryPoint, Vm
from ntxengine.prism.v3.guest_tools import GuestToolsState
from ntxengine.prism.v3.schema_v2 import V2Disk, V2Vm, label_key

_POWER: dict[str | None, PowerState] = {"ON": "on", "OFF": "off", "PAUSED": "paused"}
_LIVE_DISK = re.compile(rf"/[^/]+/\.acropolis/vmdisk/({UUID_PATTERN})")
_FAILED = frozenset({"error", "kerror", "failed"})


# -- v3: common


class ListMetadata(msgspec.Struct):
    """How many there are in all."""

    total_matches: Size | None = None


class EntityList(msgspec.Struct):
    """A page of entities, each still as bytes.  No list at all is an empty one only if the total is told as well."""

    entities: list[msgspec.Raw] | None = None
    metadata: ListMetadata | None = None

    def __post_init__(self) -> None:
        if self.entities is None and (self.metadata is None or self.metadata.total_matches is None):
            raise ValueError("neither `entities` nor `total_matches`: it says nothing")


class Identifiers(msgspec.Struct):
    """Uuids for things that are yet to be made."""

    uuid_list: Annotated[list[Uuid], msgspec.Meta(min_length=1)]


class _Metadata(msgspec.Struct):
    uuid: Uuid
    creation_time: Any = None


class _Reference(msgspec.Struct):
    uuid: str | None = None
    name: str | None = None


class IdAnswer(msgspec.Struct):
    """One entity, of which only the id is read."""

    metadata: _Reference


class _Message(msgspec.Struct):
    message: str | None = None
    reason: str | None = None
    details: object = None


# -- v3: VMs


class _DiskAddress(msgspec.Struct):
    adapter_type: str | None = None
    device_index: int | None = None


class _DeviceProperties(msgspec.Struct):
    device_type: str | None = None
    disk_address: _DiskAddress | None = None


class _StorageConfig(msgspec.Struct):
    storage_container_reference: _Reference | None = None


class _Disk(msgspec.Struct):
    uuid: Uuid | None = None
    disk_size_bytes: Size | None = None
    device_properties: _DeviceProperties | None = None
    storage_config: _StorageConfig | None = None
    is_migration_in_progress: bool | None = None

    @property
    def label(self) -> str:
        """`scsi.0`, as people write it."""
        address = (self.device_properties.disk_address if self.device_properties else None) or _DiskAddress()
        index = address.device_index if address.device_index is not None else "?"
        return f"{(address.adapter_type or 'disk').lower()}.{index}"


_GROUP = "volume group: a snapshot of v3 does not hold it, a recovery point of v4 does"


class _Resources(msgspec.Struct):
    power_state: str | None = None
    hypervisor_type: str | None = None
    host_reference: _Reference | None = None
    disk_list: list[_Disk] | None = None
    guest_tools: GuestToolsState | None = None


class _VmStatus(msgspec.Struct):
    resources: _Resources
    name: str | None = None
    cluster_reference: _Reference | None = None


class _VmMetadata(_Metadata):
    categories: Any = None
    categories_mapping: Any = None

    def told(self) -> tuple[tuple[str, ...], bool]:
        """Return the categories, `key=value`: one of each key, or all where Prism tells all; and whether it is odd."""
        both = (self.categories_mapping, self.categories)
        found = next((one for one in both if isinstance(one, dict) and one), {})
        pairs = [
            (key, value)
            for key, values in found.items()
            for value in (values if isinstance(values, list) else [values])
        ]
        named = {one_line(f"{key}={value}") for key, value in pairs if isinstance(value, str)}
        return tuple(sorted(named)), any(one and not isinstance(one, dict) for one in both)


class _Vm(msgspec.Struct):
    metadata: _VmMetadata
    status: _VmStatus


def vm_from(raw: msgspec.Raw | bytes, files: Mapping[str, V2Disk], *, request: str, with_config: bool = True) -> Vm:
    """Return a VM as our model; `files` are its disks as v2 knows them, as far as that is known.

    Without its configuration for a list, where it would be most of what is held.
    """
    found = decode(raw, _Vm, request=request)
    where = f"{request}: VM {found.metadata.uuid}"
    resources = found.status.resources
    disks, excluded = [], []
    for slot in resources.disk_list or ():
        kind = slot.device_properties.device_type if slot.device_properties else None
        if kind in ("CDROM", "VOLUME_GROUP"):
            excluded.append(f"{slot.label} ({'CD-ROM' if kind == 'CDROM' else _GROUP})")
        else:
            disks.append(_disk(slot, files, where))
    if len({disk.id for disk in disks}) != len(disks):
        raise PrismAnswerError(f"{where}: two disks have the same uuid")
    cluster, host = found.status.cluster_reference, resources.host_reference
    categories, may_have_other_categories = found.metadata.told()
    return Vm(
        id=found.metadata.uuid,
        name=found.status.name or "",
        power_state=_POWER.get(resources.power_state, "unknown"),
        cluster_id=(cluster.uuid if cluster else None) or "",
        host_id=host.uuid if host else None,
        disks=tuple(disks),
        guest_tools=(resources.guest_tools or GuestToolsState()).model(),
        excluded=tuple(excluded),
        categories=categories,
        may_have_other_categories=may_have_other_categories,
        config=decode_object(raw, request=request) if with_config else {},
    )


def hypervisor_of(vm: Vm) -> str:
    """Return the hypervisor that the VM's configuration names, empty if it names none."""
    status = vm.config.get("status")
    resources = status.get("resources") if isinstance(status, dict) else None
    kind = resources.get("hypervisor_type") if isinstance(resources, dict) else None
    return kind if isinstance(kind, str) else ""


def _disk(slot: _Disk, files: Mapping[str, V2Disk], where: str) -> Disk:
    address = slot.device_properties.disk_address if slot.device_properties else None
    if slot.uuid is None or address is None or address.adapter_type is None or address.device_index is None:
        raise PrismAnswerError(f"{where}: disk {slot.label}: no uuid, adapter_type or device_index")
    file = _file(slot.uuid, address, slot.disk_size_bytes, files)
    # disk_size_mib is rounded up: no size at all is better than a wrong one.
    size = slot.disk_size_bytes if slot.disk_size_bytes is not None else file.size if file is not None else None
    if size is None:
        raise PrismAnswerError(f"{where}: disk {slot.label}: no disk_size_bytes")
    container = (slot.storage_config.storage_container_reference if slot.storage_config else None) or _Reference()
    return Disk(
        id=slot.uuid,
        size=size,
        bus=address.adapter_type.lower(),
        index=address.device_index,
        container_id=container.uuid or "",
        container_name=container.name,
        vmdisk_id=file.vmdisk_id if file is not None else None,
        cloned_from=file.cloned_from if file is not None else None,
        is_moving=slot.is_migration_in_progress is True,
    )


def _file(uuid: str, address: _DiskAddress, size: int | None, files: Mapping[str, V2Disk]) -> V2Disk | None:
    """Return the storage file of a disk: by its device uuid, else by its address, which two disks of a VM never share.

    By the address only a file of the same size: v2 was asked a moment later.
    """
    if (file := files.get(uuid)) is not None:
        return file
    found = files.get(label_key(address.adapter_type, address.device_index))
    return found if found is not None and found.size in (None, size) else None


# -- v3: vm_snapshots


class _SnapshotFile(msgspec.Struct):
    file_path: str | None = None
    snapshot_file_path: str | None = None


class _SnapshotResources(msgspec.Struct):
    entity_uuid: str | None = None


class _SnapshotStatus(msgspec.Struct):
    state: str | None = None
    name: str | None = None
    snapshot_type: str | None = None
    expiration_time_msecs: Any = None
    resources: _SnapshotResources | None = None
    snapshot_file_list: list[_SnapshotFile] | None = None
    message_list: list[_Message] | None = None


class Snapshot(msgspec.Struct):
    """A vm_snapshot: what v4 calls a recovery point."""

    metadata: _Metadata
    status: _SnapshotStatus | None = None

    @property
    def is_complete(self) -> bool:
        """Whether its files are there: the state alone does not say so (nutanix-api, 3.5)."""
        return self.status is not None and self.status.state == "COMPLETE" and bool(self.status.snapshot_file_list)

    @property
    def has_failed(self) -> bool:
        """Whether it will never be complete."""
        return self.status is not None and (self.status.state or "").lower() in _FAILED

    def is_of(self, name: str, vm: Vm) -> bool:
        """Whether it has this name and this VM, as far as it says so."""
        status = self.status or _SnapshotStatus()
        vm_id = status.resources.entity_uuid if status.resources else None
        return status.name in (None, name) and vm_id in (None, vm.id)

    def is_told_of(self, name: str, vm: Vm) -> bool:
        """Whether it says that it has this name and this VM."""
        status = self.status or _SnapshotStatus()
        return status.name == name and status.resources is not None and status.resources.entity_uuid == vm.id

    @property
    def state(self) -> str:
        """Its state as Prism writes it, one line."""
        return one_line((self.status.state if self.status else None) or "no state")

    def complaint(self) -> str:
        """Return what Prism says about the failure."""
        said = (self.status.message_list if self.status else None) or []
        texts = (with_details(item.message or item.reason or "", item.details) for item in said)
        return one_line("; ".join(text for text in texts if text)) or "no reason given"


@dataclass(frozen=True)
class VmFiles:
    """Which storage file is which disk of a VM, now: vmdisk uuid -> `Disk.id`."""

    by_vmdisk: Mapping[str, str]


def vm_files(vm: Vm, known: V2Vm) -> VmFiles:
    """Return the storage files of the data disks of `vm`; PrismAnswerError if they are not one for each."""
    devices = [disk.disk_address.device_uuid for disk in known.slots() if disk.disk_address is not None]
    twice = next((disk.label for disk in vm.disks if devices.count(disk.id) > 1), None)
    if twice is not None:
        raise PrismAnswerError(f"VM {vm.id}: v2 names two storage files for disk {twice}")
    files = known.files()
    by_vmdisk: dict[str, str] = {}
    for disk in vm.disks:
        file = _file(disk.id, _DiskAddress(disk.bus, disk.index), disk.size, files)
        if file is not None and file.vmdisk_id is not None and by_vmdisk.setdefault(file.vmdisk_id, disk.id) != disk.id:
            raise PrismAnswerError(f"VM {vm.id}: v2 names one storage file for two disks")
    return VmFiles(by_vmdisk)


def recovery_point_from(
    found: Snapshot, *, files: VmFiles | None = None, vm: Vm | None = None, request: str
) -> RecoveryPoint:
    """Return a vm_snapshot as our model; with `files` and `vm` also its disks, in the VM's order."""
    status = found.status or _SnapshotStatus()
    consistency: Consistency = "application" if status.snapshot_type == "APPLICATION_CONSISTENT" else "crash"
    disks: dict[str, DiskPoint] = {}
    for item in (status.snapshot_file_list or ()) if files is not None else ():
        point = _disk_point(item, found.metadata.uuid, files, request) if files is not None else None
        if point is None:
            continue
        if point.disk_id in disks:
            raise PrismAnswerError(f"{request}: snapshot {found.metadata.uuid} lists disk {point.disk_id} twice")
        disks[point.disk_id] = point
    if len({point.id for point in disks.values()}) != len(disks):
        raise PrismAnswerError(f"{request}: snapshot {found.metadata.uuid} has one file for two disks")
    vm_id = (status.resources.entity_uuid if status.resources else None) or ""
    return RecoveryPoint(
        id=found.metadata.uuid,
        name=status.name or "",
        vm_id=vm_id,
        vm_ids=frozenset({vm_id} - {""}),
        consistency=consistency,
        created_at=time_from(found.metadata.creation_time),
        expires_at=time_from_msecs(status.expiration_time_msecs),
        disks=tuple(disks[disk.id] for disk in vm.disks if disk.id in disks) if vm is not None else (),
    )


def _disk_point(item: _SnapshotFile, snapshot_id: str, files: VmFiles, request: str) -> DiskPoint | None:
    """Return the point of one of the VM's data disks; None for a file that is none (CD-ROM, UEFI variables)."""
    match = _LIVE_DISK.fullmatch(item.file_path or "")
    disk_id = files.by_vmdisk.get(match[1]) if match is not None else None
    if match is None or disk_id is None:
        return None
    path = item.snapshot_file_path or ""
    parts = path.split("/")
    if len(parts) < 3 or parts[0] or any(part in ("", ".", "..") for part in parts[1:]) or not path.isprintable():
        raise PrismAnswerError(f"{request}: snapshot_file_path {one_line(path)!r} is no absolute path of a file")
    if is_uuid(parts[-1]) and parts[-1].lower() != match[1].lower():
        raise PrismAnswerError(f"{request}: snapshot_file_path {path!r} is the file of another disk than {match[1]}")
    return DiskPoint(id=path, disk_id=disk_id, recovery_point_id=snapshot_id, path=path)

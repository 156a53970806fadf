"""The v4 answers, as far as a capture reads them, and how they become our models.

Lists of entities are kept raw and decoded one by one: the whole entity goes into `Vm.config`, our few fields are
checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ntxengine.errors import PrismAnswerError
from ntxengine.prism.guest import GuestTools
from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.http.parse import Size, TaskId, Uuid, decode, decode_object
from ntxengine.prism.models import Disk, GroupSlot, PowerState, Vm
from ntxengine.prism.v4.guest_tools import GuestToolsState

RECOVERY_POINT_DISK = "vmm.v4.ahv.config.VmDiskRecoveryPointReference"
RECOVERY_POINT_VOLUME_DISK = "vmm.v4.ahv.config.VolumeDiskRecoveryPointReference"
"""What a hot-added disk says it was made from: a disk of a VM, or of a volume group."""

_POWER: dict[str | None, PowerState] = {"ON": "on", "OFF": "off", "PAUSED": "paused"}


class Camel(msgspec.Struct, rename="camel", kw_only=True):
    """Base: fields are camelCase on the wire."""


class Reference(Camel):
    """An object named by its id."""

    ext_id: str | None = None


class _Link(Camel):
    rel: str | None = None


class ListMetadata(Camel):
    """How many there are in all, and where other pages are."""

    total_available_results: Size | None = None
    links: list[_Link] | None = None


class EntityList(Camel):
    """A page of entities, each still as bytes.  No list at all is an empty one only if the total is told as well."""

    data: list[msgspec.Raw] | None = None
    metadata: ListMetadata | None = None

    def __post_init__(self) -> None:
        if self.data is None and (self.metadata is None or self.metadata.total_available_results is None):
            raise ValueError("neither `data` nor `totalAvailableResults`: it says nothing")


class IdAnswer(Camel):
    """One entity, of which only the id is read."""

    data: Reference


SECURE = "it is secure (isSecure): somebody has to approve its deletion in Prism"
"""Why a recovery point or a volume group is not deleted by whoever asks for it."""


class Entity(Camel):
    """One entity, still as bytes."""

    data: msgspec.Raw


class VersionInfo(Camel):
    """The highest revision that a name space has: `v4.3`."""

    data: str


# -- tasks


class _TaskReference(Camel):
    ext_id: TaskId


class TaskAccepted(Camel):
    """The answer to everything that takes time."""

    data: _TaskReference


class _Detail(Camel):
    name: str | None = None
    value: Any = None


class _Affected(Camel):
    ext_id: str | None = None
    rel: str | None = None


class _Message(Camel):
    code: str | None = None
    message: str | None = None
    error_group: str | None = None

    def __str__(self) -> str:
        return f"{self.code or ''} {self.message or self.error_group or ''}".strip()


class TaskState(Camel):
    """A task as it stands."""

    status: str
    completion_details: list[_Detail] | None = None
    entities_affected: list[_Affected] | None = None
    error_messages: list[_Message] | None = None
    legacy_error_message: str | None = None
    warnings: list[_Message] | None = None
    is_cancelable: bool | None = None

    @property
    def has_failed(self) -> bool:
        """It ended by itself and did not succeed: what was cancelled may have done its work."""
        return self.status == "FAILED"

    def detail(self, name: str) -> str | None:
        """Return the text of a completion detail; its value may also be a list with one text (KVPair)."""
        values = (item.value for item in self.completion_details or () if item.name == name)
        flat = (value[0] if isinstance(value, list) and len(value) == 1 else value for value in values)
        return next((value for value in flat if isinstance(value, str)), None)

    def affected(self, rel: str) -> list[str]:
        """Return the ids of the entities of a kind that it touched."""
        return [item.ext_id for item in self.entities_affected or () if item.ext_id and item.rel == rel]

    def complaint(self) -> str:
        """Return what Prism says about the failure; the cause may stand in the legacy message alone (TSKS-20801)."""
        said = [text for item in self.error_messages or () if (text := one_line(str(item)))]
        legacy = one_line(self.legacy_error_message or "")
        if legacy and not any(legacy in text for text in said):
            said.insert(0, legacy)
        return "; ".join(dict.fromkeys(said)) or "no reason given"


class TaskAnswer(Camel):
    """One task."""

    data: TaskState


# -- VMs


class _DiskAddress(Camel):
    bus_type: str | None = None
    index: int | None = None


class _DiskReference(Camel):
    object_type: str | None = msgspec.field(default=None, name="$objectType")
    disk_recovery_point_ext_id: str | None = None


class _DataSource(Camel):
    reference: _DiskReference | None = None


class _ExternalStorage(Camel):
    volume_name: str | None = None


class _Backing(Camel):
    disk_ext_id: Uuid | None = None
    disk_size_bytes: Size | None = None
    storage_container: Reference | None = None
    data_source: _DataSource | None = None
    volume_group_ext_id: str | None = None
    external_storage_info: _ExternalStorage | None = None
    is_migration_in_progress: bool | None = None


class VmDisk(Camel):
    """A disk slot of a VM."""

    ext_id: Uuid
    disk_address: _DiskAddress | None = None
    backing_info: _Backing | None = None

    @property
    def label(self) -> str:
        """`scsi.0`, as people write it."""
        address = self.disk_address or _DiskAddress()
        return f"{(address.bus_type or 'disk').lower()}.{address.index if address.index is not None else '?'}"

    @property
    def cloned_from(self) -> str | None:
        """The disk recovery point that it is a clone of, if it is one and Prism says so."""
        source = self.backing_info.data_source if self.backing_info else None
        reference = source.reference if source else None
        # Prism writes $objectType on the first object of a list, not always on the others.
        if reference is None or reference.object_type not in (None, RECOVERY_POINT_DISK, RECOVERY_POINT_VOLUME_DISK):
            return None
        return reference.disk_recovery_point_ext_id


class _Vm(Camel):
    ext_id: Uuid
    name: str | None = None
    power_state: str | None = None
    cluster: Reference | None = None
    host: Reference | None = None
    disks: list[VmDisk] | None = None
    cd_roms: list[_CdRom] | None = None
    is_cross_cluster_migration_in_progress: bool | None = None
    categories: Any = None
    guest_tools: GuestToolsState | None = None


class _CdRom(Camel):
    disk_address: _DiskAddress | None = None


@dataclass(frozen=True)
class CategoryNames:
    """What the categories are called, `key=value`, by id.

    `are_enough`: those that somebody looks for are among them, so one without a name is none of those.
    """

    by_id: Mapping[str, str]
    are_enough: bool

    def of(self, found: object) -> tuple[tuple[str, ...], bool]:
        """Return the categories of a VM that have a name, and whether it may have others that are looked for.

        What is odd about them keeps nobody from reading the VM.
        """
        listed = found or []
        if not isinstance(listed, list):
            return (), True
        ids = [one.get("extId") if isinstance(one, dict) else None for one in listed]
        is_odd = not all(isinstance(one, str) for one in ids)
        names = {one: self.by_id.get(one) for one in ids if isinstance(one, str)}
        named = tuple(sorted({name for name in names.values() if name is not None}))
        return named, is_odd or (None in names.values() and not self.are_enough)


def vm_from(raw: msgspec.Raw, *, request: str, with_config: bool = True, names: CategoryNames | None = None) -> Vm:
    """Return a VM as our model; without its configuration for a list, where it would be most of what is held.

    Without `names` no category is told of.
    """
    found = decode(raw, _Vm, request=request)
    where = f"{request}: VM {found.ext_id}"
    disks, excluded = [], []
    groups: dict[str, GroupSlot] = {}
    for slot in found.disks or ():
        if slot.backing_info is not None and (group_id := slot.backing_info.volume_group_ext_id) is not None:
            groups.setdefault(group_id, GroupSlot(group_id, slot.label))
        else:
            disks.append(_disk(slot, where))
    for cd_rom in found.cd_roms or ():
        address = cd_rom.disk_address or _DiskAddress()
        excluded.append(f"{(address.bus_type or 'ide').lower()}.{address.index or 0} (CD-ROM)")
    if len({disk.id for disk in disks}) != len(disks):
        raise PrismAnswerError(f"{where}: two disks have the same diskExtId")
    categories, may_have_other_categories = (None, False) if names is None else names.of(found.categories)
    return Vm(
        id=found.ext_id,
        name=found.name or "",
        power_state=_POWER.get(found.power_state, "unknown"),
        cluster_id=(found.cluster.ext_id if found.cluster else None) or "",
        host_id=found.host.ext_id if found.host else None,
        disks=tuple(disks),
        guest_tools=found.guest_tools.model() if found.guest_tools else GuestTools(),
        excluded=tuple(excluded),
        groups=tuple(groups.values()),
        is_moving=found.is_cross_cluster_migration_in_progress is True,
        categories=categories,
        may_have_other_categories=may_have_other_categories,
        config=decode_object(raw, request=request) if with_config else {},
    )


def _disk(slot: VmDisk, where: str) -> Disk:
    backing, address = slot.backing_info, slot.disk_address
    if backing is None or backing.disk_ext_id is None or backing.disk_size_bytes is None:
        raise PrismAnswerError(f"{where}: disk {slot.label}: backingInfo has no diskExtId or no diskSizeBytes")
    if address is None or address.bus_type is None or address.index is None:
        raise PrismAnswerError(f"{where}: disk {slot.ext_id}: diskAddress has no busType or no index")
    external = backing.external_storage_info
    container = backing.storage_container.ext_id if backing.storage_container else None
    return Disk(
        id=backing.disk_ext_id,
        size=backing.disk_size_bytes,
        bus=address.bus_type.lower(),
        index=address.index,
        container_id=container or "",
        cloned_from=slot.cloned_from,
        external_storage=one_line(external.volume_name or "unnamed") if external is not None else None,
        is_moving=backing.is_migration_in_progress is True,
    )

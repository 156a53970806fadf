"""Volume groups that are attached to VMs: what they are called, their disks, and why one cannot be captured.

A recovery point holds the disks of a group by their ids (volume disks), as it holds those of a VM.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import partial

from ntxengine.errors import PrismAnswerError, PrismError
from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.http.parse import decode
from ntxengine.prism.models import AttachedGroup, Disk, DiskGroup, GroupSlot, Vm
from ntxengine.prism.tasks import may_pass
from ntxengine.prism.v4.pages import entities
from ntxengine.prism.v4.schema_volumes import VolumeDisk, VolumeGroupState
from ntxengine.prism.v4.volumes_api import VolumesApi

MAX_LABEL = 64
_STRANGE = re.compile(r"[^\w.-]+")


class CentralGroups:
    """Reads them."""

    def __init__(self, api: VolumesApi) -> None:
        self._api = api

    async def of(self, vm: Vm) -> list[AttachedGroup]:
        """Return the groups that are attached to a VM.  Errors: PrismError that may pass."""
        groups = [await self._group(slot) for slot in vm.groups]
        count = Counter(group.name for group in groups)
        return [
            _renamed(group, f"{group.name}-{group.slot.id[:8]}") if count[group.name] > 1 else group for group in groups
        ]

    async def _group(self, slot: GroupSlot) -> AttachedGroup:
        try:
            return await self._read(slot)
        except PrismError as exc:
            if may_pass(exc):
                raise
            return AttachedGroup(slot, slot.id, obstacle=f"it cannot be read: {exc}")

    async def _read(self, slot: GroupSlot) -> AttachedGroup:
        found, _ = await self._api.get_volume_group(slot.id)
        name = _STRANGE.sub("_", found.name or "")[:MAX_LABEL] or slot.id
        disks = [
            decode(listed.raw, VolumeDisk, request=f"{listed.request}: disk {listed.id or 'without an id'}")
            async for listed in entities(partial(self._api.list_volume_disks, slot.id))
        ]
        if obstacle := _obstacle(found, disks):
            return AttachedGroup(slot, name, obstacle=obstacle)
        group = DiskGroup(slot.id, name)
        return AttachedGroup(
            slot,
            name,
            tuple(sorted((_disk(disk, group) for disk in disks), key=lambda disk: disk.index)),
            is_shared=found.sharing_status == "SHARED",
        )


def _obstacle(group: VolumeGroupState, disks: list[VolumeDisk]) -> str:
    if group.wants_chap:
        return "its clients log in by CHAP, so it is not this VM's alone"
    outside = next((disk for disk in disks if disk.external_storage_info is not None), None)
    if outside is not None and outside.external_storage_info is not None:
        volume = one_line(outside.external_storage_info.volume_name or "unnamed")
        return f"disk {outside.index} of it lies on external storage ({volume})"
    if len({disk.index for disk in disks}) != len(disks):
        return "two of its disks have one index"
    return ""


def _disk(disk: VolumeDisk, group: DiskGroup) -> Disk:
    if disk.index is None or disk.disk_size_bytes is None:
        raise PrismAnswerError(
            f"disk {disk.ext_id} of volume group {group.name!r}: `index` or `diskSizeBytes` is not told"
        )
    return Disk(
        id=disk.ext_id,
        size=disk.disk_size_bytes,
        bus="scsi",
        index=disk.index,
        container_id=disk.storage_container_id or "",
        group=group,
    )


def _renamed(group: AttachedGroup, name: str) -> AttachedGroup:
    """Return a group that is told from another of its name."""
    disks = tuple(replace(disk, group=DiskGroup(group.slot.id, name)) for disk in group.disks)
    return replace(group, name=name, disks=disks)

"""From Prism's entity, as `Vm.config` holds it, to a machine in neutral words."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ntxengine.errors import PrismAnswerError
from ntxengine.machines import v3, v4
from ntxengine.machines.model import (
    DISK_BUSES,
    SECTOR_SIZE,
    SECTOR_SIZES,
    BootEntry,
    Disk,
    Machine,
)
from ntxengine.machines.parts import Parts, Slot
from ntxengine.machines.text import shown


class SourceGroup(Protocol):
    """The volume group that a disk is in."""

    @property
    def id(self) -> str:
        """The id of the group."""

    @property
    def name(self) -> str:
        """Its name, fit to stand in a label."""


class SourceDisk(Protocol):
    """A disk that is copied, as `ntxengine.prism.models.Disk` tells it."""

    @property
    def id(self) -> str:
        """What its manifest and its file are named for."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def index(self) -> int:
        """Its place on the bus, or in its group."""

    @property
    def group(self) -> SourceGroup | None:
        """None for a disk of the VM itself."""


def read_machine(
    config: Mapping[str, Any],
    disks: Iterable[SourceDisk] | None = None,
    *,
    sector_sizes: Mapping[str, int] | None = None,
    network_names: Mapping[str, str] | None = None,
) -> Machine:
    """Return the machine that an entity of v3 or v4 describes.

    `disks` are those that are copied, also of volume groups; what the VM has besides is told as lost.  None takes all
    that the entity has of its own.  `sector_sizes` are logical sector sizes by the ids of disks, 512 where none is
    told; `network_names` the names of networks by their ids, for v4 does not tell them.
    Errors: PrismAnswerError if the entity is of neither family, or has no id.
    """
    losses: list[str] = []
    if v4.is_v4(config):
        parts = v4.parts_from(config, losses)
    elif v3.is_v3(config):
        parts = v3.parts_from(config, losses)
    else:
        raise PrismAnswerError("the configuration of the VM is neither one of v3 nor of v4: no definition can be made")
    machine = parts.machine
    if not machine.uuid:
        raise PrismAnswerError("the configuration of the VM has no UUID: no definition can be made of it")
    chosen = _own(parts, losses) if disks is None else _copied(parts, tuple(disks), losses)
    chosen = tuple(_with_sectors(disk, sector_sizes or {}, losses) for disk in chosen)
    if not machine.name.strip():
        losses.append("the VM has no name: it is named by its UUID")
    names = network_names or {}
    return dataclasses.replace(
        machine,
        name=machine.name if machine.name.strip() else machine.uuid,
        disks=tuple(sorted(chosen, key=_place)),
        nics=tuple(
            dataclasses.replace(nic, network=nic.network or names.get(nic.network_id, "")) for nic in machine.nics
        ),
        boot_order=_boot_order(parts, chosen, losses),
        losses=tuple(losses),
    )


def _place(disk: Disk) -> tuple[int, int, int]:
    return DISK_BUSES.index(disk.bus), disk.index, disk.unit


def _own(parts: Parts, losses: list[str]) -> tuple[Disk, ...]:
    """Return the disks of the VM itself that can be named."""
    kept: dict[str, Disk] = {}
    for disk in parts.disks:
        if not disk.id or disk.id in kept or disk.size == 0:
            losses.append(f"disk {disk.label} has no id of its own, or no size, and is not carried over")
        else:
            kept[disk.id] = disk
    losses.extend(_group_loss(slot) for slot in parts.groups)
    return tuple(kept.values())


def _copied(parts: Parts, disks: tuple[SourceDisk, ...], losses: list[str]) -> tuple[Disk, ...]:
    """Return the disks that are copied, with the addresses that the entity tells."""
    told = {disk.id: disk for disk in parts.disks if disk.id}
    slots = {slot.group_id: slot for slot in parts.groups}
    chosen: list[Disk] = []
    for disk in disks:
        # Ids are compared in lower case, and handed on as they were given: files are named for them.
        if disk.group is not None:
            slot = slots.get(disk.group.id.lower(), Slot("scsi", 0))
            chosen.append(Disk(disk.id, slot.bus, slot.index, disk.size, unit=disk.index, group=disk.group.name))
        elif (own := told.get(disk.id.lower())) is not None:
            chosen.append(dataclasses.replace(own, id=disk.id, size=disk.size))
        else:
            losses.append(f"disk {shown(disk.id)} is copied, and the configuration of the VM does not have it")
    held = {disk.id.lower() for disk in chosen}
    groups = {disk.group.id.lower() for disk in disks if disk.group is not None}
    losses.extend(
        f"disk {disk.label} is not copied, and the new machine is without it"
        for disk in parts.disks
        if disk.id not in held
    )
    losses.extend(_group_loss(slot) for slot in parts.groups if slot.group_id not in groups)
    return tuple(chosen)


def _group_loss(slot: Slot) -> str:
    return (
        f"the volume group {slot.group_id or 'without an id'} at {slot.bus}.{slot.index} is not copied, and the new "
        f"machine is without it"
    )


def _with_sectors(disk: Disk, sizes: Mapping[str, int], losses: list[str]) -> Disk:
    size = sizes.get(disk.id, SECTOR_SIZE)
    if size not in SECTOR_SIZES:
        losses.append(f"disk {disk.label} is said to have sectors of {shown(size)} bytes, and is written with 512")
        size = SECTOR_SIZE
    return dataclasses.replace(disk, sector_size=size)


def _boot_order(parts: Parts, disks: tuple[Disk, ...], losses: list[str]) -> tuple[BootEntry, ...]:
    """Return the one thing to boot from first, then the kinds."""
    order: list[BootEntry] = []
    slot = parts.boot_slot
    if slot is not None:
        at_slot = (disk for disk in disks if (disk.bus, disk.index, disk.unit) == (slot.bus, slot.index, 0))
        disk = next(at_slot, None)
        if disk is None:
            losses.append(
                f"the VM boots from {slot.bus}.{slot.index}, which is not among the disks that are carried over"
            )
        else:
            order.append(BootEntry("disk", disk_id=disk.id))
    if parts.boot_mac:
        if any(nic.mac == parts.boot_mac for nic in parts.machine.nics):
            order.append(BootEntry("network", mac=parts.boot_mac))
        else:
            losses.append(f"the VM boots from the network card {parts.boot_mac}, which it does not have")
    order.extend(BootEntry(kind) for kind in parts.boot_kinds)
    return tuple(order)

"""What a writer of definitions is given, and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Literal

from ntxengine.errors import OptionsError
from ntxengine.machines.model import BootEntry, Disk, Machine, Nic
from ntxengine.machines.networks import ALL_OTHERS, NOT_CONNECTED, Network, NetworkMap
from ntxengine.machines.text import one_line

DiskFormat = Literal["raw", "qcow2", "vmdk", "stream-vmdk", "vhd"]

ScsiController = Literal["pvscsi", "lsilogic", "lsisas1068"]


@dataclass(frozen=True)
class DiskFile:
    """Where the replica of a disk is, as its definition names it.

    `location` is a whole path, a name beside the definition, or for libvirt `nbd://...`; `vmdk` is a descriptor,
    `stream-vmdk` the streamOptimized form.  `file_size` is that of the file in bytes, for OVF, None if it is not known.
    """

    disk_id: str
    location: str
    format: DiskFormat
    file_size: int | None = None


@dataclass(frozen=True)
class DefinitionOptions:
    """How a machine is defined.

    `name` and `uuid` take the place of its own, where they are not "".  `is_isolated` connects no network card.
    `now` is the time that the offset of a time zone is computed for, where a platform knows no zones.
    `scsi_controller` is for VMware; None is what the guest most likely has a driver for.
    """

    networks: NetworkMap = field(default_factory=NetworkMap)
    name: str = ""
    uuid: str = ""
    is_isolated: bool = False
    now: datetime | None = None
    scsi_controller: ScsiController | None = None


@dataclass(frozen=True)
class Definition:
    """A definition in the form of a platform, and what the machine loses by it: a sentence each."""

    text: str
    losses: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlacedNic:
    """A network card and where it is put.

    `is_told`: somebody said where.  `is_connected`: its cable is plugged in when the machine starts.
    """

    nic: Nic
    network: Network
    is_told: bool
    is_connected: bool


class DefinitionWriter(ABC):
    """Writes the definition of a machine for one platform.  Without state: one serves all."""

    name: ClassVar[str]
    suffix: ClassVar[str]
    """What the name of a file with it ends in."""

    max_disks: ClassVar[int]
    formats: ClassVar[tuple[DiskFormat, ...]]

    @abstractmethod
    def check(self, machine: Machine, options: DefinitionOptions) -> None:
        """Say before anything is copied what this platform cannot take.  Errors: OptionsError, with the remedy."""

    @abstractmethod
    def write(self, machine: Machine, files: Sequence[DiskFile], options: DefinitionOptions) -> Definition:
        """Return the definition of a machine whose disks are in `files`, one for each.

        Errors: OptionsError as of `check`, or if a disk has no file.
        """

    def check_common(self, machine: Machine) -> None:
        """Refuse what no platform that we write for can take."""
        if machine.machine_type == "pseries" or any(disk.bus == "spapr" for disk in machine.disks):
            raise OptionsError(f"{machine.name!r} is a machine of POWER (pseries): only x86 is written as {self.name}")
        if len(machine.disks) > self.max_disks:
            raise OptionsError(
                f"{machine.name!r} has {len(machine.disks)} disks, and {self.name} takes {self.max_disks}: exclude some"
            )


def paired(writer: DefinitionWriter, machine: Machine, files: Sequence[DiskFile]) -> list[tuple[Disk, DiskFile]]:
    """Return each disk of the machine with its file, in the order of the disks.  Errors: OptionsError."""
    by_id = {file.disk_id.lower(): file for file in files}
    result = []
    for disk in machine.disks:
        file = by_id.pop(disk.id.lower(), None)
        if file is None:
            raise OptionsError(f"disk {disk.label} of {machine.name!r} has no file that {writer.name} could name")
        if file.format not in writer.formats:
            known = ", ".join(writer.formats)
            raise OptionsError(f"disk {disk.label}: {writer.name} takes no {file.format}; it takes {known}")
        result.append((disk, file))
    if by_id:
        raise OptionsError(f"the file {next(iter(by_id.values())).location!r} is of no disk of {machine.name!r}")
    return result


def placed(machine: Machine, options: DefinitionOptions) -> list[PlacedNic]:
    """Return where each network card is put."""
    result = []
    for nic in machine.nics:
        told = NOT_CONNECTED if options.is_isolated else options.networks.of(nic)
        network = told or NOT_CONNECTED
        result.append(PlacedNic(nic, network, told is not None, nic.is_connected and network.kind != "none"))
    return result


def network_losses(cards: Sequence[PlacedNic]) -> list[str]:
    """Return which cards were given no place, and what their networks must do."""
    losses = []
    for card in cards:
        nic = card.nic
        if not card.is_told:
            name = one_line(nic.network or nic.network_id)
            losses.append(
                f"NIC {nic.label} is on {f'the network {name!r}' if name else 'a network without a name'}, which was "
                f"given no place at the target: it is not connected; give one with {name or ALL_OTHERS}=network:NAME"
            )
        elif nic.vlan is not None and card.network.kind != "none":
            losses.append(f"NIC {nic.label} sends in VLAN {nic.vlan}: the network at the target must tag it")
    return losses


def ordered_disks(machine: Machine) -> list[Disk]:
    """Return the disks in the order in which the firmware tries them: the one to boot from in front."""
    first = [entry.disk_id for entry in machine.boot_order if entry.disk_id]
    return sorted(machine.disks, key=lambda disk: disk.id not in first)


def boot_kinds(machine: Machine) -> list[BootEntry]:
    """Return what the firmware tries, without CD-ROMs, which are not carried over; the disks if nothing is said."""
    entries = [entry for entry in machine.boot_order if entry.kind != "cdrom"]
    return entries or [BootEntry("disk")]


def common_losses(machine: Machine) -> list[str]:
    """Return what no platform gets."""
    losses = list(machine.losses)
    if machine.has_own_nvram:
        losses.append(
            "the variables of the UEFI firmware (NVRAM) are not carried over: it starts without boot entries and looks "
            "for \\EFI\\BOOT\\BOOTX64.EFI; a guest without that file needs a new boot entry"
        )
    if machine.is_secure_boot:
        losses.append(
            "keys of secure boot that were enrolled on the cluster are not carried over: the target's own are used"
        )
    if any(entry.kind == "cdrom" for entry in machine.boot_order):
        losses.append("the order of booting names a CD-ROM, which is not carried over")
    if machine.cpu.model:
        losses.append(
            f"the processor model {machine.cpu.model!r} that the cluster keeps for it is not carried over: the guest "
            f"sees that of its new host"
        )
    return losses

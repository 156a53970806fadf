"""What VMware calls things, and what it can take: for VMX and OVF both.

Virtual hardware 14 (ESXi 6.7) is written, and names of guests that it knows: what is newer runs it too.
Sources: the VirtualMachineGuestOsIdentifier of the vSphere API; configuration maximums of vSphere 6.7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ntxengine.errors import OptionsError
from ntxengine.machines.definition import DefinitionOptions, PlacedNic, ScsiController
from ntxengine.machines.model import SECTOR_SIZE, Disk, Machine
from ntxengine.units import GIB, MIB, TIB, format_size

HARDWARE_VERSION = 14
MEMORY_STEP = 4 * MIB

MAX_CPUS = 128
MAX_MEMORY = 6128 * GIB
MAX_DISK = 62 * TIB
MAX_NICS = 10
DISKS_PER_SCSI = 15
SCSI_CONTROLLERS = 4
MAX_DISKS = DISKS_PER_SCSI * SCSI_CONTROLLERS
_SCSI_ITSELF = 7
"""The unit that a SCSI controller has for itself."""

SATA_PORTS = 30
SATA_CONTROLLERS = 4
IDE_PLACES = 4


@dataclass(frozen=True)
class Guest:
    """A guest's system in VMX, in OVF as VMware calls it, and in CIM_OperatingSystem, perhaps as a general number."""

    vmx: str
    ovf: str
    cim: int


_LINUX = 101
_OTHER = 102
_GUESTS: tuple[tuple[str, Guest], ...] = (
    (r"windows server 20(19|22|25)|windows server 2016", Guest("windows9srv-64", "windows9Server64Guest", _OTHER)),
    (r"windows server 2012", Guest("windows8srv-64", "windows8Server64Guest", _OTHER)),
    (r"windows server 2008 r2", Guest("windows7srv-64", "windows7Server64Guest", 103)),
    (r"windows (10|11)", Guest("windows9-64", "windows9_64Guest", _OTHER)),
    (r"windows 8", Guest("windows8-64", "windows8_64Guest", _OTHER)),
    (r"windows 7", Guest("windows7-64", "windows7_64Guest", 105)),
    (r"windows", Guest("windows9srv-64", "windows9Server64Guest", _OTHER)),
    (r"ubuntu", Guest("ubuntu-64", "ubuntu64Guest", 94)),
    (r"debian.* (8|9)\b", Guest("debian9-64", "debian9_64Guest", 96)),
    (r"debian", Guest("debian10-64", "debian10_64Guest", 96)),
    (r"(red ?hat|rhel).*\b7(\.|\b)", Guest("rhel7-64", "rhel7_64Guest", 80)),
    (r"red ?hat|rhel", Guest("rhel8-64", "rhel8_64Guest", 80)),
    (r"centos.*\b7(\.|\b)", Guest("centos7-64", "centos7_64Guest", 107)),
    (r"centos", Guest("centos8-64", "centos8_64Guest", 107)),
    (r"rocky|alma", Guest("rhel8-64", "rhel8_64Guest", 80)),
    (r"oracle.*\b7(\.|\b)", Guest("oraclelinux7-64", "oracleLinux7_64Guest", 109)),
    (r"oracle", Guest("oraclelinux8-64", "oracleLinux8_64Guest", 109)),
    (r"(suse|sles).*\b12\b", Guest("sles12-64", "sles12_64Guest", 85)),
    (r"suse|sles", Guest("sles15-64", "sles15_64Guest", 85)),
)
_LINUX_GUEST = Guest("other4xlinux-64", "other4xLinux64Guest", _LINUX)
_OTHER_GUEST = Guest("other-64", "otherGuest64", _OTHER)


def guest_of(machine: Machine) -> Guest:
    """Return what VMware calls the system of a guest, as far as it is told."""
    text = machine.guest_os.lower()
    for pattern, guest in _GUESTS:
        if re.search(pattern, text):
            return guest
    return _LINUX_GUEST if machine.guest_family == "linux" else _OTHER_GUEST


def controller_of(machine: Machine, options: DefinitionOptions) -> ScsiController:
    """Return the SCSI controller: Windows has a driver for LSI SAS of its own, Linux and others have one for pvscsi."""
    return options.scsi_controller or ("lsisas1068" if machine.guest_family == "windows" else "pvscsi")


def nic_type(machine: Machine, card: PlacedNic) -> str:
    """Return the kind of a network card: Windows has a driver for e1000e of its own, for vmxnet3 only with Tools."""
    if card.nic.model == "e1000":
        return "e1000"
    return "e1000e" if machine.guest_family == "windows" else "vmxnet3"


def place_disks(disks: tuple[Disk, ...], losses: list[str]) -> list[tuple[Disk, str, int, int]]:
    """Return for each disk its bus (ide, sata, scsi), the number of its controller, and its place there.

    Disks of SCSI and of virtio-blk take the places of SCSI in their order, without gaps: a guest numbers them so.
    """
    result = []
    scsi = sata = 0
    ide: set[int] = set()
    for disk in disks:
        if disk.bus == "ide" and disk.index < IDE_PLACES and disk.index not in ide:
            ide.add(disk.index)
            result.append((disk, "ide", disk.index // 2, disk.index % 2))
        elif disk.bus in ("ide", "sata") and sata < SATA_PORTS * SATA_CONTROLLERS:
            if disk.bus == "ide":
                losses.append(f"disk {disk.label} is put on SATA: VMware has no such place on IDE")
            result.append((disk, "sata", *divmod(sata, SATA_PORTS)))
            sata += 1
        else:
            controller, place = divmod(scsi, DISKS_PER_SCSI)
            result.append((disk, "scsi", controller, place + (place >= _SCSI_ITSELF)))
            scsi += 1
    return result


def check(machine: Machine, options: DefinitionOptions) -> None:
    """Refuse what virtual hardware of this version cannot be.  Errors: OptionsError, with the remedy."""
    cpu = machine.cpu
    if cpu.count > MAX_CPUS:
        raise OptionsError(
            f"{machine.name!r} has {cpu.count} processors, and a machine of VMware takes {MAX_CPUS}: take some from it"
        )
    if machine.memory > MAX_MEMORY:
        raise OptionsError(
            f"{machine.name!r} has {format_size(machine.memory)} of memory, and a machine of VMware takes "
            f"{format_size(MAX_MEMORY)}: take some from it"
        )
    for disk in machine.disks:
        if disk.sector_size != SECTOR_SIZE:
            raise OptionsError(
                f"disk {disk.label} has sectors of {disk.sector_size} bytes, and VMware has none but of 512: exclude "
                f"it, or replicate to kvm:DIR"
            )
        if disk.size > MAX_DISK:
            raise OptionsError(
                f"disk {disk.label} has {format_size(disk.size)}, and VMware takes {format_size(MAX_DISK)}: exclude it"
            )
    for _, network in options.networks.networks:
        if network.kind == "bridge":
            raise OptionsError(f"{network}: VMware knows port groups, no bridges: write network:NAME")


def memory_of(machine: Machine, losses: list[str]) -> int:
    """Return the memory in MiB, of which VMware takes every fourth."""
    size = -(-machine.memory // MEMORY_STEP) * MEMORY_STEP
    if size != machine.memory:
        losses.append(
            f"the memory is rounded up from {machine.memory} bytes to {size}: VMware takes multiples of 4 MiB"
        )
    return size // MIB


def cards_of(cards: list[PlacedNic], losses: list[str]) -> list[PlacedNic]:
    """Return the cards that a machine can have."""
    losses += [f"NIC {card.nic.label} is left out: a machine of VMware takes {MAX_NICS}" for card in cards[MAX_NICS:]]
    losses += [
        f"the {card.nic.queues} queues of NIC {card.nic.label} are not set: the guest's driver chooses"
        for card in cards[:MAX_NICS]
        if card.nic.queues > 1
    ]
    return cards[:MAX_NICS]


def common_losses(machine: Machine) -> list[str]:
    """Return what VMware does not get in either form."""
    losses = []
    if machine.has_tpm:
        losses.append(
            "its vTPM is left out: VMware adds one in vCenter alone, with a key provider; what it holds is not carried "
            "over: have the recovery key of BitLocker ready, or of what else is sealed with it"
        )
    losses += [
        f"the serial number {disk.serial!r} of disk {disk.label} is not carried over"
        for disk in machine.disks
        if disk.serial
    ]
    losses += [
        f"serial port {port} is left out: add it in VMware, with what it is to be connected to"
        for port in machine.serial_ports
    ]
    if machine.cpu.is_passed_through:
        losses.append("VMware shows the guest the processor of its host as far as its cluster (EVC) lets it")
    return losses

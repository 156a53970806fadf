"""A machine in neutral words: what Prism tells of a VM, and what a definition for another platform is written from.

Everything here is frozen and plain.  Sizes are bytes.  What cannot be carried over is in `losses`, a sentence each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ntxengine.units import GIB

DiskBus = Literal["ide", "sata", "scsi", "pci", "spapr"]
"""Where a disk is on AHV; `pci` is virtio-blk.  Named in the order in which disks are written."""

Firmware = Literal["bios", "uefi"]
MachineType = Literal["pc", "q35", "pseries"]
NicModel = Literal["virtio", "e1000"]
BootKind = Literal["disk", "cdrom", "network"]
GuestFamily = Literal["linux", "windows", "other"]

DISK_BUSES: tuple[DiskBus, ...] = get_args(DiskBus)

SECTOR_SIZE = 512
SECTOR_SIZES = (512, 4096)
"""Logical sector sizes that a disk can have."""

UTC_ZONE = "UTC"


@dataclass(frozen=True)
class Cpu:
    """Processors of a machine.

    `model` is the name of the processor that the cluster keeps for it, "" if it does not; `is_passed_through`: the
    guest sees the processor of the host; `is_nested`: it may run virtual machines itself.
    """

    sockets: int = 1
    cores: int = 1
    threads: int = 1
    model: str = ""
    is_passed_through: bool = False
    is_nested: bool = False

    @property
    def count(self) -> int:
        """How many the guest sees."""
        return self.sockets * self.cores * self.threads


@dataclass(frozen=True)
class Disk:
    """A disk of a machine.  `id` is the `Disk.id` of Prism, which manifests and files of a replica are named for.

    `unit` is the place in the volume group `group`, which is at `index` on the bus; 0 and "" for a disk of the VM
    itself.  `sector_size` is the logical one; `serial` what the guest reads as serial number, "" if it is not told.
    """

    id: str
    bus: DiskBus
    index: int
    size: int
    unit: int = 0
    group: str = ""
    sector_size: int = SECTOR_SIZE
    serial: str = ""

    @property
    def label(self) -> str:
        """The address as people write it: `scsi.0`; `vg:NAME.0` in a volume group."""
        return f"vg:{self.group}.{self.unit}" if self.group else f"{self.bus}.{self.index}"


@dataclass(frozen=True)
class Nic:
    """A network card.  `mac` is in lower case with colons, "" if none can be carried over.

    `network` is the name of its network and `network_id` its id, each "" where it is not told.
    `queues` are the pairs of queues that the guest may use.
    """

    mac: str = ""
    model: NicModel = "virtio"
    network: str = ""
    network_id: str = ""
    is_connected: bool = True
    vlan: int | None = None
    queues: int = 1

    @property
    def label(self) -> str:
        """What a person knows it by."""
        return self.mac or "without a MAC address"


@dataclass(frozen=True)
class BootEntry:
    """What the firmware tries: one disk or one network card where it is named, else all of that kind in their order."""

    kind: BootKind
    disk_id: str = ""
    mac: str = ""


@dataclass(frozen=True)
class Machine:
    """A virtual machine without its data.

    `hardware_uuid` is what the guest reads as the UUID of its hardware; it need not be the `uuid` of the VM.
    `boot_order` is empty where the cluster decides.  `time_zone` is the IANA name of the zone that the hardware clock
    shows, `guest_os` the guest's system in words, "" if it is not told.  `serial_ports` are the numbers of those that
    there are.  `has_own_nvram`: the cluster keeps variables of the firmware, which are not carried over.
    `has_console`: it has a screen.
    """

    uuid: str
    name: str
    cpu: Cpu = Cpu()
    memory: int = GIB
    firmware: Firmware = "bios"
    is_secure_boot: bool = False
    has_own_nvram: bool = False
    has_tpm: bool = False
    machine_type: MachineType = "pc"
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    boot_order: tuple[BootEntry, ...] = ()
    time_zone: str = UTC_ZONE
    serial_ports: tuple[int, ...] = ()
    has_console: bool = True
    guest_os: str = ""
    description: str = ""
    hardware_uuid: str = ""
    losses: tuple[str, ...] = ()

    @property
    def guest_uuid(self) -> str:
        """What the guest reads as the UUID of its hardware."""
        return self.hardware_uuid or self.uuid

    @property
    def guest_family(self) -> GuestFamily:
        """The family of the guest's system, as far as it is told."""
        text = self.guest_os.lower()
        if "windows" in text or "microsoft" in text:
            return "windows"
        return "linux" if any(word in text for word in _LINUX) else "other"

    def disk(self, disk_id: str) -> Disk | None:
        """Return a disk by its id, None if there is none."""
        return next((disk for disk in self.disks if disk.id == disk_id), None)


_LINUX = (
    "linux", "ubuntu", "debian", "centos", "red hat", "redhat", "rhel", "rocky", "fedora", "suse", "sles", "oracle",
    "photon", "flatcar", "coreos",
)  # fmt: skip

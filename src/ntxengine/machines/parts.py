"""What both families of Prism tell of a VM, before disks, volume groups and the order of booting are put together."""

from __future__ import annotations

from dataclasses import dataclass

from ntxengine.machines.fields import Fields
from ntxengine.machines.model import BootKind, Disk, DiskBus, Machine

MAX_SIZE = 2**63 - 1
MAX_INDEX = 255
MIN_MEMORY = 1024**2
MAX_MEMORY = 64 * 1024**4
"""Twice what the largest host has: one digit too many is found, no machine is refused."""

MAX_CPUS = 4096
MAX_VLAN = 4094
MAX_QUEUES = 256

BUSES: dict[str, DiskBus] = {"SCSI": "scsi", "IDE": "ide", "PCI": "pci", "SATA": "sata", "SPAPR": "spapr"}
BOOT_KINDS: dict[str, BootKind] = {"CDROM": "cdrom", "DISK": "disk", "NETWORK": "network"}


@dataclass(frozen=True)
class Slot:
    """Where something is attached: a disk, a volume group (`group_id`)."""

    bus: DiskBus
    index: int
    group_id: str = ""


@dataclass(frozen=True)
class Parts:
    """A VM of one family.  `machine` has neither disks nor an order of booting yet.

    `boot_slot` or `boot_mac` is the one thing to boot from, where that is told; `boot_kinds` are the kinds to try.
    """

    machine: Machine
    disks: tuple[Disk, ...] = ()
    groups: tuple[Slot, ...] = ()
    boot_slot: Slot | None = None
    boot_mac: str = ""
    boot_kinds: tuple[BootKind, ...] = ()


def slot_of(address: Fields, bus_key: str, index_key: str) -> Slot | None:
    """Return the address of something, None where none is told."""
    if not address.is_told(bus_key) and not address.is_told(index_key):
        return None
    bus = address.choice(bus_key, BUSES, "scsi")
    return Slot(bus, address.integer(index_key, 0, low=0, high=MAX_INDEX))


def boot_kinds(owner: Fields, key: str) -> tuple[BootKind, ...]:
    """Return the kinds of devices that are tried, each once."""
    value = owner.values.get(key)
    if value is None:
        return ()
    known = (
        [BOOT_KINDS[word] for word in value if isinstance(word, str) and word in BOOT_KINDS]
        if (isinstance(value, list))
        else []
    )
    if not isinstance(value, list) or len(known) != len(value):
        owner.lose(f"has a {key} that is not understood: the disks are tried in their order")
    return tuple(dict.fromkeys(known))


def vlan_losses(nic: Fields, network: Fields, mode_key: str, trunk_key: str, trunk: str) -> None:
    """Note what the network of a card does beyond connecting it."""
    if network.values.get(mode_key) == trunk:
        nic.lose(
            "is given tagged traffic of several VLANs (trunk), which is not carried over: the network that it is put "
            "on at the target must do that"
        )
    elif network.is_told(mode_key) and network.values.get(mode_key) != "ACCESS":
        nic.lose(f"has a {mode_key} that is not known, and is put on one network")


def gpu_losses(vm: Fields, key: str, name: str) -> None:
    """Note each device of the host that the VM was given."""
    for device in vm.parts(key, name):
        told = device.text("name", limit=80)
        device.lose(f"{f'({told!r}) ' if told else ''}is a device of the host, and is not carried over")

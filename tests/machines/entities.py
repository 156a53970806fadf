"""VMs as Prism tells them, by the simulator, and machines that are made of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ntxengine.machines import DiskFile, DiskFormat, Machine
from ntxengine.machines.model import BootEntry, Cpu, Disk, Nic
from ntxengine.sim.config import DiskConfig, GuestToolsConfig, SimConfig, VmConfig
from ntxengine.sim.hardware import HardwareConfig
from ntxengine.sim.v3_shapes import vm as v3_vm
from ntxengine.sim.v4_shapes import vm as v4_vm
from ntxengine.sim.world import World
from ntxengine.units import GIB, MIB

UUID = "c571852a-43ab-42e4-a58b-a5e38a459b06"
SYSTEM = "ae29c318-5dca-44b3-93c6-f3f3714177e0"
DATA = "ae29c318-5dca-44b3-93c6-f3f3714177e1"

MAC = "50:6b:8d:bb:91:08"

MACHINE = Machine(
    uuid=UUID,
    name="db01",
    cpu=Cpu(2, 2, 1),
    memory=4 * GIB,
    disks=(Disk(SYSTEM, "scsi", 0, 64 * MIB), Disk(DATA, "scsi", 1, 32 * MIB)),
    nics=(Nic(MAC, network="VLAN10", network_id="f44f350c-2313-4861-89ed-d26b0b576690"),),
)

SECURE = dataclasses.replace(MACHINE, firmware="uefi", is_secure_boot=True, has_own_nvram=True, has_tpm=True)

EVERYTHING = dataclasses.replace(
    SECURE,
    cpu=Cpu(1, 4, 2, model="Intel Skylake", is_nested=True),
    disks=(
        Disk("0" * 35 + "1", "ide", 0, 64 * MIB),
        Disk("0" * 35 + "2", "sata", 7, 64 * MIB),
        Disk(SYSTEM, "scsi", 0, 64 * MIB, serial="WD-1234"),
        Disk(DATA, "scsi", 9, 32 * MIB, sector_size=512),
        Disk("0" * 35 + "3", "scsi", 12, 64 * MIB, unit=3, group="db-data"),
        Disk("0" * 35 + "4", "pci", 3, 64 * MIB),
    ),
    nics=(
        Nic(MAC, network="VLAN10", queues=4),
        Nic("50:6b:8d:bb:91:09", model="e1000", network="VLAN20", is_connected=False),
        Nic(network="VLAN10", vlan=12),
    ),
    boot_order=(BootEntry("disk", disk_id=SYSTEM), BootEntry("cdrom"), BootEntry("network"), BootEntry("disk")),
    time_zone="Europe/Berlin",
    serial_ports=(0, 2),
    guest_os="Microsoft Windows Server 2022",
    description='first line\nsecond <line> & "more"',
)


def files_of(machine: Machine, format: DiskFormat = "qcow2") -> list[DiskFile]:
    """Return a file for each disk."""
    suffix = "vmdk" if "vmdk" in format else format
    folder = "" if suffix == "vmdk" else "/replicas/"
    return [
        DiskFile(disk.id, f"{folder}disk{number}.{suffix}", format, file_size=1000 + number)
        for number, disk in enumerate(machine.disks)
    ]


def told(folder: Path, family: str, hardware: HardwareConfig, disks: list[DiskConfig] | None = None) -> dict[str, Any]:
    """Return the entity of a VM with this hardware, as a cluster tells it."""
    if disks is None:
        disks = [DiskConfig(folder / "a.raw", size=MIB), DiskConfig(folder / "b.raw", size=2 * MIB, bus="ide")]
    vm = VmConfig("db01", disks=disks, cdroms=[DiskConfig(folder / "cd.iso", size=4096, bus="sata", index=1)])
    vm.guest_tools, vm.hardware, vm.id = GuestToolsConfig(), hardware, UUID
    world = World(SimConfig(vms=[vm]), folder / "state", lambda: 0.0)
    shape = v4_vm if family == "v4" else v3_vm
    return shape(world, world.vms[UUID])

"""A VM as v3 tells it.  Source: `vm_resources_def_status` of Prism Element 3.1; Prism Central has `vtpm_config`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ntxengine.machines.fields import Fields
from ntxengine.machines.model import Cpu, Disk, Firmware, Machine, MachineType, Nic, NicModel
from ntxengine.machines.parts import (
    MAX_CPUS,
    MAX_MEMORY,
    MAX_QUEUES,
    MAX_SIZE,
    MIN_MEMORY,
    Parts,
    Slot,
    boot_kinds,
    gpu_losses,
    slot_of,
    vlan_losses,
)
from ntxengine.units import GIB, MIB

_MACHINE_TYPES: dict[str, MachineType] = {"PC": "pc", "Q35": "q35", "PSERIES": "pseries"}
_NIC_MODELS: dict[str, NicModel] = {"VIRTIO": "virtio", "E1000": "e1000"}
_FIRMWARES: dict[str, Firmware] = {"LEGACY": "bios", "UEFI": "uefi", "SECURE_BOOT": "uefi"}


def is_v3(config: Mapping[str, Any]) -> bool:
    """Say whether an entity is one of v3."""
    return "metadata" in config or "status" in config


def parts_from(config: Mapping[str, Any], losses: list[str]) -> Parts:
    """Return what a VM of v3 is."""
    entity = Fields(config, "the VM", losses)
    status = entity.part("status")
    vm = status.part("resources")
    boot = vm.part("boot_config", subject="its boot configuration")
    firmware = boot.choice("boot_type", _FIRMWARES, "bios")
    tpm = vm.part("vtpm_config", subject="its vTPM")
    disks, groups = _disks(vm)
    device = boot.part("boot_device")
    machine = Machine(
        uuid=entity.part("metadata").uuid("uuid"),
        name=status.text("name", limit=256),
        cpu=_cpu(vm),
        memory=vm.integer("memory_size_mib", GIB, low=MIN_MEMORY, high=MAX_MEMORY, factor=MIB),
        firmware=firmware,
        is_secure_boot=boot.values.get("boot_type") == "SECURE_BOOT",
        has_own_nvram=firmware == "uefi",
        has_tpm=tpm.flag("vtpm_enabled"),
        machine_type=vm.choice("machine_type", _MACHINE_TYPES, "pc"),
        nics=tuple(_nic(each) for each in vm.parts("nic_list", "NIC")),
        time_zone=vm.zone("hardware_clock_timezone"),
        serial_ports=tuple(
            port.integer("index", 0, low=0, high=7) for port in vm.parts("serial_port_list", "serial port")
        ),
        has_console=vm.flag("vga_console_enabled", default=True),
        guest_os=_guest_os(vm),
        description=status.text("description"),
    )
    _other_losses(vm)
    return Parts(
        machine,
        disks,
        groups,
        boot_slot=slot_of(device.part("disk_address"), "adapter_type", "device_index"),
        boot_mac=device.mac("mac_address"),
        boot_kinds=boot_kinds(boot, "boot_device_order_list"),
    )


def _cpu(vm: Fields) -> Cpu:
    sockets = vm.integer("num_sockets", 1, low=1, high=MAX_CPUS)
    return Cpu(
        sockets,
        vm.integer("num_vcpus_per_socket", 1, low=1, high=MAX_CPUS // sockets),
        vm.integer("num_threads_per_core", 1, low=1, high=8),
        is_passed_through=vm.flag("enable_cpu_passthrough"),
        is_nested=vm.flag("hardware_virtualization_enabled"),
    )


def _guest_os(vm: Fields) -> str:
    tools = vm.part("guest_tools", "nutanix_guest_tools", subject="its Guest Tools")
    return tools.text("guest_os_version", limit=256) or vm.text("guest_os_id", limit=256)


def _disks(vm: Fields) -> tuple[tuple[Disk, ...], tuple[Slot, ...]]:
    disks, groups = [], []
    for each in vm.parts("disk_list", "disk"):
        properties = each.part("device_properties")
        slot = slot_of(properties.part("disk_address"), "adapter_type", "device_index")
        kind = properties.text("device_type", limit=40) or "DISK"
        if kind == "CDROM":
            each.lose("is a CD-ROM, and is not carried over: its image stays on the cluster")
            continue
        if slot is None:
            each.lose("has no address")
            slot = Slot("scsi", 0)
        if kind == "VOLUME_GROUP":
            groups.append(Slot(slot.bus, slot.index, each.part("volume_group_reference").uuid("uuid")))
            continue
        if kind != "DISK":
            each.lose(f"is of the type {kind!r}, which is not known, and is not carried over")
            continue
        size = each.integer("disk_size_bytes", 0, low=1, high=MAX_SIZE)
        disks.append(Disk(each.uuid("uuid"), slot.bus, slot.index, size))
    return tuple(disks), tuple(groups)


def _nic(nic: Fields) -> Nic:
    nic_type = nic.values.get("nic_type")
    if isinstance(nic_type, str) and nic_type != "NORMAL_NIC":
        nic.lose(f"is of the type {nic_type[:40]!r}, and becomes an ordinary card")
    vlan_losses(nic, nic, "vlan_mode", "trunked_vlan_list", "TRUNKED")
    subnet = nic.part("subnet_reference")
    return Nic(
        nic.mac("mac_address"),
        nic.choice("model", _NIC_MODELS, "virtio"),
        network=subnet.text("name", limit=256),
        network_id=subnet.uuid("uuid"),
        is_connected=nic.flag("is_connected", default=True),
        queues=nic.integer("num_queues", 1, low=1, high=MAX_QUEUES),
    )


def _other_losses(vm: Fields) -> None:
    gpu_losses(vm, "gpu_list", "GPU")
    if vm.part("vnuma_config").integer("num_vnuma_nodes", 0, low=0, high=MAX_CPUS) > 0:
        vm.lose("spreads its memory over NUMA nodes (vNUMA), which is not carried over")
    if vm.flag("is_vcpu_hard_pinned"):
        vm.lose("has its processors pinned to those of the host, which is not carried over")

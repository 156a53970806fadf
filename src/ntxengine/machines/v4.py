"""A VM as v4 (vmm) tells it.  Source: the models of ntnx-vmm-py-client 4.0 to 4.3, `vmm.v4.ahv.config.Vm`."""

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
    MAX_VLAN,
    MIN_MEMORY,
    Parts,
    Slot,
    boot_kinds,
    gpu_losses,
    slot_of,
    vlan_losses,
)
from ntxengine.units import GIB

_MACHINE_TYPES: dict[str, MachineType] = {"PC": "pc", "Q35": "q35", "PSERIES": "pseries"}
_NIC_MODELS: dict[str, NicModel] = {"VIRTIO": "virtio", "E1000": "e1000"}
_FIRMWARES: dict[str, Firmware] = {"UefiBoot": "uefi", "LegacyBoot": "bios"}

_HOST_NICS = {"SriovNic": "SR-IOV", "DpOffloadNic": "DP offload"}


def is_v4(config: Mapping[str, Any]) -> bool:
    """Say whether an entity is one of v4."""
    return "extId" in config


def parts_from(config: Mapping[str, Any], losses: list[str]) -> Parts:
    """Return what a VM of v4 is."""
    vm = Fields(config, "the VM", losses)
    boot = vm.part("bootConfig", subject="its boot configuration")
    firmware = _firmware(boot)
    tpm = vm.part("vtpmConfig", subject="its vTPM")
    disks, groups = _disks(vm)
    device = boot.part("bootDevice")
    machine = Machine(
        uuid=vm.uuid("extId"),
        name=vm.text("name", limit=256),
        cpu=_cpu(vm),
        memory=vm.integer("memorySizeBytes", GIB, low=MIN_MEMORY, high=MAX_MEMORY),
        firmware=firmware,
        is_secure_boot=firmware == "uefi" and boot.flag("isSecureBootEnabled"),
        has_own_nvram=firmware == "uefi",
        has_tpm=tpm.flag("isVtpmEnabled"),
        machine_type=vm.choice("machineType", _MACHINE_TYPES, "pc"),
        nics=tuple(nic for each in vm.parts("nics", "NIC") if (nic := _nic(each)) is not None),
        time_zone=vm.zone("hardwareClockTimezone"),
        serial_ports=tuple(port.integer("index", 0, low=0, high=7) for port in vm.parts("serialPorts", "serial port")),
        has_console=vm.flag("isVgaConsoleEnabled", default=True),
        guest_os=_guest_os(vm),
        description=vm.text("description"),
        hardware_uuid=vm.uuid("biosUuid"),
    )
    _other_losses(vm)
    return Parts(
        machine,
        disks,
        groups,
        boot_slot=slot_of(device.part("diskAddress"), "busType", "index"),
        boot_mac=device.mac("macAddress"),
        boot_kinds=boot_kinds(boot, "bootOrder"),
    )


def _kind(fields: Fields) -> str:
    """Return the name of its type without the space of names."""
    value = fields.values.get("$objectType")
    return value.rpartition(".")[2] if isinstance(value, str) else ""


def _firmware(boot: Fields) -> Firmware:
    kind = _kind(boot)
    if kind in _FIRMWARES:
        return _FIRMWARES[kind]
    if kind:
        boot.lose(f"is of the kind {kind[:40]!r}, which is not known: look at the firmware before it is started")
    # Only UEFI has these; a list tells the type of its first entity alone.
    return "uefi" if boot.is_told("isSecureBootEnabled") or boot.is_told("nvramDevice") else "bios"


def _cpu(vm: Fields) -> Cpu:
    features = vm.values.get("enabledCpuFeatures")
    apc = vm.part("apcConfig", subject="its processor model")
    sockets = vm.integer("numSockets", 1, low=1, high=MAX_CPUS)
    return Cpu(
        sockets,
        vm.integer("numCoresPerSocket", 1, low=1, high=MAX_CPUS // sockets),
        vm.integer("numThreadsPerCore", 1, low=1, high=8),
        model=apc.part("cpuModel").text("name", limit=80) if apc.flag("isApcEnabled") else "",
        is_passed_through=vm.flag("isCpuPassthroughEnabled"),
        is_nested=isinstance(features, list) and "HARDWARE_VIRTUALIZATION" in features,
    )


def _guest_os(vm: Fields) -> str:
    tools = vm.part("guestTools", subject="its Guest Tools")
    return tools.part("guestInfo").text("guestOsFullName", limit=256) or tools.text("guestOsVersion", limit=256)


def _disks(vm: Fields) -> tuple[tuple[Disk, ...], tuple[Slot, ...]]:
    disks, groups = [], []
    for each in vm.parts("disks", "disk"):
        slot = slot_of(each.part("diskAddress"), "busType", "index")
        if slot is None:
            each.lose("has no address")
            slot = Slot("scsi", 0)
        backing = each.part("backingInfo")
        if backing.is_told("volumeGroupExtId"):
            groups.append(Slot(slot.bus, slot.index, backing.uuid("volumeGroupExtId")))
            continue
        disk_id = backing.uuid("diskExtId") or each.uuid("extId")
        size = backing.integer("diskSizeBytes", 0, low=1, high=MAX_SIZE)
        serial = backing.text("serialId", limit=64)
        disks.append(Disk(disk_id, slot.bus, slot.index, size, serial=serial))
    for each in vm.parts("cdRoms", "CD-ROM"):
        each.lose("is not carried over: its image stays on the cluster")
    return tuple(disks), tuple(groups)


def _nic(nic: Fields) -> Nic | None:
    """Return a network card.  The new names of its parts count, where both are there."""
    backing = nic.part("nicBackingInfo" if nic.is_told("nicBackingInfo") else "backingInfo")
    network = nic.part("nicNetworkInfo" if nic.is_told("nicNetworkInfo") else "networkInfo")
    kind = _kind(backing)
    if kind == "PciePassthroughNic":
        nic.lose("is a card of the host that was passed through, and is not carried over")
        return None
    if kind in _HOST_NICS:
        nic.lose(f"is backed by a card of the host ({_HOST_NICS[kind]}), and becomes a virtio card")
    nic_type = network.values.get("nicType")
    if isinstance(nic_type, str) and nic_type != "NORMAL_NIC":
        nic.lose(f"is of the type {nic_type[:40]!r}, and becomes an ordinary card")
    vlan_losses(nic, network, "vlanMode", "trunkedVlans", "TRUNK")
    vlan = network.integer("vlanId", -1, low=0, high=MAX_VLAN)
    subnet = network.part("subnet")
    return Nic(
        backing.mac("macAddress"),
        backing.choice("model", _NIC_MODELS, "virtio"),
        network=subnet.text("name", limit=256),
        network_id=subnet.uuid("extId"),
        is_connected=backing.flag("isConnected", default=True),
        vlan=None if vlan < 0 else vlan,
        queues=backing.integer("numQueues", 1, low=1, high=MAX_QUEUES),
    )


def _other_losses(vm: Fields) -> None:
    gpu_losses(vm, "gpus", "GPU")
    gpu_losses(vm, "pcieDevices", "PCIe device")
    if vm.integer("numNumaNodes", 0, low=0, high=MAX_CPUS) > 0:
        vm.lose("spreads its memory over NUMA nodes (vNUMA), which is not carried over")
    if vm.flag("isVcpuHardPinningEnabled"):
        vm.lose("has its processors pinned to those of the host, which is not carried over")

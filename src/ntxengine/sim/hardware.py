"""What VMs are made of besides their disks, and how v3 and v4 tell it.

hardware:
  sockets: 2
  memory: 4GiB
  firmware: secure_boot
  machine_type: Q35
  vtpm: true
  nics: [{network: VLAN10}, {network: VLAN20, model: E1000, connected: false}]
  boot_disk: scsi.0
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ntxengine.sim import ids
from ntxengine.sim.answers import Json
from ntxengine.units import GIB, MIB

Firmware = Literal["bios", "uefi", "secure_boot"]
BootKind = Literal["DISK", "CDROM", "NETWORK"]

_VMM = "vmm.v4.ahv.config"
_BOOT_TYPES = {"bios": "LEGACY", "uefi": "UEFI", "secure_boot": "SECURE_BOOT"}


@dataclass
class NicConfig:
    """A network card.  Its `mac` is made of its place where none is given; `trunk`: it gets several VLANs.

    `kind` is the type of its backing in v4, where it is not an ordinary one.
    """

    network: str = "VLAN10"
    mac: str | None = None
    model: Literal["VIRTIO", "E1000"] = "VIRTIO"
    connected: bool = True
    trunk: bool = False
    queues: int = 1
    kind: Literal["EmulatedNic", "VirtualEthernetNic", "SriovNic", "PciePassthroughNic"] = "EmulatedNic"


@dataclass
class HardwareConfig:
    """Hardware of a VM.  `firmware` None is UEFI where the VM has an NVRAM, else BIOS.

    `boot_disk` is written `scsi.0`, `boot_mac` is a card's address; `serial_ports` are their numbers, `gpus` names.
    """

    sockets: int = 2
    cores: int = 1
    threads: int = 1
    memory: int = 4 * GIB
    cpu_passthrough: bool = False
    cpu_model: str | None = None
    nested: bool = False
    numa_nodes: int = 0
    firmware: Firmware | None = None
    machine_type: Literal["PC", "Q35", "PSERIES"] = "PC"
    vtpm: bool = False
    time_zone: str = "UTC"
    console: bool = True
    nics: list[NicConfig] = field(default_factory=list)
    boot_order: list[BootKind] = field(default_factory=list)
    boot_disk: str | None = None
    boot_mac: str | None = None
    serial_ports: list[int] = field(default_factory=list)
    gpus: list[str] = field(default_factory=list)
    description: str | None = None
    bios_uuid: str | None = None

    def firmware_of(self, *, has_nvram: bool) -> Firmware:
        """Return the firmware of a VM that has an NVRAM, or none."""
        return self.firmware or ("uefi" if has_nvram else "bios")


def mac_of(vm_id: str, number: int, nic: NicConfig) -> str:
    """Return the address of a card: of the range that AHV takes them from."""
    digits = ids.fixed(vm_id, "nic", number)[:6]
    return nic.mac or f"50:6b:8d:{digits[:2]}:{digits[2:4]}:{digits[4:]}"


def _address(text: str) -> tuple[str, int]:
    bus, _, index = text.partition(".")
    return bus.upper(), int(index)


# -- v3


def v3(vm_id: str, hardware: HardwareConfig, *, has_nvram: bool) -> Json:
    """Return the part of a VM's resources that says what it is made of."""
    boot: Json = {"boot_type": _BOOT_TYPES[hardware.firmware_of(has_nvram=has_nvram)]}
    if hardware.boot_order:
        boot["boot_device_order_list"] = [*hardware.boot_order]
    if hardware.boot_disk is not None:
        bus, index = _address(hardware.boot_disk)
        boot["boot_device"] = {"disk_address": {"adapter_type": bus, "device_index": index}}
    elif hardware.boot_mac is not None:
        boot["boot_device"] = {"mac_address": hardware.boot_mac}
    answer: Json = {
        "machine_type": hardware.machine_type,
        "num_sockets": hardware.sockets,
        "num_vcpus_per_socket": hardware.cores,
        "num_threads_per_core": hardware.threads,
        "memory_size_mib": hardware.memory // MIB,
        "boot_config": boot,
        "hardware_clock_timezone": hardware.time_zone,
        "vga_console_enabled": hardware.console,
        "enable_cpu_passthrough": hardware.cpu_passthrough,
        "hardware_virtualization_enabled": hardware.nested,
        "vnuma_config": {"num_vnuma_nodes": hardware.numa_nodes},
        "nic_list": [_nic_v3(vm_id, number, nic) for number, nic in enumerate(hardware.nics)],
        "gpu_list": [{"name": name, "mode": "VIRTUAL", "vendor": "NVIDIA"} for name in hardware.gpus],
        "serial_port_list": [{"index": number, "is_connected": True} for number in hardware.serial_ports],
    }
    if hardware.vtpm:  # of Prism Central: the contract of Prism Element does not have it
        answer["vtpm_config"] = {"vtpm_enabled": True}
    return answer


def _nic_v3(vm_id: str, number: int, nic: NicConfig) -> Json:
    answer: Json = {
        "uuid": ids.fixed(vm_id, "nic id", number),
        "nic_type": "NORMAL_NIC" if nic.kind in ("EmulatedNic", "VirtualEthernetNic") else "DIRECT_NIC",
        "mac_address": mac_of(vm_id, number, nic),
        "model": nic.model,
        "is_connected": nic.connected,
        "num_queues": nic.queues,
        "vlan_mode": "TRUNKED" if nic.trunk else "ACCESS",
        "ip_endpoint_list": [],
        "subnet_reference": {"kind": "subnet", "name": nic.network, "uuid": network_id(nic.network)},
    }
    return answer


def network_id(name: str) -> str:
    """Return the uuid of a network."""
    return ids.fixed("network", name)


# -- v4


def _typed(kind: str, **values: Any) -> Json:
    return {"$objectType": f"{_VMM}.{kind}", "$reserved": {"$fv": "v4.r1"}, **values}


def v4(vm_id: str, hardware: HardwareConfig, *, has_nvram: bool) -> Json:
    """Return the part of a VM that says what it is made of."""
    answer: Json = {
        "numSockets": hardware.sockets,
        "numCoresPerSocket": hardware.cores,
        "numThreadsPerCore": hardware.threads,
        "numNumaNodes": hardware.numa_nodes,
        "memorySizeBytes": hardware.memory,
        "isCpuPassthroughEnabled": hardware.cpu_passthrough,
        "enabledCpuFeatures": ["HARDWARE_VIRTUALIZATION"] if hardware.nested else [],
        "hardwareClockTimezone": hardware.time_zone,
        "isVgaConsoleEnabled": hardware.console,
        "machineType": hardware.machine_type,
        "bootConfig": _boot_v4(hardware, has_nvram=has_nvram),
        "vtpmConfig": _typed("VtpmConfig", isVtpmEnabled=hardware.vtpm),
        "nics": [_nic_v4(vm_id, number, nic) for number, nic in enumerate(hardware.nics)],
        "gpus": [_typed("Gpu", name=name, mode="VIRTUAL", vendor="NVIDIA") for name in hardware.gpus],
        "serialPorts": [_typed("SerialPort", index=number, isConnected=True) for number in hardware.serial_ports],
        "biosUuid": hardware.bios_uuid or vm_id,
    }
    if hardware.description is not None:
        answer["description"] = hardware.description
    if hardware.cpu_model is not None:
        model = _typed("CpuModelReference", name=hardware.cpu_model)
        answer["apcConfig"] = _typed("ApcConfig", isApcEnabled=True, cpuModel=model)
    return answer


def _boot_v4(hardware: HardwareConfig, *, has_nvram: bool) -> Json:
    firmware = hardware.firmware_of(has_nvram=has_nvram)
    boot = _typed("LegacyBoot" if firmware == "bios" else "UefiBoot")
    if firmware != "bios":
        boot["isSecureBootEnabled"] = firmware == "secure_boot"
    if hardware.boot_order:
        boot["bootOrder"] = [*hardware.boot_order]
    if hardware.boot_disk is not None:
        bus, index = _address(hardware.boot_disk)
        boot["bootDevice"] = _typed("BootDeviceDisk", diskAddress=_typed("DiskAddress", busType=bus, index=index))
    elif hardware.boot_mac is not None:
        boot["bootDevice"] = _typed("BootDeviceNic", macAddress=hardware.boot_mac)
    return boot


def _nic_v4(vm_id: str, number: int, nic: NicConfig) -> Json:
    """Return a card as vmm 4.0 tells it; of another kind than an ordinary one, with the names of 4.1 too."""
    backing = _typed(
        "EmulatedNic",
        model=nic.model,
        macAddress=mac_of(vm_id, number, nic),
        isConnected=nic.connected,
        numQueues=nic.queues,
    )
    network = _typed(
        "NicNetworkInfo",
        nicType="NORMAL_NIC",
        vlanMode="TRUNK" if nic.trunk else "ACCESS",
        subnet=_typed("SubnetReference", extId=network_id(nic.network)),
    )
    answer = _typed("Nic", extId=ids.fixed(vm_id, "nic id", number), backingInfo=backing, networkInfo=network)
    if nic.kind != "EmulatedNic":
        answer["nicBackingInfo"] = {**backing, "$objectType": f"{_VMM}.{nic.kind}"}
        kind = "SriovNicNetworkInfo" if nic.kind == "SriovNic" else "VirtualEthernetNicNetworkInfo"
        answer["nicNetworkInfo"] = {**network, "$objectType": f"{_VMM}.{kind}"}
    return answer

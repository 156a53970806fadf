"""The domain XML of libvirt.  Source: libvirt's formatdomain; valid for its schema since 8.0.

    disk of AHV        here                           guest sees
    scsi.N             virtio-scsi, target N          the same
    pci.N              virtio-blk                     the same
    sata.N, ide.N      sata, ide                      the same; ide becomes sata where the machine is q35

Firmware is chosen by libvirt (`firmware='efi'`), which also makes its NVRAM.  A card that is not connected is a tap
device on no bridge with its link down: `type='null'` would say it better, and needs libvirt 8.7.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import ClassVar

from ntxengine.errors import OptionsError
from ntxengine.machines.definition import (
    Definition,
    DefinitionOptions,
    DefinitionWriter,
    DiskFile,
    DiskFormat,
    common_losses,
    network_losses,
    paired,
    placed,
)
from ntxengine.machines.libvirt_devices import add_disks, add_nic, boot_numbers
from ntxengine.machines.model import UTC_ZONE, Machine, MachineType
from ntxengine.machines.text import cut, one_line, xml_text

_MAX_NAME = 200
"""Bytes: libvirt names files for it."""

_BYTES_PER_KIB = 1024


class LibvirtWriter(DefinitionWriter):
    """Writes a domain of KVM."""

    name: ClassVar[str] = "libvirt"
    suffix: ClassVar[str] = ".xml"
    max_disks: ClassVar[int] = 256
    formats: ClassVar[tuple[DiskFormat, ...]] = ("raw", "qcow2", "vmdk", "vhd")

    def check(self, machine: Machine, options: DefinitionOptions) -> None:
        """Refuse what KVM on x86 cannot run, and a name that libvirt does not take."""
        self.check_common(machine)
        if options.name and options.name != domain_name(options.name):
            raise OptionsError(
                f"{options.name!r} is no name for a domain of libvirt: use one without / and ends of lines, of at most "
                f"{_MAX_NAME} bytes"
            )

    def write(self, machine: Machine, files: Sequence[DiskFile], options: DefinitionOptions) -> Definition:
        """Return the XML of the domain."""
        self.check(machine, options)
        losses = common_losses(machine)
        domain = ET.Element("domain", type="kvm")
        _add_head(domain, machine, options, losses)
        kind = _machine_type(machine, losses)
        _add_processor(domain, machine)
        _add_firmware(domain, machine, kind)
        _add_clock(domain, machine)
        for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
            ET.SubElement(domain, event).text = action
        devices = ET.SubElement(domain, "devices")
        boot = boot_numbers(machine)
        add_disks(devices, paired(self, machine, files), boot, kind, losses)
        cards = placed(machine, options)
        losses += network_losses(cards)
        for card in cards:
            add_nic(devices, card, boot, losses)
        _add_other_devices(devices, machine, losses)
        ET.indent(domain)
        return Definition(ET.tostring(domain, encoding="unicode") + "\n", tuple(losses))


def domain_name(name: str) -> str:
    """Return a name that libvirt takes for a domain: as it is where it may be, else with `_` for what it refuses."""
    text = cut(one_line(name).replace("/", "_"), _MAX_NAME).strip()
    return text if text.strip(".") else "_" + text


def _add_head(domain: ET.Element, machine: Machine, options: DefinitionOptions, losses: list[str]) -> None:
    name = options.name or domain_name(machine.name)
    if not options.name and name != machine.name:
        losses.append(f"the name {machine.name!r} cannot be that of a domain: it is {name!r}")
    ET.SubElement(domain, "name").text = name
    ET.SubElement(domain, "uuid").text = options.uuid or machine.guest_uuid
    title = one_line(machine.name)
    if title and title != name:
        ET.SubElement(domain, "title").text = title
    if machine.description.strip():
        ET.SubElement(domain, "description").text = xml_text(machine.description)
    # Of libvirt's units the smallest that divides: it stores KiB.
    size = -(-machine.memory // _BYTES_PER_KIB)
    ET.SubElement(domain, "memory", unit="KiB").text = str(size)
    ET.SubElement(domain, "vcpu", placement="static").text = str(machine.cpu.count)


def _machine_type(machine: Machine, losses: list[str]) -> MachineType:
    if machine.is_secure_boot and machine.machine_type == "pc":
        losses.append("secure boot needs the machine type q35, which takes the place of pc")
        return "q35"
    return machine.machine_type


def _add_processor(domain: ET.Element, machine: Machine) -> None:
    cpu = machine.cpu
    mode = "host-passthrough" if cpu.is_passed_through or cpu.is_nested else "host-model"
    element = ET.SubElement(domain, "cpu", mode=mode)
    ET.SubElement(element, "topology", sockets=str(cpu.sockets), cores=str(cpu.cores), threads=str(cpu.threads))


def _add_firmware(domain: ET.Element, machine: Machine, kind: MachineType) -> None:
    system = ET.SubElement(domain, "os")
    ET.SubElement(system, "type", arch="x86_64", machine=kind).text = "hvm"
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if machine.guest_family == "windows":
        # AHV shows Windows the same: without, it is slow and its clock drifts.
        hyperv = ET.SubElement(features, "hyperv")
        ET.SubElement(hyperv, "relaxed", state="on")
        ET.SubElement(hyperv, "vapic", state="on")
        ET.SubElement(hyperv, "spinlocks", state="on", retries="8191")
    if machine.firmware == "bios":
        return
    system.set("firmware", "efi")
    firmware = ET.SubElement(system, "firmware")
    state = "yes" if machine.is_secure_boot else "no"
    ET.SubElement(firmware, "feature", enabled=state, name="enrolled-keys")
    ET.SubElement(firmware, "feature", enabled=state, name="secure-boot")
    if machine.is_secure_boot:
        ET.SubElement(features, "smm", state="on")
        ET.SubElement(system, "loader", secure="yes")


def _add_clock(domain: ET.Element, machine: Machine) -> None:
    if machine.time_zone.upper() in (UTC_ZONE, "ETC/UTC"):
        clock = ET.SubElement(domain, "clock", offset="utc")
    else:
        clock = ET.SubElement(domain, "clock", offset="timezone", timezone=one_line(machine.time_zone))
    ET.SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
    ET.SubElement(clock, "timer", name="pit", tickpolicy="delay")
    ET.SubElement(clock, "timer", name="hpet", present="no")
    if machine.guest_family == "windows":
        ET.SubElement(clock, "timer", name="hypervclock", present="yes")


def _add_other_devices(devices: ET.Element, machine: Machine, losses: list[str]) -> None:
    for port in sorted(set(machine.serial_ports)):
        serial = ET.SubElement(devices, "serial", type="pty")
        ET.SubElement(serial, "target", port=str(port))
    if machine.has_tpm:
        tpm = ET.SubElement(devices, "tpm", model="tpm-crb" if machine.firmware == "uefi" else "tpm-tis")
        ET.SubElement(tpm, "backend", type="emulator", version="2.0")
        losses.append(
            "what its vTPM holds is not carried over: it gets an empty one (swtpm); have the recovery key of BitLocker "
            "ready, or of what else is sealed with it"
        )
    if machine.has_console:
        ET.SubElement(devices, "input", type="tablet", bus="usb")
        ET.SubElement(devices, "graphics", type="vnc", autoport="yes", listen="127.0.0.1")
        video = ET.SubElement(devices, "video")
        ET.SubElement(video, "model", type="vga")

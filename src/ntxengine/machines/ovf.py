"""The OVF envelope 1.x, as VMware writes and reads it (DSP0243 1.1.1; extensions in VMware's own space of names).

References   the files and their sizes
DiskSection  disks in them
NetworkSection, VirtualSystem: its hardware as items of CIM, whose fields stand in the order of the alphabet
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from itertools import count
from typing import ClassVar

from ntxengine.errors import OptionsError
from ntxengine.machines import vmware
from ntxengine.machines.definition import (
    Definition,
    DefinitionOptions,
    DefinitionWriter,
    DiskFile,
    DiskFormat,
    PlacedNic,
    common_losses,
    paired,
    placed,
)
from ntxengine.machines.model import UTC_ZONE, Disk, Machine
from ntxengine.machines.text import one_line, reduced, xml_text

_OVF = "http://schemas.dmtf.org/ovf/envelope/1"
_CIM = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2"
_RASD = f"{_CIM}/CIM_ResourceAllocationSettingData"
_VSSD = f"{_CIM}/CIM_VirtualSystemSettingData"
_VMW = "http://www.vmware.com/schema/ovf"
_VMDK = "http://www.vmware.com/interfaces/specifications/vmdk.html"

_PREFIXES = {"ovf": _OVF, "rasd": _RASD, "vssd": _VSSD, "vmw": _VMW}

_CPU, _MEMORY, _IDE, _SCSI, _ETHERNET, _DISK, _SATA = 3, 4, 5, 6, 10, 17, 20
_CONTROLLERS = {"ide": (_IDE, "IDE", ""), "scsi": (_SCSI, "SCSI", ""), "sata": (_SATA, "SATA", "vmware.sata.ahci")}
_SCSI_SUBTYPES = {"pvscsi": "VirtualSCSI", "lsilogic": "lsilogic", "lsisas1068": "lsilogicsas"}
_NIC_SUBTYPES = {"vmxnet3": "VmxNet3", "e1000": "E1000", "e1000e": "E1000e"}

NO_NETWORK = "not connected"


class OvfWriter(DefinitionWriter):
    """Writes an envelope for VMware, and for others that read its form."""

    name: ClassVar[str] = "ovf"
    suffix: ClassVar[str] = ".ovf"
    max_disks: ClassVar[int] = vmware.MAX_DISKS
    formats: ClassVar[tuple[DiskFormat, ...]] = ("vmdk", "stream-vmdk")

    def check(self, machine: Machine, options: DefinitionOptions) -> None:
        """Refuse what virtual hardware of VMware cannot be."""
        self.check_common(machine)
        vmware.check(machine, options)

    def write(self, machine: Machine, files: Sequence[DiskFile], options: DefinitionOptions) -> Definition:
        """Return the envelope.  Every file must say its size."""
        self.check(machine, options)
        losses = [*common_losses(machine), *vmware.common_losses(machine)]
        for prefix, name in _PREFIXES.items():
            ET.register_namespace(prefix, name)
        envelope = ET.Element(_tag("Envelope"))
        pairs = paired(self, machine, files)
        _add_files(envelope, pairs)
        cards = vmware.cards_of(placed(machine, options), losses)
        _add_networks(envelope, cards)
        name = options.name or one_line(machine.name)
        system = ET.SubElement(envelope, _tag("VirtualSystem"), {_tag("id"): reduced(name) or machine.uuid})
        _text(system, "Info", "A virtual machine")
        _text(system, "Name", name)
        _add_guest(system, machine)
        if machine.description.strip():
            section = ET.SubElement(system, _tag("AnnotationSection"))
            _text(section, "Info", "What its owners wrote about it")
            _text(section, "Annotation", machine.description)
        _add_hardware(system, machine, name, cards, options, losses)
        _add_losses(machine, cards, losses)
        ET.indent(envelope)
        text = ET.tostring(envelope, encoding="unicode", xml_declaration=False)
        return Definition(f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n', tuple(losses))


def _tag(name: str, space: str = _OVF) -> str:
    return f"{{{space}}}{name}"


def _text(parent: ET.Element, name: str, text: str, space: str = _OVF) -> None:
    ET.SubElement(parent, _tag(name, space)).text = xml_text(text)


def _add_files(envelope: ET.Element, pairs: Sequence[tuple[Disk, DiskFile]]) -> None:
    references = ET.SubElement(envelope, _tag("References"))
    section = ET.SubElement(envelope, _tag("DiskSection"))
    _text(section, "Info", "Virtual disks")
    for number, (disk, file) in enumerate(pairs):
        if file.file_size is None or "/" in file.location:
            raise OptionsError(
                f"the file {file.location!r} must lie beside the OVF and have a size that is known, to be named in it"
            )
        attributes = {"id": f"file{number}", "href": file.location, "size": str(file.file_size)}
        ET.SubElement(references, _tag("File"), {_tag(key): value for key, value in attributes.items()})
        attributes = {
            "diskId": f"disk{number}",
            "fileRef": f"file{number}",
            "capacity": str(disk.size),
            "capacityAllocationUnits": "byte",
            "format": f"{_VMDK}#streamOptimized" if file.format == "stream-vmdk" else _VMDK,
        }
        ET.SubElement(section, _tag("Disk"), {_tag(key): value for key, value in attributes.items()})


def network_name(card: PlacedNic) -> str:
    """Return the name that a card's network has in the envelope: who imports it says what it is there.

    Where nothing is said of it, it keeps the name that it has on the cluster.
    """
    own = card.nic.network or card.nic.network_id
    return one_line(card.network.name if card.is_told else own) or NO_NETWORK


def _add_networks(envelope: ET.Element, cards: Sequence[PlacedNic]) -> None:
    section = ET.SubElement(envelope, _tag("NetworkSection"))
    _text(section, "Info", "Networks of the machine")
    for name in dict.fromkeys(network_name(card) for card in cards):
        network = ET.SubElement(section, _tag("Network"), {_tag("name"): name})
        _text(network, "Description", f"The network {name}")


def _add_guest(system: ET.Element, machine: Machine) -> None:
    guest = vmware.guest_of(machine)
    attributes = {_tag("id"): str(guest.cim), _tag("osType", _VMW): guest.ovf}
    section = ET.SubElement(system, _tag("OperatingSystemSection"), attributes)
    _text(section, "Info", "The guest's system")
    if machine.guest_os:
        _text(section, "Description", one_line(machine.guest_os))


def _add_hardware(
    system: ET.Element,
    machine: Machine,
    name: str,
    cards: Sequence[PlacedNic],
    options: DefinitionOptions,
    losses: list[str],
) -> None:
    section = ET.SubElement(system, _tag("VirtualHardwareSection"))
    _text(section, "Info", "Virtual hardware")
    head = ET.SubElement(section, _tag("System"))
    for key, text in (
        ("ElementName", "Virtual hardware family"),
        ("InstanceID", "0"),
        ("VirtualSystemIdentifier", name),
        ("VirtualSystemType", f"vmx-{vmware.HARDWARE_VERSION:02}"),
    ):
        _text(head, key, text, _VSSD)
    ids = count(1)
    cpu, memory = machine.cpu, vmware.memory_of(machine, losses)
    item = _item(
        section,
        next(ids),
        _CPU,
        f"{cpu.count} processors",
        AllocationUnits="hertz * 10^6",
        Description="Number of processors",
        VirtualQuantity=str(cpu.count),
    )
    cores = ET.SubElement(item, _tag("CoresPerSocket", _VMW), {_tag("required"): "false"})
    cores.text = str(cpu.cores * cpu.threads)
    _item(
        section,
        next(ids),
        _MEMORY,
        f"{memory} MiB of memory",
        AllocationUnits="byte * 2^20",
        Description="Memory size",
        VirtualQuantity=str(memory),
    )
    _add_disk_items(section, machine, options, ids, losses)
    for number, card in enumerate(cards):
        _add_nic_item(section, machine, card, number, next(ids))
    _add_settings(section, machine)


def _item(section: ET.Element, instance: int, kind: int, name: str, **fields: str) -> ET.Element:
    """Add an item of hardware; its fields are sorted, as the schema wants them."""
    item = ET.SubElement(section, _tag("Item"))
    fields |= {"ElementName": name, "InstanceID": str(instance), "ResourceType": str(kind)}
    for key in sorted(fields):
        if fields[key]:
            _text(item, key, fields[key], _RASD)
    return item


def _add_disk_items(
    section: ET.Element, machine: Machine, options: DefinitionOptions, ids: count[int], losses: list[str]
) -> None:
    controllers: dict[tuple[str, int], str] = {}
    for number, (disk, bus, controller, place) in enumerate(vmware.place_disks(machine.disks, losses)):
        if (bus, controller) not in controllers:
            instance = next(ids)
            kind, name, subtype = _CONTROLLERS[bus]
            if bus == "scsi":
                subtype = _SCSI_SUBTYPES[vmware.controller_of(machine, options)]
            _item(
                section,
                instance,
                kind,
                f"{name} controller {controller}",
                Address=str(controller),
                ResourceSubType=subtype,
            )
            controllers[bus, controller] = str(instance)
        _item(
            section,
            next(ids),
            _DISK,
            f"Disk {disk.label}",
            AddressOnParent=str(place),
            HostResource=f"ovf:/disk/disk{number}",
            Parent=controllers[bus, controller],
        )


def _add_nic_item(section: ET.Element, machine: Machine, card: PlacedNic, number: int, instance: int) -> None:
    is_connected = card.nic.is_connected if not card.is_told else card.is_connected
    _item(
        section,
        instance,
        _ETHERNET,
        f"Network card {number}",
        Address=card.nic.mac,
        AddressOnParent=str(number),
        AutomaticAllocation="true" if is_connected else "false",
        Connection=network_name(card),
        ResourceSubType=_NIC_SUBTYPES[vmware.nic_type(machine, card)],
    )


def _add_settings(section: ET.Element, machine: Machine) -> None:
    settings = {"firmware": "efi" if machine.firmware == "uefi" else "bios"}
    if machine.is_secure_boot:
        settings["bootOptions.efiSecureBootEnabled"] = "true"
    if machine.cpu.is_nested:
        settings["nestedHVEnabled"] = "true"
    for key, value in settings.items():
        attributes = {_tag("required"): "false", _tag("key", _VMW): key, _tag("value", _VMW): value}
        ET.SubElement(section, _tag("Config", _VMW), attributes)


def _add_losses(machine: Machine, cards: Sequence[PlacedNic], losses: list[str]) -> None:
    """Note what an envelope has no place for."""
    if any(card.nic.mac for card in cards):
        losses.append("MAC addresses are in the OVF, and VMware gives new ones when it imports it: set them afterwards")
    losses.append("the UUID of the hardware is not in an OVF: the guest sees a new one")
    if machine.boot_order:
        losses.append("the order of booting is not in an OVF: look at it before the machine is started")
    if machine.time_zone.upper() not in (UTC_ZONE, "ETC/UTC"):
        losses.append(
            f"the hardware clock shows the time zone {machine.time_zone!r}, which is not in an OVF: look at the "
            f"guest's time when it starts"
        )

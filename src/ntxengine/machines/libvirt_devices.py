"""Disks and network cards of a libvirt domain."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from itertools import count
from urllib.parse import parse_qs, unquote, urlsplit

from ntxengine.errors import OptionsError
from ntxengine.machines.definition import DiskFile, PlacedNic, boot_kinds, ordered_disks
from ntxengine.machines.model import SECTOR_SIZE, Disk, Machine, MachineType
from ntxengine.machines.text import one_line, xml_text

_SERIAL = re.compile(r"[A-Za-z0-9_.+-]{1,20}")
"""virtio-blk keeps 20 bytes; the schema allows these letters."""

_IDE_PLACES = 4
_SATA_PORTS = 6
_SCSI_TARGETS = 64
"""On one controller: the schema takes two digits."""

_NBD_PORT = 10809
_FORMATS = {"raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vhd": "vpc"}

BootNumbers = dict[str, int]
"""The numbers of `<boot order=''>`, by the ids of disks and the MAC addresses of cards."""


def boot_numbers(machine: Machine) -> BootNumbers:
    """Return in which order the firmware tries disks and cards."""
    names: list[str] = []
    for entry in boot_kinds(machine):
        if entry.disk_id or entry.mac:
            names.append(entry.disk_id or entry.mac)
        elif entry.kind == "disk":
            names.extend(disk.id for disk in ordered_disks(machine))
        else:
            names.extend(nic.mac for nic in machine.nics if nic.mac)
    return {name: number for number, name in enumerate(dict.fromkeys(names), 1)}


def add_disks(
    devices: ET.Element,
    pairs: Sequence[tuple[Disk, DiskFile]],
    boot: BootNumbers,
    kind: MachineType,
    losses: list[str],
) -> None:
    """Add each disk, and the controllers that virtio-scsi needs."""
    for number in sorted({disk.index // _SCSI_TARGETS for disk, _ in pairs if disk.bus == "scsi"}):
        ET.SubElement(devices, "controller", type="scsi", index=str(number), model="virtio-scsi")
    names = {prefix: _device_names(prefix) for prefix in ("hd", "sd", "vd")}
    ide_places = {disk.index for disk, _ in pairs if disk.bus == "ide" and disk.index < _IDE_PLACES}
    # Ports of SATA that disks of SATA have; those that come from IDE take the next.
    ports = {disk.index for disk, _ in pairs if disk.bus == "sata"}
    free_ports = (port for port in count() if port not in ports)
    for disk, file in pairs:
        bus, place = disk.bus, disk.index
        if bus == "ide" and (kind == "q35" or place not in ide_places):
            losses.append(f"disk {disk.label} is put on SATA, since a machine {kind} has no such place on IDE")
            bus, place = "sata", next(free_ports)
        ide_places.discard(place if bus == "ide" else -1)
        prefix = {"ide": "hd", "pci": "vd"}.get(bus, "sd")
        element = _disk_element(devices, file)
        ET.SubElement(element, "target", dev=next(names[prefix]), bus="virtio" if bus == "pci" else bus)
        if disk.sector_size != SECTOR_SIZE:
            size = str(disk.sector_size)
            ET.SubElement(element, "blockio", logical_block_size=size, physical_block_size=size)
        if _SERIAL.fullmatch(disk.serial):
            ET.SubElement(element, "serial").text = disk.serial
        elif disk.serial:
            losses.append(f"the serial number {disk.serial!r} of disk {disk.label} cannot be carried over")
        if disk.id in boot:
            ET.SubElement(element, "boot", order=str(boot[disk.id]))
        _add_address(element, bus, place, disk.unit)


def _device_names(prefix: str) -> Iterator[str]:
    """Return sda, sdb, ... sdz, sdaa: names for libvirt, not what a guest sees."""
    for number in count():
        letters, rest = "", number
        while rest >= 0:
            letters = chr(ord("a") + rest % 26) + letters
            rest = rest // 26 - 1
        yield prefix + letters


def _disk_element(devices: ET.Element, file: DiskFile) -> ET.Element:
    is_nbd = file.location.startswith(("nbd:", "nbds:", "nbd+unix:", "nbds+unix:"))
    element = ET.SubElement(devices, "disk", type="network" if is_nbd else "file", device="disk")
    ET.SubElement(element, "driver", name="qemu", type=_FORMATS[file.format], discard="unmap")
    if is_nbd:
        _add_nbd_source(element, file.location)
    elif file.location != one_line(file.location) or not file.location.startswith("/"):
        raise OptionsError(f"{file.location!r} is no path that libvirt takes: it wants a whole one, on one line")
    else:
        ET.SubElement(element, "source", file=file.location)
    return element


def _add_nbd_source(element: ET.Element, uri: str) -> None:
    """Name an export of an NBD server.  Source: the NBD URI specification."""
    try:
        parts = urlsplit(uri)
        port = parts.port or _NBD_PORT
    except ValueError as exc:
        raise OptionsError(f"{uri!r} is no NBD URI: {exc}") from exc
    source = ET.SubElement(element, "source", protocol="nbd", name=xml_text(unquote(parts.path.removeprefix("/"))))
    if parts.scheme.startswith("nbds"):
        source.set("tls", "yes")
    if parts.scheme.endswith("+unix"):
        socket = parse_qs(parts.query).get("socket", [""])[0]
        ET.SubElement(source, "host", transport="unix", socket=xml_text(socket))
    else:
        ET.SubElement(source, "host", name=parts.hostname or "localhost", port=str(port))


def _add_address(element: ET.Element, bus: str, place: int, unit: int) -> None:
    """Say where the disk is, for what tells by the address; a disk of virtio-blk gets its slot in the order written."""
    if bus == "pci":
        return
    controller, target = divmod(place, _SCSI_TARGETS)
    channel = 0
    if bus == "ide":
        controller, channel, target, unit = 0, place // 2, 0, place % 2
    elif bus == "sata":
        controller, target, unit = place // _SATA_PORTS, 0, place % _SATA_PORTS
    ET.SubElement(
        element,
        "address",
        type="drive",
        controller=str(controller),
        bus=str(channel),
        target=str(target),
        unit=str(unit),
    )


def add_nic(devices: ET.Element, placed: PlacedNic, boot: BootNumbers, losses: list[str]) -> None:
    """Add a network card."""
    nic, network = placed.nic, placed.network
    element = ET.SubElement(devices, "interface")
    if network.kind == "none":
        element.set("type", "ethernet")
    else:
        element.set("type", network.kind)
        ET.SubElement(element, "source", {network.kind: network.name})
    if nic.mac:
        ET.SubElement(element, "mac", address=nic.mac)
    ET.SubElement(element, "model", type=nic.model)
    if nic.queues > 1 and nic.model == "virtio":
        if placed.is_connected:
            ET.SubElement(element, "driver", name="vhost", queues=str(nic.queues))
    elif nic.queues > 1:
        losses.append(f"NIC {nic.label} has {nic.queues} queues, which a card of this model does not take")
    if not placed.is_connected:
        ET.SubElement(element, "link", state="down")
    if nic.mac in boot:
        ET.SubElement(element, "boot", order=str(boot[nic.mac]))

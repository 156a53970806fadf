"""The VMX of VMware: `key = "value"`, a line each, UTF-8.

Sources: what ESXi writes itself; libvirt's reader of VMX, which the tests ask; Broadcom's KB 344089 for the UUID.

| MAC address                | is written as                                                |
|----------------------------|--------------------------------------------------------------|
| 00:50:56:00:00:00-3f:ff:ff | static                                                       |
| 00:50:56:80:00:00-bf:ff:ff | of a vCenter (vpx)                                           |
| 00:0c:29:*                 | generated                                                    |
| others, as those of AHV    | static, and that VMware shall not check whose range it is of |
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar
from zoneinfo import ZoneInfo

from ntxengine.errors import OptionsError
from ntxengine.machines import vmware
from ntxengine.machines.definition import (
    Definition,
    DefinitionOptions,
    DefinitionWriter,
    DiskFile,
    DiskFormat,
    PlacedNic,
    boot_kinds,
    common_losses,
    network_losses,
    ordered_disks,
    paired,
    placed,
)
from ntxengine.machines.model import UTC_ZONE, Machine
from ntxengine.machines.text import one_line, reduced, xml_text

_ESCAPED = re.compile('["|\x00-\x1f\x7f]')
_PCIE_BRIDGES = range(4, 8)


class VmxWriter(DefinitionWriter):
    """Writes a machine of ESXi, to be registered from a datastore."""

    name: ClassVar[str] = "vmx"
    suffix: ClassVar[str] = ".vmx"
    max_disks: ClassVar[int] = vmware.MAX_DISKS
    formats: ClassVar[tuple[DiskFormat, ...]] = ("vmdk",)

    def check(self, machine: Machine, options: DefinitionOptions) -> None:
        """Refuse what virtual hardware of VMware cannot be."""
        self.check_common(machine)
        vmware.check(machine, options)

    def write(self, machine: Machine, files: Sequence[DiskFile], options: DefinitionOptions) -> Definition:
        """Return the VMX."""
        self.check(machine, options)
        losses = [*common_losses(machine), *vmware.common_losses(machine)]
        values: dict[str, str] = {}
        _add_machine(values, machine, options, losses)
        _add_clock(values, machine, options, losses)
        places = _add_disks(values, self, machine, files, options, losses)
        cards = vmware.cards_of(placed(machine, options), losses)
        losses += network_losses(cards)
        for number, card in enumerate(cards):
            _add_nic(values, f"ethernet{number}", vmware.nic_type(machine, card), card)
        _add_boot_order(values, machine, places, cards)
        lines = [f'{key} = "{escaped(value)}"\n' for key, value in values.items()]
        return Definition("".join(lines), tuple(losses))


def escaped(value: str) -> str:
    """Return a value as it stands between quotes: a bar and two hexadecimal digits for what cannot."""
    text = value.encode("utf-8", "replace").decode()
    return _ESCAPED.sub(lambda found: f"|{ord(found[0]):02X}", text)


def _add_machine(values: dict[str, str], machine: Machine, options: DefinitionOptions, losses: list[str]) -> None:
    cpu = machine.cpu
    name = options.name or one_line(machine.name)
    if not options.name and name != machine.name:
        losses.append(f"the name {machine.name!r} has more than one line: it is {name!r}")
    values |= {
        ".encoding": "UTF-8",
        "config.version": "8",
        "virtualHW.version": str(vmware.HARDWARE_VERSION),
        "displayName": name,
        "guestOS": vmware.guest_of(machine).vmx,
        "nvram": f"{reduced(name) or machine.uuid}.nvram",
        "uuid.bios": _uuid(options.uuid or machine.guest_uuid),
        "uuid.action": "keep",
        "memSize": str(vmware.memory_of(machine, losses)),
        "numvcpus": str(cpu.count),
        "cpuid.coresPerSocket": str(cpu.cores * cpu.threads),
        "pciBridge0.present": "TRUE",
    }
    if machine.firmware == "uefi":
        values["firmware"] = "efi"  # BIOS is what nothing means; libvirt's reader knows no word for it
    if machine.is_secure_boot:
        values["uefi.secureBoot.enabled"] = "TRUE"
    if machine.description.strip():
        values["annotation"] = xml_text(machine.description)
    if cpu.is_nested:
        values["vhv.enable"] = "TRUE"
    # pvscsi and vmxnet3 stand behind these.
    for number in _PCIE_BRIDGES:
        bridge = f"pciBridge{number}"
        values |= {
            f"{bridge}.present": "TRUE",
            f"{bridge}.virtualDev": "pcieRootPort",
            f"{bridge}.functions": "8",
        }
    values |= {"floppy0.present": "FALSE", "tools.syncTime": "FALSE", "disk.EnableUUID": "TRUE"}


def _uuid(text: str) -> str:
    """Return a UUID as the bytes that the guest's SMBIOS holds, with the first three numbers in little endian."""
    try:
        pairs = uuid.UUID(text).bytes_le.hex(" ")
    except ValueError as exc:
        raise OptionsError(f"{text!r} is no UUID") from exc
    return pairs[:23] + "-" + pairs[24:]


def _add_clock(values: dict[str, str], machine: Machine, options: DefinitionOptions, losses: list[str]) -> None:
    """Say how far the hardware clock is from UTC; VMware knows no zones."""
    zone = machine.time_zone
    if zone.upper() in (UTC_ZONE, "ETC/UTC"):
        values["rtc.diffFromUTC"] = "0"
        return
    offset = _offset_s(zone, options.now)
    if offset is not None:
        values["rtc.diffFromUTC"] = str(offset)
    losses.append(
        f"the hardware clock shows the time zone {zone!r}, and VMware knows no zones: it "
        + (f"is {offset} s from UTC, as now" if offset is not None else "shows UTC")
        + ", until the guest sets it; look at the guest's time when it starts"
    )


def _offset_s(zone: str, now: datetime | None) -> int | None:
    try:
        offset = None if now is None else now.astimezone(ZoneInfo(zone)).utcoffset()
    except (ValueError, OSError, LookupError):
        return None
    return None if offset is None else int(offset.total_seconds())


def _add_disks(
    values: dict[str, str],
    writer: DefinitionWriter,
    machine: Machine,
    files: Sequence[DiskFile],
    options: DefinitionOptions,
    losses: list[str],
) -> dict[str, str]:
    """Add disks with their controllers, and return the places of disks by their ids."""
    located = {disk.id: file.location for disk, file in paired(writer, machine, files)}
    places: dict[str, str] = {}
    for disk, bus, controller, place in vmware.place_disks(machine.disks, losses):
        if bus != "ide" and f"{bus}{controller}.present" not in values:
            values[f"{bus}{controller}.present"] = "TRUE"
            if bus == "scsi":
                values[f"{bus}{controller}.virtualDev"] = vmware.controller_of(machine, options)
        key = f"{bus}{controller}:{place}"
        values[f"{key}.present"] = "TRUE"
        values[f"{key}.deviceType"] = "scsi-hardDisk" if bus == "scsi" else "ata-hardDisk" if bus == "ide" else "disk"
        values[f"{key}.fileName"] = located[disk.id]
        places[disk.id] = key
    return places


def _add_nic(values: dict[str, str], key: str, kind: str, card: PlacedNic) -> None:
    mac = card.nic.mac
    values |= {f"{key}.present": "TRUE", f"{key}.virtualDev": kind, f"{key}.networkName": card.network.name}
    values[f"{key}.startConnected"] = "TRUE" if card.is_connected else "FALSE"
    if not mac:
        values[f"{key}.addressType"] = "generated"
    elif mac.startswith("00:0c:29:"):
        values |= {
            f"{key}.addressType": "generated",
            f"{key}.generatedAddress": mac,
            f"{key}.generatedAddressOffset": "0",
        }
    elif mac.startswith("00:50:56:") and 0x80 <= int(mac[9:11], 16) <= 0xBF:
        values |= {f"{key}.addressType": "vpx", f"{key}.generatedAddress": mac}
    else:
        values |= {f"{key}.addressType": "static", f"{key}.address": mac}
        if not (mac.startswith("00:50:56:") and int(mac[9:11], 16) <= 0x3F):
            values[f"{key}.checkMACAddress"] = "FALSE"


def _add_boot_order(
    values: dict[str, str], machine: Machine, places: dict[str, str], cards: Sequence[PlacedNic]
) -> None:
    """Say which kinds of devices the firmware tries, and which disk first."""
    kinds: list[str] = []
    for entry in boot_kinds(machine):
        if entry.kind == "disk":
            kinds.append("hdd")
        else:
            kinds.extend(f"ethernet{number}" for number, card in enumerate(cards) if entry.mac in ("", card.nic.mac))
    values["bios.bootOrder"] = ",".join(dict.fromkeys(kinds))
    if places:
        values["bios.hddOrder"] = ",".join(places[disk.id] for disk in ordered_disks(machine))

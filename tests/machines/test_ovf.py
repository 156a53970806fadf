"""The OVF: libxml2 reads it, and every reference in it leads somewhere."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntxengine.errors import OptionsError
from ntxengine.machines import DefinitionOptions, DiskFile, DiskFormat, Machine, NetworkMap, Nic, writer
from tests.machines.entities import DATA, EVERYTHING, MAC, MACHINE, SECURE, SYSTEM, files_of
from tests.machines.judges import xml_is_well_formed

OVF = writer("ovf")
MAPPED = DefinitionOptions(networks=NetworkMap.parse(["*=network:VM Network"]))
SPACES = {
    "ovf": "http://schemas.dmtf.org/ovf/envelope/1",
    "rasd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData",
    "vssd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData",
    "vmw": "http://www.vmware.com/schema/ovf",
}


def attribute(element: ET.Element, name: str, space: str = "ovf") -> str:
    return element.attrib[f"{{{SPACES[space]}}}{name}"]


def written(machine: Machine, options: DefinitionOptions = MAPPED, format: DiskFormat = "stream-vmdk") -> ET.Element:
    return ET.fromstring(OVF.write(machine, files_of(machine, format), options).text)


def items(envelope: ET.Element, kind: int) -> list[ET.Element]:
    found = envelope.findall(".//ovf:Item", SPACES)
    return [item for item in found if item.findtext("rasd:ResourceType", "", SPACES) == str(kind)]


def config(envelope: ET.Element) -> dict[str, str]:
    found = envelope.findall(".//vmw:Config", SPACES)
    return {attribute(one, "key", "vmw"): attribute(one, "value", "vmw") for one in found}


def follow_references(envelope: ET.Element) -> list[tuple[str, str, str]]:
    """Return for each disk its file, its capacity and its controller's kind, by the ways that a reader goes."""
    files = {attribute(one, "id"): one for one in envelope.findall("ovf:References/ovf:File", SPACES)}
    disks = {attribute(one, "diskId"): one for one in envelope.findall("ovf:DiskSection/ovf:Disk", SPACES)}
    networks = {attribute(one, "name") for one in envelope.findall("ovf:NetworkSection/ovf:Network", SPACES)}
    found = envelope.findall(".//ovf:Item", SPACES)
    by_id = {item.findtext("rasd:InstanceID", "", SPACES): item for item in found}
    assert len(by_id) == len(found)
    result = []
    places = set()
    for item in items(envelope, 17):
        parent = by_id[item.findtext("rasd:Parent", "", SPACES)]
        place = (parent, item.findtext("rasd:AddressOnParent", "", SPACES))
        assert place not in places
        places.add(place)
        disk = disks.pop(item.findtext("rasd:HostResource", "", SPACES).removeprefix("ovf:/disk/"))
        file = files.pop(attribute(disk, "fileRef"))
        assert int(attribute(file, "size")) >= 1000
        kind = parent.findtext("rasd:ResourceType", "", SPACES)
        result.append((attribute(file, "href"), attribute(disk, "capacity"), kind))
    assert not files
    assert not disks
    for item in items(envelope, 10):
        assert item.findtext("rasd:Connection", "", SPACES) in networks
    return result


@pytest.mark.parametrize(
    "machine",
    [MACHINE, SECURE, EVERYTHING, dataclasses.replace(MACHINE, disks=(), nics=())],
    ids=["plain", "secure", "everything", "nothing"],
)
@pytest.mark.parametrize("options", [MAPPED, DefinitionOptions(), DefinitionOptions(is_isolated=True)])
def test_every_reference_leads_somewhere(machine: Machine, options: DefinitionOptions, tmp_path: Path) -> None:
    definition = OVF.write(machine, files_of(machine, "stream-vmdk"), options)

    xml_is_well_formed(definition.text, tmp_path)
    found = follow_references(ET.fromstring(definition.text))

    assert [(href, capacity) for href, capacity, _ in found] == [
        (f"disk{number}.vmdk", str(disk.size)) for number, disk in enumerate(machine.disks)
    ]
    assert [kind for _, _, kind in found] == [{"ide": "5", "sata": "20"}.get(disk.bus, "6") for disk in machine.disks]


def test_fields_of_an_item_stand_in_the_order_of_the_schema() -> None:
    for item in written(EVERYTHING).findall(".//ovf:Item", SPACES):
        names = [child.tag.rpartition("}")[2] for child in item if SPACES["rasd"] in child.tag]

        assert names == sorted(names)
        assert {"ElementName", "InstanceID", "ResourceType"} < {*names}


def test_sections_stand_in_the_order_of_the_schema() -> None:
    envelope = written(MACHINE)

    assert [child.tag.rpartition("}")[2] for child in envelope] == [
        "References",
        "DiskSection",
        "NetworkSection",
        "VirtualSystem",
    ]


def test_processors_memory_and_firmware_are_told() -> None:
    envelope = written(EVERYTHING)

    [cpu], [memory] = items(envelope, 3), items(envelope, 4)
    assert cpu.findtext("rasd:VirtualQuantity", "", SPACES) == "8"
    assert cpu.findtext("vmw:CoresPerSocket", "", SPACES) == "8"
    assert memory.findtext("rasd:VirtualQuantity", "", SPACES) == "4096"
    assert config(envelope) == {
        "firmware": "efi",
        "bootOptions.efiSecureBootEnabled": "true",
        "nestedHVEnabled": "true",
    }
    assert config(written(MACHINE)) == {"firmware": "bios"}


def test_the_system_of_the_guest_is_told() -> None:
    section = written(EVERYTHING).find(".//ovf:OperatingSystemSection", SPACES)

    assert section is not None
    assert attribute(section, "osType", "vmw") == "windows9Server64Guest"


@pytest.mark.parametrize(
    ("format", "end"), [("stream-vmdk", "vmdk.html#streamOptimized"), ("vmdk", "specifications/vmdk.html")]
)
def test_the_form_of_the_disks_is_told(format: DiskFormat, end: str) -> None:
    disk = written(MACHINE, format=format).find("ovf:DiskSection/ovf:Disk", SPACES)

    assert disk is not None
    assert attribute(disk, "format").endswith(end)
    assert attribute(disk, "capacityAllocationUnits") == "byte"


def test_a_network_that_is_not_mapped_keeps_its_name_for_who_imports_it() -> None:
    machine = dataclasses.replace(
        MACHINE, nics=(Nic(MAC, network="VLAN10"), Nic(network="VLAN10"), Nic(network_id=DATA), Nic())
    )

    envelope = written(machine, DefinitionOptions())

    names = [attribute(one, "name") for one in envelope.findall("ovf:NetworkSection/ovf:Network", SPACES)]
    assert names == ["VLAN10", DATA, "not connected"]
    told = [item.findtext("rasd:AutomaticAllocation", "", SPACES) for item in items(envelope, 10)]
    assert told == ["true"] * 4


def test_an_isolated_machine_is_connected_to_nothing() -> None:
    envelope = written(EVERYTHING, dataclasses.replace(MAPPED, is_isolated=True))

    told = [item.findtext("rasd:AutomaticAllocation", "", SPACES) for item in items(envelope, 10)]
    assert told == ["false"] * 3


@pytest.mark.parametrize(
    "file",
    [
        DiskFile(SYSTEM, "a.vmdk", "stream-vmdk"),
        DiskFile(SYSTEM, "/whole/a.vmdk", "stream-vmdk", file_size=1),
        DiskFile(SYSTEM, "a.raw", "raw", file_size=1),
    ],
)
def test_a_file_that_cannot_be_named_is_refused(file: DiskFile) -> None:
    with pytest.raises(OptionsError):
        OVF.write(MACHINE, [file, files_of(MACHINE, "vmdk")[1]], MAPPED)


def test_what_an_envelope_has_no_place_for_is_told() -> None:
    losses = OVF.write(EVERYTHING, files_of(EVERYTHING, "vmdk"), MAPPED).losses

    for word in ("MAC addresses", "the UUID", "the order of booting", "Europe/Berlin", "vTPM", "serial port 2"):
        assert any(word in loss for loss in losses), word


TEXTS = st.text(max_size=60)


@settings(max_examples=200, deadline=None)
@given(name=TEXTS, description=TEXTS, network=TEXTS, system=TEXTS)
def test_odd_texts_come_back_through_a_parser_of_xml(name: str, description: str, network: str, system: str) -> None:
    machine = dataclasses.replace(
        MACHINE, name=name, description=description, guest_os=system, nics=(Nic(MAC, network=network),)
    )

    envelope = written(machine, DefinitionOptions())

    follow_references(envelope)
    if name.isprintable():
        assert envelope.findtext(".//ovf:Name", "", SPACES) == name.strip()
    if description.isprintable() and description.strip():
        assert envelope.findtext(".//ovf:Annotation", "", SPACES) == description

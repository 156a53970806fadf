"""The libvirt definition: libvirt itself takes it, and it says what the machine is."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntxengine.errors import OptionsError
from ntxengine.machines import DefinitionOptions, Disk, DiskFile, Machine, NetworkMap, Nic, writer
from ntxengine.machines.model import BootEntry
from tests.machines.entities import DATA, EVERYTHING, MAC, MACHINE, SECURE, SYSTEM, UUID, files_of
from tests.machines.judges import libvirt_takes

LIBVIRT = writer("libvirt")
MAP = NetworkMap.parse(["VLAN10=bridge:br0", "*=network:default"])
MAPPED = DefinitionOptions(networks=MAP)


def written(machine: Machine, options: DefinitionOptions = MAPPED) -> ET.Element:
    return ET.fromstring(LIBVIRT.write(machine, files_of(machine), options).text)


@pytest.mark.parametrize(
    "machine",
    [
        MACHINE,
        SECURE,
        EVERYTHING,
        dataclasses.replace(EVERYTHING, is_secure_boot=False, machine_type="q35"),
        dataclasses.replace(EVERYTHING, firmware="bios", is_secure_boot=False, machine_type="pc"),
        dataclasses.replace(MACHINE, disks=(), nics=()),
        dataclasses.replace(MACHINE, disks=tuple(Disk(f"{n}", "scsi", n, 512) for n in range(200))),
    ],
    ids=["plain", "secure", "everything", "q35", "bios", "nothing", "many disks"],
)
@pytest.mark.parametrize("options", [MAPPED, DefinitionOptions(is_isolated=True, name="db01-test", uuid=DATA)])
def test_libvirt_takes_it(machine: Machine, options: DefinitionOptions, tmp_path: Path) -> None:
    definition = LIBVIRT.write(machine, files_of(machine), options)

    stored = libvirt_takes(definition.text, tmp_path)

    assert stored.findtext("name") == (options.name or machine.name)
    assert stored.findtext("uuid") == (options.uuid or machine.uuid)
    assert len(stored.findall("devices/disk")) == len(machine.disks)
    assert len(stored.findall("devices/interface")) == len(machine.nics)
    assert stored.findtext("memory") == str(machine.memory // 1024)


def test_disks_keep_their_buses_addresses_and_files() -> None:
    disks = written(dataclasses.replace(EVERYTHING, is_secure_boot=False)).findall("devices/disk")

    places = []
    for disk in disks:
        address = disk.find("address")
        target = disk.find("target")
        assert target is not None
        keys = ("controller", "bus", "target", "unit")
        places.append((target.get("bus"), None if address is None else tuple(int(address.get(k, "")) for k in keys)))
    assert places == [
        ("ide", (0, 0, 0, 0)),
        ("sata", (1, 0, 0, 1)),
        ("scsi", (0, 0, 0, 0)),
        ("scsi", (0, 0, 9, 0)),
        ("scsi", (0, 0, 12, 3)),
        ("virtio", None),
    ]
    assert [disk.find("source").get("file") for disk in disks] == [f"/replicas/disk{n}.qcow2" for n in range(6)]  # type: ignore[union-attr]


def test_names_of_devices_do_not_meet() -> None:
    machine = dataclasses.replace(MACHINE, disks=tuple(Disk(f"{n}", "scsi", n, 512) for n in range(30)))

    names = [target.get("dev") for target in written(machine).findall("devices/disk/target")]

    assert names[:3] + names[25:28] == ["sda", "sdb", "sdc", "sdz", "sdaa", "sdab"]
    assert len({*names}) == 30


def test_a_disk_of_ide_goes_to_a_free_port_of_sata_on_q35() -> None:
    disks = (Disk("a", "ide", 0, 512), Disk("b", "ide", 1, 512), Disk("c", "sata", 0, 512), Disk("d", "sata", 2, 512))
    machine = dataclasses.replace(MACHINE, machine_type="q35", disks=disks)

    definition = LIBVIRT.write(machine, files_of(machine), MAPPED)

    units = [a.get("unit") for a in ET.fromstring(definition.text).findall("devices/disk/address")]
    assert units == ["1", "3", "0", "2"]
    assert sum("is put on SATA" in loss for loss in definition.losses) == 2


def test_two_disks_at_one_place_of_ide_do_not_meet(tmp_path: Path) -> None:
    machine = dataclasses.replace(MACHINE, disks=tuple(Disk(f"{n}", "ide", 0, 512) for n in range(3)))

    stored = libvirt_takes(LIBVIRT.write(machine, files_of(machine), MAPPED).text, tmp_path)

    buses = [target.get("bus") for target in stored.findall("devices/disk/target")]
    assert sorted(map(str, buses)) == ["ide", "sata", "sata"]


def test_secure_boot_is_demanded_of_the_firmware() -> None:
    domain = written(SECURE)

    assert domain.find("os[@firmware='efi']") is not None
    assert domain.find("os/type").get("machine") == "q35"  # type: ignore[union-attr]
    features = {f.get("name"): f.get("enabled") for f in domain.findall("os/firmware/feature")}
    assert features == {"secure-boot": "yes", "enrolled-keys": "yes"}
    assert domain.find("os/loader[@secure='yes']") is not None
    assert domain.find("features/smm[@state='on']") is not None
    assert domain.find("devices/tpm/backend[@type='emulator']") is not None


def test_bios_has_no_firmware_that_is_chosen() -> None:
    domain = written(MACHINE)

    assert domain.find("os").attrib == {}  # type: ignore[union-attr]
    assert domain.find("os/firmware") is None


@pytest.mark.parametrize(
    ("zone", "clock"),
    [
        ("UTC", {"offset": "utc"}),
        ("Etc/UTC", {"offset": "utc"}),
        ("Europe/Berlin", {"offset": "timezone", "timezone": "Europe/Berlin"}),
    ],
)
def test_the_hardware_clock_shows_the_same_zone(zone: str, clock: dict[str, str]) -> None:
    domain = written(dataclasses.replace(MACHINE, time_zone=zone))

    assert domain.find("clock").attrib == clock  # type: ignore[union-attr]


def test_cards_are_put_where_the_map_says() -> None:
    machine = dataclasses.replace(MACHINE, nics=(Nic(MAC, network="VLAN10"), Nic(network="other"), Nic(network="no")))
    options = DefinitionOptions(networks=NetworkMap.parse(["VLAN10=bridge:br0", "no=none", "*=network:default"]))

    cards = written(machine, options).findall("devices/interface")

    assert [card.get("type") for card in cards] == ["bridge", "network", "ethernet"]
    assert [card.find("mac") is not None for card in cards] == [True, False, False]
    assert cards[0].find("source").attrib == {"bridge": "br0"}  # type: ignore[union-attr]
    assert [card.find("link[@state='down']") is not None for card in cards] == [False, False, True]


def test_a_card_that_is_given_no_place_is_told_and_not_connected() -> None:
    definition = LIBVIRT.write(MACHINE, files_of(MACHINE), DefinitionOptions())

    assert ET.fromstring(definition.text).find("devices/interface/link[@state='down']") is not None
    assert any("VLAN10=network:NAME" in loss for loss in definition.losses)


def test_an_isolated_machine_has_no_card_on_a_network() -> None:
    options = dataclasses.replace(MAPPED, is_isolated=True)
    definition = LIBVIRT.write(EVERYTHING, files_of(EVERYTHING), options)

    cards = ET.fromstring(definition.text).findall("devices/interface")
    assert len(cards) == 3
    assert all(card.get("type") == "ethernet" and card.find("link[@state='down']") is not None for card in cards)
    assert not any("no place" in loss for loss in definition.losses)


def test_the_disk_to_boot_from_is_first_then_the_kinds_in_their_order() -> None:
    order = (BootEntry("disk", disk_id=DATA), BootEntry("network"), BootEntry("disk"))

    domain = written(dataclasses.replace(MACHINE, boot_order=order))

    numbers = [boot.get("order") for boot in domain.findall("devices/disk/boot")]
    assert numbers == ["3", "1"]
    assert domain.find("devices/interface/boot").get("order") == "2"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("nbd://store:10810/db01", {"protocol": "nbd", "name": "db01"}),
        ("nbds://[::1]/a%20b/c", {"protocol": "nbd", "name": "a b/c", "tls": "yes"}),
        ("nbd+unix:///db?socket=/run/nbd.sock", {"protocol": "nbd", "name": "db"}),
    ],
)
def test_a_disk_on_an_nbd_server_is_named_by_its_export(uri: str, source: dict[str, str], tmp_path: Path) -> None:
    files = [DiskFile(SYSTEM, uri, "raw"), DiskFile(DATA, "/replicas/data.raw", "raw")]

    definition = LIBVIRT.write(MACHINE, files, MAPPED)

    libvirt_takes(definition.text, tmp_path)
    found = ET.fromstring(definition.text).find("devices/disk[@type='network']/source")
    assert found is not None
    assert found.attrib == source


def test_sectors_of_4096_bytes_are_kept(tmp_path: Path) -> None:
    machine = dataclasses.replace(MACHINE, disks=(Disk(SYSTEM, "scsi", 0, 4096, sector_size=4096),))

    stored = libvirt_takes(LIBVIRT.write(machine, files_of(machine), MAPPED).text, tmp_path)

    assert stored.find("devices/disk/blockio").get("logical_block_size") == "4096"  # type: ignore[union-attr]


def test_the_guest_sees_the_uuid_that_it_knows() -> None:
    machine = dataclasses.replace(MACHINE, hardware_uuid=DATA)

    assert written(machine).findtext("uuid") == DATA
    assert written(machine, DefinitionOptions(uuid=UUID)).findtext("uuid") == UUID


@pytest.mark.parametrize("name", ["a/b", "a\nb", "", " ", ".", "..", "x" * 400, "ä" * 150, "\x00\x01"])
def test_a_name_that_libvirt_refuses_is_changed_and_told(name: str, tmp_path: Path) -> None:
    definition = LIBVIRT.write(dataclasses.replace(MACHINE, name=name), files_of(MACHINE), MAPPED)

    stored = libvirt_takes(definition.text, tmp_path)

    assert stored.findtext("name") != name
    assert any("cannot be that of a domain" in loss for loss in definition.losses)


def test_a_name_that_was_asked_for_is_never_changed() -> None:
    with pytest.raises(OptionsError, match="is no name for a domain"):
        LIBVIRT.check(MACHINE, DefinitionOptions(name="a/b"))


NAMES = st.text(max_size=60)


@settings(max_examples=300, deadline=None)
@given(name=NAMES, description=NAMES, network=NAMES, system=NAMES)
def test_odd_texts_come_back_through_a_parser_of_xml(name: str, description: str, network: str, system: str) -> None:
    machine = dataclasses.replace(
        MACHINE,
        name=name,
        description=description,
        guest_os=system,
        nics=(Nic(MAC, network=network),),
    )

    domain = ET.fromstring(LIBVIRT.write(machine, files_of(machine), DefinitionOptions()).text)

    assert len(domain.findall("devices/disk")) == 2
    assert "\n" not in domain.findtext("name", "")
    assert "/" not in domain.findtext("name", "")
    if description.isprintable() and description.strip():
        assert domain.findtext("description") == description


@settings(max_examples=12, deadline=None)
@given(name=st.text(min_size=1, max_size=40), description=NAMES, system=NAMES)
def test_libvirt_takes_odd_names(
    name: str, description: str, system: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    machine = dataclasses.replace(MACHINE, name=name, description=description, guest_os=system)

    libvirt_takes(LIBVIRT.write(machine, files_of(machine), MAPPED).text, tmp_path_factory.mktemp("odd"))


def test_a_machine_of_power_is_refused() -> None:
    with pytest.raises(OptionsError, match="only x86"):
        LIBVIRT.check(dataclasses.replace(MACHINE, machine_type="pseries"), MAPPED)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (files_of(MACHINE)[:1], "has no file"),
        ([*files_of(MACHINE), DiskFile("other", "/x", "raw")], "is of no disk"),
        ([DiskFile(SYSTEM, "/x", "stream-vmdk"), files_of(MACHINE)[1]], "takes no stream-vmdk"),
        ([DiskFile(SYSTEM, "/a\x01", "raw"), files_of(MACHINE)[1]], "is no path"),
        ([DiskFile(SYSTEM, "beside.raw", "raw"), files_of(MACHINE)[1]], "is no path"),
        ([DiskFile(SYSTEM, "nbd://a:b/", "raw"), files_of(MACHINE)[1]], "is no NBD URI"),
    ],
)
def test_files_that_do_not_fit_are_refused(files: list[DiskFile], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        LIBVIRT.write(MACHINE, files, MAPPED)

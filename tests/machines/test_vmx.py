"""The VMX: libvirt's reader of VMX finds in it what the machine is, and a reader of our own every odd text."""

from __future__ import annotations

import dataclasses
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntxengine.errors import OptionsError
from ntxengine.machines import Cpu, DefinitionOptions, Disk, Machine, NetworkMap, Nic, writer
from ntxengine.machines.model import BootEntry
from ntxengine.units import GIB, TIB
from tests.machines.entities import DATA, EVERYTHING, MAC, MACHINE, SECURE, SYSTEM, UUID, files_of
from tests.machines.judges import libvirt_reads_vmx

VMX = writer("vmx")
MAPPED = DefinitionOptions(networks=NetworkMap.parse(["*=network:VM Network"]))


def parsed(text: str) -> dict[str, str]:
    """Read a VMX: a line is `key = "value"`, a bar and two digits stand for a byte, and no key comes twice."""
    result: dict[str, str] = {}
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        match = re.fullmatch(r'([.\w:]+) = "([^"]*)"', line)
        assert match is not None, line
        assert match[1] not in result
        result[match[1]] = re.sub(r"\|([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), match[2])
    return result


def written(machine: Machine, options: DefinitionOptions = MAPPED) -> dict[str, str]:
    return parsed(VMX.write(machine, files_of(machine, "vmdk"), options).text)


@pytest.mark.parametrize(
    "machine",
    [MACHINE, SECURE, EVERYTHING, dataclasses.replace(MACHINE, disks=(), nics=())],
    ids=["plain", "secure", "everything", "nothing"],
)
def test_libvirt_reads_what_the_machine_is(machine: Machine, tmp_path: Path) -> None:
    domain = libvirt_reads_vmx(VMX.write(machine, files_of(machine, "vmdk"), MAPPED).text, tmp_path)

    assert domain.findtext("name") == machine.name
    assert domain.findtext("memory") == str(machine.memory // 1024)
    assert domain.findtext("vcpu") == str(machine.cpu.count)
    topology = domain.find("cpu/topology")
    assert topology is None or topology.get("sockets") == str(machine.cpu.sockets)
    assert (domain.find("os").get("firmware") == "efi") == (machine.firmware == "uefi")  # type: ignore[union-attr]
    files = sorted(str(source.get("file")) for source in domain.findall("devices/disk/source"))
    assert files == [f"disk{number}.vmdk" for number in range(len(machine.disks))]
    macs = [str(mac.get("address")) for mac in domain.findall("devices/interface/mac")]
    assert [mac for mac in macs if mac != "00:00:00:00:00:00"] == [nic.mac for nic in machine.nics if nic.mac]
    if machine.description:
        assert domain.findtext("description") == machine.description


@pytest.mark.parametrize(
    ("mac", "kind", "check"),
    [
        ("00:50:56:00:00:01", "static", None),
        ("00:50:56:3f:ff:ff", "static", None),
        ("00:50:56:40:00:00", "static", "no"),
        ("00:50:56:80:00:00", "vpx", None),
        ("00:50:56:bf:ff:ff", "vpx", None),
        ("00:50:56:c0:00:00", "static", "no"),
        ("00:0c:29:12:34:56", "generated", None),
        (MAC, "static", "no"),
    ],
)
def test_a_mac_address_is_kept_whatever_its_range(mac: str, kind: str, check: str | None, tmp_path: Path) -> None:
    machine = dataclasses.replace(MACHINE, nics=(Nic(mac),))

    domain = libvirt_reads_vmx(VMX.write(machine, files_of(machine, "vmdk"), MAPPED).text, tmp_path)

    found = domain.find("devices/interface/mac")
    assert found is not None
    assert (found.get("address"), found.get("check")) == (mac, check)
    assert written(machine)["ethernet0.addressType"] == kind


def test_a_card_without_an_address_gets_one() -> None:
    values = written(dataclasses.replace(MACHINE, nics=(Nic(),)))

    assert values["ethernet0.addressType"] == "generated"
    assert "ethernet0.address" not in values


def test_the_guest_reads_the_uuid_that_it_knows() -> None:
    text = written(dataclasses.replace(MACHINE, hardware_uuid=DATA))["uuid.bios"]

    assert re.fullmatch(r"([0-9a-f]{2} ){7}[0-9a-f]{2}-([0-9a-f]{2} ){7}[0-9a-f]{2}", text)
    # SMBIOS: the first three numbers of a UUID are little endian.
    assert uuid.UUID(bytes_le=bytes.fromhex(text.replace("-", " "))) == uuid.UUID(DATA)


def test_disks_of_scsi_leave_out_the_unit_of_the_controller() -> None:
    machine = dataclasses.replace(MACHINE, disks=tuple(Disk(f"{n}", "scsi", n, 512) for n in range(60)))

    values = written(machine)

    places = [key.removesuffix(".fileName") for key in values if key.endswith(".fileName")]
    assert places[:9] == [f"scsi0:{n}" for n in (0, 1, 2, 3, 4, 5, 6, 8, 9)]
    assert (places[14], places[15], places[59]) == ("scsi0:15", "scsi1:0", "scsi3:15")
    assert values["scsi3.virtualDev"] == "pvscsi"


@pytest.mark.parametrize(
    ("system", "guest", "controller", "card"),
    [
        ("", "other-64", "pvscsi", "vmxnet3"),
        ("linux:64:Debian GNU/Linux 12", "debian10-64", "pvscsi", "vmxnet3"),
        ("Red Hat Enterprise Linux 7.9", "rhel7-64", "pvscsi", "vmxnet3"),
        ("Rocky Linux 9.4", "rhel8-64", "pvscsi", "vmxnet3"),
        ("Ubuntu 22.04", "ubuntu-64", "pvscsi", "vmxnet3"),
        ("Alpine Linux", "other4xlinux-64", "pvscsi", "vmxnet3"),
        ("windows:64:Windows Server 2019 Datacenter", "windows9srv-64", "lsisas1068", "e1000e"),
        ("Microsoft Windows 11 Pro", "windows9-64", "lsisas1068", "e1000e"),
        ("Microsoft Windows Server 2008 R2", "windows7srv-64", "lsisas1068", "e1000e"),
    ],
)
def test_devices_are_those_that_the_guest_has_drivers_for(system: str, guest: str, controller: str, card: str) -> None:
    values = written(dataclasses.replace(MACHINE, guest_os=system))

    assert (values["guestOS"], values["scsi0.virtualDev"], values["ethernet0.virtualDev"]) == (guest, controller, card)


def test_another_controller_can_be_asked_for() -> None:
    assert written(MACHINE, DefinitionOptions(scsi_controller="lsilogic"))["scsi0.virtualDev"] == "lsilogic"


def test_the_order_of_booting_is_kept() -> None:
    order = (BootEntry("network", mac=MAC), BootEntry("disk"), BootEntry("cdrom"))

    values = written(dataclasses.replace(MACHINE, boot_order=order))
    by_disk = written(dataclasses.replace(MACHINE, boot_order=(BootEntry("disk", disk_id=DATA),)))

    assert values["bios.bootOrder"] == "ethernet0,hdd"
    assert (by_disk["bios.bootOrder"], by_disk["bios.hddOrder"]) == ("hdd", "scsi0:1,scsi0:0")


def test_secure_boot_is_set_and_the_tpm_is_told_as_lost() -> None:
    definition = VMX.write(SECURE, files_of(SECURE, "vmdk"), MAPPED)

    assert parsed(definition.text)["uefi.secureBoot.enabled"] == "TRUE"
    assert any("vTPM is left out" in loss for loss in definition.losses)


def test_an_isolated_machine_is_connected_to_nothing() -> None:
    values = written(EVERYTHING, dataclasses.replace(MAPPED, is_isolated=True))

    assert [values[f"ethernet{n}.startConnected"] for n in range(3)] == ["FALSE"] * 3
    assert [values[f"ethernet{n}.networkName"] for n in range(3)] == [""] * 3


def test_libvirt_reads_a_card_that_is_on_no_network(tmp_path: Path) -> None:
    definition = VMX.write(MACHINE, files_of(MACHINE, "vmdk"), DefinitionOptions(is_isolated=True))

    assert libvirt_reads_vmx(definition.text, tmp_path).find("devices/interface") is not None


@pytest.mark.parametrize(
    ("now", "offset"),
    [(datetime(2026, 1, 1, tzinfo=UTC), "3600"), (datetime(2026, 7, 1, tzinfo=UTC), "7200"), (None, None)],
)
def test_the_clock_is_as_far_from_utc_as_the_zone_is_now(now: datetime | None, offset: str | None) -> None:
    machine = dataclasses.replace(MACHINE, time_zone="Europe/Berlin")

    definition = VMX.write(machine, files_of(machine, "vmdk"), dataclasses.replace(MAPPED, now=now))

    assert parsed(definition.text).get("rtc.diffFromUTC") == offset
    assert any("knows no zones" in loss for loss in definition.losses)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "/etc/passwd", "", "a" * 300])
def test_a_zone_that_is_none_is_told(zone: str) -> None:
    machine = dataclasses.replace(MACHINE, time_zone=zone)

    definition = VMX.write(machine, files_of(machine, "vmdk"), DefinitionOptions(now=datetime(2026, 1, 1, tzinfo=UTC)))

    assert "rtc.diffFromUTC" not in parsed(definition.text)
    assert any("knows no zones" in loss for loss in definition.losses)


TEXTS = st.text(max_size=60)


@settings(max_examples=300, deadline=None)
@given(name=TEXTS, description=TEXTS, network=st.text(min_size=1, max_size=20), file=st.text(min_size=1, max_size=30))
def test_odd_texts_come_back_through_a_reader_of_vmx(name: str, description: str, network: str, file: str) -> None:
    machine = dataclasses.replace(
        MACHINE, name=name, description=description, nics=(Nic(MAC, network=network),), disks=MACHINE.disks[:1]
    )
    files = [dataclasses.replace(files_of(machine, "vmdk")[0], location=file)]

    values = parsed(VMX.write(machine, files, DefinitionOptions()).text)

    assert values["scsi0:0.fileName"] == file.encode("utf-8", "replace").decode()
    if name.isprintable():
        assert values["displayName"] == name.strip()
    if description.isprintable() and description.strip():
        assert values["annotation"] == description
    assert re.fullmatch(r"[A-Za-z0-9._-]+\.nvram", values["nvram"])


@settings(max_examples=12, deadline=None)
@given(
    name=st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable() and "/" not in text and text.strip())
)
def test_libvirt_reads_odd_names(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    machine = dataclasses.replace(MACHINE, name=name, description=f"{name}\n{name}")

    text = VMX.write(machine, files_of(machine, "vmdk"), MAPPED).text
    # libvirt undoes per cent signs in names, which VMware does not write them by.
    domain = libvirt_reads_vmx(text.replace("%", "_"), tmp_path_factory.mktemp("odd"))

    assert domain.findtext("name") == name.strip().replace("%", "_")


@pytest.mark.parametrize(
    ("machine", "options", "message"),
    [
        (
            dataclasses.replace(MACHINE, disks=(Disk(SYSTEM, "scsi", 0, 4096, sector_size=4096),)),
            MAPPED,
            "none but of 512",
        ),
        (dataclasses.replace(MACHINE, disks=(Disk(SYSTEM, "scsi", 0, 63 * TIB),)), MAPPED, "exclude it"),
        (dataclasses.replace(MACHINE, disks=tuple(Disk(f"{n}", "pci", n, 512) for n in range(61))), MAPPED, "takes 60"),
        (dataclasses.replace(MACHINE, cpu=Cpu(129)), MAPPED, "129 processors"),
        (dataclasses.replace(MACHINE, memory=7000 * GIB), MAPPED, "of memory"),
        (MACHINE, DefinitionOptions(networks=NetworkMap.parse(["*=bridge:br0"])), "no bridges"),
    ],
)
def test_what_vmware_cannot_be_is_refused_with_the_remedy(
    machine: Machine, options: DefinitionOptions, message: str
) -> None:
    for name in ("vmx", "ovf"):
        with pytest.raises(OptionsError, match=message):
            writer(name).check(machine, options)


def test_a_uuid_that_is_none_is_refused() -> None:
    with pytest.raises(OptionsError, match="is no UUID"):
        written(MACHINE, DefinitionOptions(uuid="nobody"))


def test_memory_is_rounded_up_to_what_vmware_takes() -> None:
    machine = dataclasses.replace(MACHINE, memory=GIB + 1)
    definition = VMX.write(machine, files_of(machine, "vmdk"), MAPPED)

    assert parsed(definition.text)["memSize"] == "1028"
    assert any("rounded up" in loss for loss in definition.losses)


def test_the_eleventh_card_is_told_as_lost() -> None:
    machine = dataclasses.replace(MACHINE, nics=tuple(Nic(f"50:6b:8d:00:00:{n:02x}") for n in range(11)))
    definition = VMX.write(machine, files_of(machine, "vmdk"), MAPPED)

    assert "ethernet9.present" in parsed(definition.text)
    assert any("50:6b:8d:00:00:0a is left out" in loss for loss in definition.losses)


def test_the_name_and_the_uuid_of_a_test_are_its_own() -> None:
    values = written(MACHINE, DefinitionOptions(name="db01-test", uuid=DATA))

    assert values["displayName"] == "db01-test"
    assert UUID[:2] not in values["uuid.bios"][:11]

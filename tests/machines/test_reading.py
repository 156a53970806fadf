"""A VM as v3 and v4 tell it becomes the same machine, and whatever is told, reading it ends with a machine."""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntxengine.errors import PrismAnswerError
from ntxengine.machines import WRITERS, BootEntry, Cpu, DefinitionOptions, Disk, Machine, Nic, read_machine
from ntxengine.prism import models
from ntxengine.sim.config import DiskConfig
from ntxengine.sim.hardware import HardwareConfig, NicConfig, network_id
from ntxengine.units import GIB, MIB
from tests.machines.entities import DATA, MAC, SYSTEM, UUID, files_of, told

FULL = HardwareConfig(
    sockets=2,
    cores=4,
    threads=2,
    memory=8 * GIB,
    cpu_passthrough=True,
    nested=True,
    numa_nodes=2,
    firmware="secure_boot",
    machine_type="Q35",
    vtpm=True,
    time_zone="Europe/Berlin",
    console=False,
    nics=[
        NicConfig("VLAN10", MAC, queues=4),
        NicConfig("VLAN20", "50-6B-8D-00-00-02", model="E1000", connected=False, trunk=True),
    ],
    boot_order=["CDROM", "DISK", "NETWORK"],
    serial_ports=[0, 2],
    gpus=["A40-2Q"],
    description="of the\naccounts",
)

# A disk of the recorded VM of a cluster (AOS 7.3), and what v4 told of it besides.
RECORDED: dict[str, Any] = {
    "$objectType": "vmm.v4.ahv.config.Vm",
    "extId": UUID,
    "name": "rhel",
    "numSockets": 1,
    "numCoresPerSocket": 1,
    "memorySizeBytes": 4 * GIB,
    "bootConfig": {"$objectType": "vmm.v4.ahv.config.UefiBoot", "isSecureBootEnabled": True},
    "vtpmConfig": {"isVtpmEnabled": False},
    "nics": [
        {
            "backingInfo": {"$objectType": "vmm.v4.ahv.config.EmulatedNic", "macAddress": MAC},
            "networkInfo": {"subnet": {"extId": DATA}},
        }
    ],
    "disks": [
        {
            "extId": SYSTEM,
            "backingInfo": {"diskExtId": SYSTEM, "diskSizeBytes": 100 * GIB},
            "diskAddress": {"busType": "SCSI", "index": 0},
        }
    ],
    "cdRoms": None,
}


def changed(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return an entity with another value at `a.b.0.c`."""
    result = copy.deepcopy(config)
    *way, last = path.split(".")
    place: Any = result
    for key in way:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[int(last) if isinstance(place, list) else last] = value
    return result


@pytest.mark.parametrize("family", ["v3", "v4"])
def test_all_that_is_told_is_read(family: str, tmp_path: Path) -> None:
    machine = read_machine(told(tmp_path, family, FULL))

    assert dataclasses.replace(machine, disks=(), losses=(), nics=(), hardware_uuid="") == Machine(
        uuid=UUID,
        name="db01",
        cpu=Cpu(2, 4, 2, is_passed_through=True, is_nested=True),
        memory=8 * GIB,
        firmware="uefi",
        is_secure_boot=True,
        has_own_nvram=True,
        has_tpm=True,
        machine_type="q35",
        boot_order=(BootEntry("cdrom"), BootEntry("disk"), BootEntry("network")),
        time_zone="Europe/Berlin",
        serial_ports=(0, 2),
        has_console=False,
        guest_os="linux:64:Debian GNU/Linux 12",
        description="of the\naccounts",
    )
    name = "VLAN{}" if family == "v3" else ""
    assert machine.nics == (
        Nic(MAC, "virtio", name.format(10), network_id("VLAN10"), queues=4),
        Nic("50:6b:8d:00:00:02", "e1000", name.format(20), network_id("VLAN20"), is_connected=False),
    )
    assert [(disk.label, disk.size) for disk in machine.disks] == [("ide.0", 2 * MIB), ("scsi.0", MIB)]
    for word in ("CD-ROM", "trunk", "GPU", "vNUMA"):
        assert any(word in loss for loss in machine.losses), word


def test_both_families_tell_the_same_machine(tmp_path: Path) -> None:
    machines = [
        read_machine(told(tmp_path / family, family, FULL))
        for family in ("v3", "v4")
        if not (tmp_path / family).mkdir()
    ]

    bare = [
        dataclasses.replace(
            machine,
            losses=(),
            hardware_uuid="",
            disks=tuple(dataclasses.replace(disk, id="") for disk in machine.disks),
            nics=tuple(dataclasses.replace(nic, network="") for nic in machine.nics),
        )
        for machine in machines
    ]
    assert bare[0] == bare[1]


def test_a_recorded_vm_is_read() -> None:
    machine = read_machine(RECORDED)

    assert machine.disks == (Disk(SYSTEM, "scsi", 0, 100 * GIB),)
    assert machine.nics == (Nic(MAC, network_id=DATA),)
    assert (machine.firmware, machine.is_secure_boot, machine.has_tpm) == ("uefi", True, False)
    assert machine.losses == ()


@pytest.mark.parametrize("family", ["v3", "v4"])
@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_the_firmware_is_read(family: str, firmware: str, tmp_path: Path) -> None:
    hardware = HardwareConfig(firmware="bios" if firmware == "bios" else "uefi")

    machine = read_machine(told(tmp_path, family, hardware))

    assert (machine.firmware, machine.is_secure_boot) == (firmware, False)


@pytest.mark.parametrize("family", ["v3", "v4"])
def test_the_disk_to_boot_from_is_named_by_its_id(family: str, tmp_path: Path) -> None:
    machine = read_machine(told(tmp_path, family, HardwareConfig(boot_disk="ide.0")))

    assert machine.boot_order == (BootEntry("disk", disk_id=machine.disks[0].id),)


@pytest.mark.parametrize("family", ["v3", "v4"])
def test_a_card_to_boot_from_is_named_by_its_address(family: str, tmp_path: Path) -> None:
    machine = read_machine(told(tmp_path, family, HardwareConfig(nics=[NicConfig(mac=MAC)], boot_mac=MAC)))

    assert machine.boot_order == (BootEntry("network", mac=MAC),)


def test_what_to_boot_from_and_is_not_there_is_told() -> None:
    device = {"diskAddress": {"busType": "SCSI", "index": 5}, "macAddress": "50:6b:8d:00:00:01"}

    machine = read_machine(changed(RECORDED, "bootConfig.bootDevice", device))

    assert machine.boot_order == ()
    assert sum("boots from" in loss for loss in machine.losses) == 2


@pytest.mark.parametrize(
    ("kind", "count", "word"),
    [("VirtualEthernetNic", 1, None), ("SriovNic", 1, "SR-IOV"), ("PciePassthroughNic", 0, "passed through")],
)
def test_cards_of_the_host_become_ordinary_or_are_lost(kind: Any, count: int, word: str | None, tmp_path: Path) -> None:
    machine = read_machine(told(tmp_path, "v4", HardwareConfig(nics=[NicConfig(mac=MAC, kind=kind)])))

    assert len(machine.nics) == count
    assert word is None or any(word in loss for loss in machine.losses)


def test_a_network_is_named_where_its_name_is_known() -> None:
    machine = read_machine(RECORDED, network_names={DATA: "VLAN10"})

    assert machine.nics[0].network == "VLAN10"


# -- disks that are copied


def disk_of(disk_id: str, index: int = 0, size: int = 100 * GIB, group: str = "") -> models.Disk:
    place = models.DiskGroup(DATA, group) if group else None
    return models.Disk(disk_id, size, "SCSI", index, "", group=place)


def test_only_disks_that_are_copied_are_carried_over() -> None:
    config = changed(
        RECORDED, "disks", RECORDED["disks"] + [changed(RECORDED, "disks.0.backingInfo.diskExtId", DATA)["disks"][0]]
    )
    config = changed(config, "disks.1.diskAddress.index", 1)

    machine = read_machine(config, [disk_of(SYSTEM.upper())])

    assert [disk.id for disk in machine.disks] == [SYSTEM.upper()]
    assert machine.losses == ("disk scsi.1 is not copied, and the new machine is without it",)


def test_disks_of_a_volume_group_have_its_place() -> None:
    slot = {"diskAddress": {"busType": "SCSI", "index": 3}, "backingInfo": {"volumeGroupExtId": DATA}}
    config = changed(RECORDED, "disks", [*RECORDED["disks"], slot])

    with_group = read_machine(config, [disk_of(SYSTEM), disk_of("a", 1, MIB, "db"), disk_of("b", 0, MIB, "db")])
    without = read_machine(config, [disk_of(SYSTEM)])

    assert [(disk.label, disk.index, disk.unit) for disk in with_group.disks] == [
        ("scsi.0", 0, 0),
        ("vg:db.0", 3, 0),
        ("vg:db.1", 3, 1),
    ]
    assert with_group.losses == ()
    assert without.losses == (f"the volume group {DATA} at scsi.3 is not copied, and the new machine is without it",)


def test_the_size_that_is_copied_counts() -> None:
    assert read_machine(RECORDED, [disk_of(SYSTEM, size=MIB)]).disks[0].size == MIB


def test_a_disk_that_the_entity_does_not_have_is_told() -> None:
    machine = read_machine(RECORDED, [disk_of(DATA)])

    assert machine.disks == ()
    assert any(DATA in loss for loss in machine.losses)


def test_sectors_are_those_that_the_disk_has() -> None:
    machine = read_machine(RECORDED, sector_sizes={SYSTEM: 4096})
    odd = read_machine(RECORDED, sector_sizes={SYSTEM: 77})

    assert machine.disks[0].sector_size == 4096
    assert (odd.disks[0].sector_size, len(odd.losses)) == (512, 1)


# -- what cannot be


@dataclass(frozen=True)
class Odd:
    """A value that cannot be, and what stands in its place."""

    path: str
    value: Any
    field: str
    taken: Any


ODD = [
    Odd("memorySizeBytes", "4G", "memory", GIB),
    Odd("memorySizeBytes", -1, "memory", GIB),
    Odd("memorySizeBytes", 2**80, "memory", GIB),
    Odd("memorySizeBytes", True, "memory", GIB),
    Odd("memorySizeBytes", 4e9, "memory", GIB),
    Odd("numSockets", 0, "cpu", Cpu()),
    Odd("numCoresPerSocket", [1], "cpu", Cpu()),
    Odd("machineType", "MAINFRAME", "machine_type", "pc"),
    Odd("machineType", {}, "machine_type", "pc"),
    Odd("hardwareClockTimezone", "Europe/\nBerlin", "time_zone", "UTC"),
    Odd("hardwareClockTimezone", "../../etc/passwd", "time_zone", "UTC"),
    Odd("biosUuid", "<uuid>", "hardware_uuid", ""),
    Odd("nics", "none", "nics", ()),
    Odd("nics.0.backingInfo.macAddress", "51:6b:8d:bb:91:08", "nics", (Nic(network_id=DATA),)),
    Odd("nics.0.backingInfo.macAddress", "50:6b:8d:bb:91:08\n", "nics", (Nic(network_id=DATA),)),
    Odd("nics.0.backingInfo.macAddress", "00:00:00:00:00:00", "nics", (Nic(network_id=DATA),)),
    Odd("nics.0.backingInfo.macAddress", 5, "nics", (Nic(network_id=DATA),)),
    Odd("nics.0.backingInfo", None, "nics", (Nic(network_id=DATA),)),
    Odd("nics.0.networkInfo.subnet", 7, "nics", (Nic(MAC),)),
    Odd("nics.0", None, "nics", ()),
    Odd("disks.0.backingInfo.diskSizeBytes", None, "disks", ()),
    Odd("disks.0.backingInfo.diskSizeBytes", -5, "disks", ()),
    Odd("disks.0.backingInfo.diskSizeBytes", 2**70, "disks", ()),
    Odd("disks.0.diskAddress.index", 4000, "disks", (Disk(SYSTEM, "scsi", 0, 100 * GIB),)),
    Odd("disks.0.diskAddress.busType", "FLOPPY", "disks", (Disk(SYSTEM, "scsi", 0, 100 * GIB),)),
    Odd("disks", {}, "disks", ()),
    Odd("bootConfig", "UEFI", "firmware", "bios"),
    Odd("bootConfig.$objectType", "vmm.v4.ahv.config.OpenFirmware", "firmware", "uefi"),
    Odd("bootConfig.bootOrder", ["DISK", 7], "boot_order", (BootEntry("disk"),)),
    Odd("bootConfig.bootOrder", "DISK", "boot_order", ()),
    Odd("vtpmConfig.isVtpmEnabled", "yes", "has_tpm", False),
    Odd("name", None, "name", UUID),
    Odd("name", " \n", "name", UUID),
    Odd("name", 7, "name", UUID),
    Odd("description", ["x"], "description", ""),
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: f"{odd.path}={odd.value!r}"[:50])
def test_what_cannot_be_is_told_and_gives_way(odd: Odd) -> None:
    config = changed(RECORDED, odd.path, odd.value)

    machine = read_machine(config)

    assert getattr(machine, odd.field) == odd.taken
    optional = ("nics.0.backingInfo", "name")
    assert machine.losses or (odd.value is None and odd.path in optional)


@pytest.mark.parametrize(
    "config", [{}, {"name": "x"}, {"extId": None}, {"extId": "../x"}, {"status": {}}, {"metadata": 5}]
)
def test_what_is_no_vm_is_an_error(config: dict[str, Any]) -> None:
    with pytest.raises(PrismAnswerError):
        read_machine(config)


def test_thousands_of_cards_are_not_all_looked_at() -> None:
    machine = read_machine(changed(RECORDED, "nics", RECORDED["nics"] * 5000))

    assert len(machine.nics) == 512
    assert any("5000 nics" in loss for loss in machine.losses)


def test_every_loss_is_one_bounded_line(tmp_path: Path) -> None:
    config = changed(RECORDED, "machineType", "x\n\x1b[31m" * 10_000)
    config = changed(config, "nics.0.backingInfo.macAddress", {"a": "b\n" * 1000})

    machine = read_machine(config)

    assert len(machine.losses) == 2
    assert all(loss.isprintable() and len(loss) < 300 for loss in machine.losses)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: str = "") -> list[str]:
    """Return the paths of all that is in an entity."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    for key, inner in pairs:
        found += places(inner, f"{path}.{key}" if path else str(key))
    return found


@pytest.fixture(scope="module")
def entities(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("told")
    disks = [DiskConfig(folder / f"{bus}.raw", size=MIB, bus=bus) for bus in ("scsi", "pci", "ide", "sata")]
    made = []
    for family in ("v3", "v4"):
        (folder / family).mkdir()
        made.append(json.loads(json.dumps(told(folder / family, family, FULL, disks))))
    return made


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_gives_a_machine_that_can_be_written(
    data: st.DataObject, entities: list[dict[str, Any]]
) -> None:
    config = data.draw(st.sampled_from(entities))
    keep = ("extId", "metadata", "status")
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([place for place in places(config) if place not in keep]))
        config = changed(config, path, data.draw(JSON))

    try:
        machine = read_machine(config)
    except PrismAnswerError:
        return

    assert all(loss.isprintable() for loss in machine.losses)
    if machine.machine_type != "pseries" and all(disk.bus != "spapr" for disk in machine.disks):
        for name, one in WRITERS.items():
            files = files_of(machine, "vmdk" if name != "libvirt" else "raw")
            assert one.write(machine, files, DefinitionOptions()).text

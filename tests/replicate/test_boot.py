"""A machine boots from its replica, in each format, and says the digest of what the guest wrote last."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.demo.bootable import Firmware, check_tools
from ntxengine.sim import SimConfig
from tests.capture.lab import Lab, make_config
from tests.replicate.replicating import Replicating
from tests.support.booting import BootableDisk, GuestDisk, assert_boots, make_bootable, make_linux

PROOF = 300_000
FORMS = {
    "raw": ("kvm", "raw"),
    "qcow2": ("kvm", "qcow2"),
    "vmfs": ("vmware", "vmfs"),
    "flat": ("vmware", "flat"),
    "ova": ("ovf", ""),
    "vhd": ("vhd", ""),
}
SYSTEMS: dict[str, tuple[Callable[[Path, Firmware, bytes], BootableDisk], Firmware]] = {
    "grub-bios": (make_bootable, "bios"),
    "grub-uefi": (make_bootable, "uefi"),
    "linux-bios": (make_linux, "bios"),
    "linux-uefi": (make_linux, "uefi"),
}


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest, tmp_path: Path) -> BootableDisk:
    """The system disk of the guest."""
    check_tools()
    make, firmware = SYSTEMS[request.param]
    return make(tmp_path / "system.raw", firmware, os.urandom(PROOF))


@pytest.fixture
def config(system: BootableDisk, tmp_path: Path) -> SimConfig:
    found = make_config(tmp_path / "disks")
    found.vms[0].disks[0].path = system.path
    return found


def image_of(following: Replicating, folder: Path) -> GuestDisk:
    """Return the image of the system disk, as a person would give it to a machine."""
    (disk,) = (each for each in following.replica.disks if each.label == "scsi.0")
    name, target = disk.files[0].name, following.target
    if target.kind == "ovf":
        subprocess.run(["tar", "xf", following.folder() / following.replica.definition, "-C", folder, name], check=True)
        return GuestDisk(folder / name, "vmdk")
    if target.kind == "vmware":
        return GuestDisk(following.folder() / f"{name.removesuffix('-flat.vmdk')}.vmdk", "vmdk")
    return GuestDisk(following.folder() / name, "vpc" if target.kind == "vhd" else target.form)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_machine_boots_from_its_replica(system: BootableDisk, v4_lab: Lab, tmp_path: Path) -> None:
    following = []
    for name, (kind, form) in FORMS.items():
        (tmp_path / name).mkdir()
        following.append(Replicating(v4_lab, f"{kind}:{tmp_path / name}", form))
        if following[-1].target.follows:
            await following[-1].run()
    with v4_lab.sim.disk_lock:
        written = system.write_proof(os.urandom(PROOF))
    (tmp_path / "out").mkdir()

    for each in following:
        await each.run()

    assert written.digest != system.digest
    for each in following:
        assert_boots(written, image_of(each, tmp_path / "out"))

"""A machine boots from its replica, in each format, and says the digest of what the guest wrote last."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.concurrency.parallel import map_limited
from ntxengine.demo.bootable import Firmware, check_tools
from ntxengine.sim import SimConfig
from tests.capture.lab import Lab, make_config
from tests.replicate.replicating import Replicating
from tests.support.booting import BootableDisk, GuestDisk, assert_boots, make_bootable, make_linux

PROOF = 300_000
AT_ONCE = 2
FORMS = {
    "raw": ("kvm", "raw"),
    "qcow2": ("kvm", "qcow2"),
    "vmfs": ("vmware", "vmfs"),
    "flat": ("vmware", "flat"),
    "ova": ("ovf", ""),
    "vhd": ("vhd", ""),
}
Make = Callable[[Path, Firmware, bytes], BootableDisk]
SYSTEMS: dict[str, tuple[Make, Firmware, list[str]]] = {
    "grub-bios": (make_bootable, "bios", ["raw", "qcow2", "vmfs", "flat", "ova", "vhd"]),
    "linux-bios": (make_linux, "bios", ["raw", "qcow2", "vmfs", "ova", "vhd"]),
    "linux-uefi": (make_linux, "uefi", ["raw", "qcow2", "vmfs", "vhd"]),
}
"""Which formats each system boots from: GRUB alone takes a second, Linux by UEFI ten."""


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest, tmp_path: Path) -> BootableDisk:
    """The system disk of the guest."""
    check_tools()
    make, firmware, _ = SYSTEMS[request.param]
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


@pytest.fixture
def forms(request: pytest.FixtureRequest) -> list[str]:
    return SYSTEMS[request.node.callspec.params["system"]][2]


@pytest.mark.slow
async def test_machine_boots_from_its_replica(
    system: BootableDisk, forms: list[str], v4_lab: Lab, tmp_path: Path
) -> None:
    following = []
    for name in forms:
        kind, form = FORMS[name]
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
    images = [image_of(each, tmp_path / "out") for each in following]
    await map_limited(images, lambda image: asyncio.to_thread(assert_boots, written, image), at_once=AT_ONCE)

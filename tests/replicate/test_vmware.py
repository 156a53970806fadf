"""`vmware:DIR`: descriptors, VMX and OVF, read by programs that know them; the bytes are in test_cycles.py."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

from ntxengine.errors import OptionsError
from ntxengine.images.vmdk import FLAT_KINDS
from ntxengine.machines import DefinitionOptions, NetworkMap
from ntxengine.replicate.isolated import make_isolated_copy
from ntxengine.replicate.targets import target_of
from ntxengine.replicate.targets.base import Named, TargetDisk
from ntxengine.replicate.targets.vmware import descriptor_of
from ntxengine.sim.config import DiskConfig
from ntxengine.units import TIB
from tests.capture.lab import MIB, Lab
from tests.machines.judges import libvirt_reads_vmx, xml_is_well_formed
from tests.replicate.replicating import Replicating
from tests.support.vmdk import libvmdk_reads, qemu_info


def descriptors(following: Replicating) -> list[Path]:
    names = [disk.files[0].name.removesuffix("-flat.vmdk") for disk in following.replica.disks]
    return [following.folder() / f"{name}.vmdk" for name in names]


@pytest.mark.parametrize("form", FLAT_KINDS)
async def test_datastore_is_what_others_read(v4_lab: Lab, tmp_path: Path, form: str) -> None:
    (tmp_path / "datastore").mkdir()
    following = Replicating(v4_lab, f"vmware:{tmp_path / 'datastore'}", form)

    await following.run()

    following.assert_equal()
    for descriptor, disk, guest in zip(descriptors(following), following.replica.disks, v4_lab.guest(), strict=True):
        assert hashlib.sha256(libvmdk_reads(descriptor)).digest() == hashlib.sha256(guest).digest()
        (sectors,) = re.findall(r"^RW (\d+) ", descriptor.read_text(), re.MULTILINE)
        assert int(sectors) * 512 == len(guest) == (following.folder() / disk.files[0].name).stat().st_size
    vmx = following.folder() / following.replica.definition
    domain = libvirt_reads_vmx(vmx.read_text(), tmp_path)
    named = {str(source.get("file")) for source in domain.findall("devices/disk/source")}
    assert named == {path.name for path in descriptors(following)}
    ovf = vmx.with_suffix(".ovf")
    xml_is_well_formed(ovf.read_text(), tmp_path)
    hrefs = re.findall(r'ovf:href="([^"]+)"', ovf.read_text())
    assert sorted(hrefs) == sorted(named)


async def test_content_id_is_another_for_each_generation(vmware: Replicating) -> None:
    await vmware.run()
    first = [qemu_info(path, "vmdk")["format-specific"]["data"]["cid"] for path in descriptors(vmware)]
    vmware.lab.write(0, 0, os.urandom(4096))

    await vmware.run()

    second = [qemu_info(path, "vmdk")["format-specific"]["data"]["cid"] for path in descriptors(vmware)]
    assert not set(first) & set(second)
    assert 0xFFFFFFFF not in second


async def test_isolated_copy_is_a_machine_of_vmware_without_a_network(vmware: Replicating, tmp_path: Path) -> None:
    lab = vmware.lab
    await vmware.run()
    frozen = lab.guest()
    lab.write(0, 0, os.urandom(4096))

    copy = await make_isolated_copy(lab.repository, await lab.prism.vm(lab.vm_id), vmware.target)

    assert copy.definition.suffix == ".vmx"
    domain = libvirt_reads_vmx(copy.definition.read_text(), tmp_path)
    assert domain.findtext("name") == copy.name != "db01"
    assert 'startConnected = "TRUE"' not in copy.definition.read_text()
    for path, data in zip((copy.files[label] for label in sorted(copy.files)), frozen, strict=True):
        descriptor = path.with_name(descriptor_of(path.name))
        assert hashlib.sha256(libvmdk_reads(descriptor)).digest() == hashlib.sha256(data).digest()


async def test_removed_disk_goes_with_its_descriptor_and_nothing_of_esxi_does(vmware: Replicating) -> None:
    lab = vmware.lab
    disks = lab.sim.config.vms[0].disks
    added = disks[0].path.with_name("added.raw")
    added.write_bytes(os.urandom(MIB))
    disks.append(DiskConfig(added))
    lab.reconfigure()
    await vmware.run()
    foreign = [
        vmware.folder() / name
        for name in ("scsi.0-01234567-000001.vmdk", "scsi.0-01234567-000001-sesparse.vmdk", "vmware.log", "db01.nvram")
    ]
    for path in foreign:
        path.write_bytes(b"of ESXi")
    disks.pop()
    lab.reconfigure()

    await vmware.run()

    assert all(path.exists() for path in foreign)
    left = sorted(path.name for path in vmware.folder().glob("scsi.2*"))
    assert left == []
    vmware.assert_equal()


async def test_disk_that_no_vmdk_holds_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    named = Named("0" * 36, "db01", "db01-00000000", "0" * 12, "state")
    disks = [TargetDisk("1" * 36, "scsi.0", MIB), TargetDisk("2" * 36, "scsi.1", 62 * TIB + 512)]

    for kind in ("vmware", "ovf"):
        with pytest.raises(OptionsError, match=rf"{kind}:.* disk scsi\.1 .* up to 62\.0 TiB"):
            await target_of(f"{kind}:{tmp_path}").check(named, disks)

    assert list(tmp_path.iterdir()) == []


async def test_bridge_of_kvm_is_refused(v4_lab: Lab, tmp_path: Path) -> None:
    networks = DefinitionOptions(networks=NetworkMap.parse(["*=bridge:br0"]))
    following = Replicating(v4_lab, f"vmware:{tmp_path}", definition=networks)

    with pytest.raises(OptionsError, match="VMware knows port groups"):
        await following.run()


async def test_target_that_is_no_folder_or_an_unknown_format_is_refused(v4_lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OptionsError, match="is no folder"):
        await Replicating(v4_lab, f"vmware:{tmp_path / 'file'}").run()
    with pytest.raises(OptionsError, match="such a target keeps vmfs or flat"):
        await Replicating(v4_lab, f"vmware:{tmp_path}", "qcow2").run()

"""`ovf:DIR` and `vhd:DIR`: a whole copy each time, beside the one before; nothing stays on the cluster."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.errors import NtxError, OptionsError, TargetError
from ntxengine.events import Progressed, Stage
from ntxengine.replicate.cutover import cut_over
from ntxengine.replicate.isolated import make_isolated_copy
from ntxengine.replicate.status import find_replica
from ntxengine.replicate.targets import target_of
from ntxengine.replicate.verify import verify_replica
from ntxengine.units import GIB
from tests.capture.lab import MIB, Lab, Witness
from tests.machines.entities import MACHINE
from tests.replicate.replicating import Replicating
from tests.replicate.test_must_hold import die
from tests.support.vmdk import libvmdk_reads, qemu_info

KINDS = ["ovf", "vhd"]


@pytest.fixture(params=KINDS)
def once(request: pytest.FixtureRequest, v4_lab: Lab, tmp_path: Path) -> Replicating:
    (tmp_path / request.param).mkdir()
    return Replicating(v4_lab, f"{request.param}:{tmp_path / request.param}")


def held(once: Replicating, folder: Path) -> list[bytes]:
    """Return what others read of the disks, without what is behind the bytes of the VM."""
    disks = sorted(once.replica.disks, key=lambda disk: disk.label)
    if once.target.kind == "ovf":
        folder.mkdir(exist_ok=True)
        subprocess.run(["tar", "xf", once.folder() / once.replica.definition, "-C", folder], check=True)
        return [libvmdk_reads(folder / disk.files[0].name) for disk in disks]
    found = []
    for disk in disks:
        path = once.folder() / disk.files[0].name
        subprocess.run(["qemu-img", "convert", "-f", "vpc", "-O", "raw", path, folder], check=True)
        data = folder.read_bytes()
        assert len(data) == qemu_info(path, "vpc")["virtual-size"] == path.stat().st_size - 512
        assert len(data) % MIB == 0
        assert not any(data[disk.size :])
        found.append(data[: disk.size])
    return found


def files_of(once: Replicating) -> set[str]:
    return {path.name for path in once.folder().iterdir() if path.name != ".ntx-replica.json"}


async def test_each_run_makes_a_whole_copy_and_keeps_nothing_on_the_cluster(once: Replicating, tmp_path: Path) -> None:
    lab = once.lab
    first = await once.run()
    assert held(once, tmp_path / "read") == lab.guest()
    lab.write(0, MIB, os.urandom(65536))
    lab.zero(0, 4 * MIB, MIB)

    second = await once.run()

    assert held(once, tmp_path / "read") == lab.guest()
    assert (first.replica.generation, second.replica.generation) == (1, 2)
    assert second.reference_reason.startswith("a whole copy is made each time")
    assert lab.recovery_points() == []
    assert once.dead is None
    names = {disk.files[0].name for disk in once.replica.disks} if once.target.kind == "vhd" else set()
    assert files_of(once) == names | ({once.replica.definition} if once.target.kind == "ovf" else set())


@pytest.mark.parametrize("stage", [Stage.COPY, Stage.VERIFY, Stage.COMMIT])
async def test_copy_that_was_there_stays_until_the_new_one_is_whole(
    once: Replicating, tmp_path: Path, stage: Stage
) -> None:
    lab = once.lab
    await once.run()
    before = lab.guest()
    lab.write(0, MIB, os.urandom(65536))

    await die(once, stage)

    assert held(once, tmp_path / "read") == before
    once.make_witness = Witness
    await once.run()
    assert held(once, tmp_path / "read") == lab.guest()
    assert not [name for name in files_of(once) if name.endswith(".next")]


async def test_disk_that_a_person_took_out_of_the_copy_stays(once: Replicating) -> None:
    await once.run()
    lab = once.lab
    name = once.replica.disks[1].files[0].name
    mine = once.folder() / (name if once.target.kind == "ovf" else "scsi.1-20261130.vhd")
    mine.write_bytes(b"mine")
    lab.sim.config.vms[0].disks.pop()
    lab.reconfigure()

    await once.run()

    assert mine.read_bytes() == b"mine"
    assert once.target.kind == "ovf" or not (once.folder() / name).exists()


async def test_copy_can_be_verified_and_what_is_wrong_with_it_is_found(once: Replicating) -> None:
    await once.run()
    state = once.lab.repository
    name = once.replica.id
    verdict = await verify_replica(state, await find_replica(state, name), once.target)
    assert verdict.is_right
    is_ova = once.target.kind == "ovf"
    path = once.folder() / (once.replica.definition if is_ova else once.replica.disks[0].files[0].name)
    data = bytearray(path.read_bytes())
    at = len(data) // 2 if is_ova else MIB // 2
    data[at : at + 4096] = os.urandom(4096)
    path.write_bytes(data)

    again = verify_replica(state, await find_replica(state, name), once.target)
    if is_ova:  # a grain that cannot be inflated is an error of reading
        with pytest.raises(NtxError, match=re.escape(path.name)):
            await again
    else:
        assert not (await again).is_right


async def test_isolated_copy_is_of_the_bytes_of_the_vm_alone(once: Replicating) -> None:
    lab = once.lab
    await once.run()

    copy = await make_isolated_copy(lab.repository, await lab.prism.vm(lab.vm_id), once.target)

    assert [copy.files[label].read_bytes() for label in sorted(copy.files)] == lab.guest()


async def test_manifest_and_envelope_of_an_ova_are_of_what_is_in_it(v4_lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "ovf").mkdir()
    once = Replicating(v4_lab, f"ovf:{tmp_path / 'ovf'}")

    await once.run()

    held(once, tmp_path / "out")
    (manifest,) = (tmp_path / "out").glob("*.mf")
    lines = manifest.read_text().splitlines()
    assert len(lines) == 3
    for line in lines:
        name, _, digest = line.removeprefix("SHA256(").partition(")= ")
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest
    envelope = manifest.with_suffix(".ovf").read_text()
    for disk in once.replica.disks:
        name = disk.files[0].name
        size = (tmp_path / "out" / name).stat().st_size
        assert f'ovf:href="{name}" ovf:size="{size}"' in envelope
        assert f'ovf:capacity="{disk.size}"' in envelope


async def test_it_is_told_how_far_the_ova_is(v4_lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "ovf").mkdir()
    once = Replicating(v4_lab, f"ovf:{tmp_path / 'ovf'}")

    await once.run()

    told = [each for each in once.witness.events if isinstance(each, Progressed) and each.stage is Stage.PACK]
    whole = sum(disk.size for disk in once.replica.disks)
    assert told[-1].bytes_done == told[-1].bytes_total == whole
    assert [each.bytes_done for each in told] == sorted(each.bytes_done for each in told)


async def test_rounded_size_is_said(v4_lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "vhd").mkdir()
    once = Replicating(v4_lab, f"vhd:{tmp_path / 'vhd'}")

    cycle = await once.run()

    assert any("3146240 bytes, and 4194304 in its VHD" in text for text in cycle.warnings)
    assert any("a VHD describes no machine: make one with" in text for text in cycle.replica.not_carried_over)


async def test_disk_that_no_vhd_holds_is_refused_before_anything_is_made(v4_lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "vhd").mkdir()
    once = Replicating(v4_lab, f"vhd:{tmp_path / 'vhd'}")
    v4_lab.resize(1, 2040 * GIB + 512)

    with pytest.raises(OptionsError, match="a VHD at most"):
        await once.run()

    assert list((tmp_path / "vhd").iterdir()) == []
    assert v4_lab.recovery_points() == []


async def test_full_file_system_is_said_before_anything_is_written(
    v4_lab: Lab, small_fs: Callable[[str], Path]
) -> None:
    for kind in KINDS:
        once = Replicating(v4_lab, f"{kind}:{small_fs('2M')}")

        with pytest.raises(TargetError, match="free some space"):
            await once.run()

        assert v4_lab.recovery_points() == []


def test_sectors_of_4096_bytes_are_refused(tmp_path: Path) -> None:
    machine = dataclasses.replace(MACHINE, disks=(dataclasses.replace(MACHINE.disks[0], sector_size=4096),))

    for kind in ("vhd", "ovf", "vmware"):
        with pytest.raises(OptionsError, match="4096 bytes"):
            target_of(f"{kind}:{tmp_path}").check_machine(machine)


async def test_nothing_can_be_cut_over_to(once: Replicating) -> None:
    await once.run()
    lab = once.lab

    with pytest.raises(OptionsError, match="follows nothing"):
        await cut_over(lab.prism, lab.repository, await lab.prism.vm(lab.vm_id), once.target, attacher=lab.attacher)

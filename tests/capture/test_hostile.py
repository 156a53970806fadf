"""What people call their VMs, disks that look alike, a full disk: the right bytes in the right file, or a clear no."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.errors import NtxError, OptionsError
from ntxengine.images.endpoints import check_source
from ntxengine.images.named import chain_of
from ntxengine.repository import Repository
from ntxengine.restore import RestoreOptions, restore
from ntxengine.sim import Simulator
from ntxengine.sim.config import DiskConfig
from ntxengine.sweep import sweep
from ntxengine.verify import verify_point
from tests.capture.lab import MIB, SYSTEM_SIZE, Lab, open_lab
from tests.support.servers import qemu_img


def others(folder: Path) -> set[Path]:
    """Return all that is in a test's folder beside the cluster and the repository."""
    own = (folder / "cluster", folder / "repository")
    return {path for path in folder.rglob("*") if not any(path.is_relative_to(top) for top in own)}


@pytest.mark.parametrize("name", ["../../etc/passwd", "two\nlines", "ä" * 255, "-rf", "$(id)"], ids=range(5))
async def test_the_name_of_a_vm_is_only_a_name(name: str, v4_lab: Lab, tmp_path: Path) -> None:
    lab = v4_lab
    vm = lab.sim.config.vms[0]
    vm.id, vm.name = lab.vm_id, name
    lab.reconfigure()
    before = others(tmp_path)

    first = await lab.capture()
    lab.write(0, 0, os.urandom(512))
    second = await lab.capture()

    assert (first.vm_name, second.vm_name) == (name, name)
    assert lab.stored(second) == lab.guest()
    assert others(tmp_path) == before
    made = {path.name for path in (lab.repository.path / lab.vm_id).iterdir()}
    assert made == {first.id, second.id, f".cluster-{second.id}.json", ".lock"}


async def test_a_guest_that_writes_the_header_of_an_image_is_captured_as_it_is(lab: Lab, tmp_path: Path) -> None:
    header = tmp_path / "header"
    # An image of a guest's own that says: below me is a file of the machine that reads me.
    qemu_img("create", "-q", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", str(header), "1M")
    lab.write(0, 0, header.read_bytes())
    await lab.capture()
    lab.write(1, 0, header.read_bytes())

    point = await lab.capture()
    await verify_point(lab.repository, point)
    restored = await restore(lab.repository, point, tmp_path / "restored", options=RestoreOptions(verify=True))

    assert point.kind == "incremental"
    assert lab.stored(point) == lab.guest()
    assert [disk.path.read_bytes() for disk in restored.disks] == lab.guest()
    for disk in restored.disks:
        with pytest.raises(OptionsError, match="looks like an image in qcow2 format"):
            check_source(str(disk.path), None)
        with pytest.raises(OptionsError, match="does not lie beside"):
            chain_of(disk.path)


async def test_disks_of_equal_size_are_not_mixed_up(lab: Lab, tmp_path: Path) -> None:
    disks = lab.sim.config.vms[0].disks
    disks += [DiskConfig(tmp_path / f"disks/twin{number}.raw", size=SYSTEM_SIZE) for number in range(2)]
    lab.reconfigure()
    for number in range(len(disks)):
        lab.write(number, 65536, f"I am disk {number}".encode())

    first = await lab.capture()
    for number in range(len(disks)):
        lab.write(number, 262144, f"still disk {number}".encode())
    second = await lab.capture()

    assert lab.stored(second) == lab.guest()
    assert len({disk.digest for disk in first.disks}) == len(disks)


async def test_a_point_of_the_other_api_is_no_reference_and_that_is_said(
    simulator: Simulator, repository: Repository
) -> None:
    by_v4 = await open_lab(simulator, "v4", repository, attach="hot-add")
    by_v3 = await open_lab(simulator, "v3", repository, attach="mount")
    try:
        first = await by_v4.capture()
        by_v4.write(0, 0, os.urandom(512))

        second = await by_v3.capture()

        assert by_v3.stored(second) == by_v3.guest()
        assert (second.kind, second.parent_id) == ("full", None)
        assert any(first.id in text for text in by_v3.witness.warnings)
    finally:
        await by_v4.prism.aclose()
        await by_v3.prism.aclose()


async def test_a_full_target_disk_is_said_and_nothing_that_looks_whole_is_left(
    v4_lab: Lab, small_fs: Callable[[str], Path]
) -> None:
    lab = v4_lab
    lab.repository = await Repository.create(small_fs("2m") / "repository")

    with pytest.raises(NtxError, match=r"No space left on device.* has \d+ (B|KiB) of"):
        await lab.capture()

    # What a checkpoint had made safe before the room ended is kept to be gone on with.
    assert lab.points() == []
    await sweep(lab.prism, lab.repository, attach=lab.attach_options, gives_up=True)
    lab.assert_clean(points=0)


async def test_all_bytes_of_a_dense_disk_arrive_over_many_connections(v4_lab: Lab) -> None:
    lab = v4_lab
    lab.write(0, 0, os.urandom(SYSTEM_SIZE))

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    report = next(report for report in point.report.disks.values() if report.label == "scsi.0")
    assert report.bytes_sent == report.bytes_verified == SYSTEM_SIZE >= 8 * MIB

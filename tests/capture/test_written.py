"""What writes the images of a point, and whether they are compressed: every way holds what the guest held."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from ntxengine.dataplane.copy import CopyOptions
from ntxengine.images.choice import ImageOptions
from ntxengine.restore import restore
from ntxengine.verify import verify_point
from tests.capture.lab import DATA_SIZE, MIB, Lab
from tests.capture.resuming import checkpoints_often, interrupt
from tests.capture.test_workflow import change

ZSTD = ImageOptions(zstd_level=1)
QEMU = ImageOptions(writer="qemu")
SMALLER = (b"the same again, " * 65536)[:MIB]


def fill(lab: Lab) -> None:
    """Let the guest write what becomes smaller, what does not, and where its disks end."""
    lab.write(0, 2 * MIB, SMALLER)
    lab.write(0, 3 * MIB + 512, os.urandom(MIB // 2))
    lab.write(1, DATA_SIZE - 4096, SMALLER[:4096])


async def test_a_compressed_chain_holds_what_the_guest_held(
    v4_lab: Lab, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    lab = v4_lab
    caplog.set_level(logging.INFO, "ntxengine.images")
    fill(lab)
    first = await lab.capture(image=ZSTD)
    before = lab.guest()
    change(lab)
    lab.write(0, 5 * MIB, SMALLER)

    second = await lab.capture(image=ZSTD)

    assert (lab.stored(first), lab.stored(second)) == (before, lab.guest())
    lab.check_images(second)
    report = first.report.disks[first.disks[0].disk_id]
    assert (report.compression, first.disks[0].writer) == ("zstd:1", "ntx-qcow2/2")
    assert report.bytes_stored is not None
    assert report.bytes_sent is not None
    assert report.bytes_stored < report.bytes_sent - MIB // 2
    assert (report.packing_seconds or 0) >= 0
    verdict = await verify_point(lab.repository, second)
    assert verdict.is_right
    await restore(lab.repository, second, tmp_path / "restored")
    restored = sorted((tmp_path / "restored").glob("*.raw"))
    assert [path.read_bytes() for path in restored] == lab.guest()
    assert "qemu-nbd" not in caplog.text
    lab.assert_clean(points=2)


async def test_points_of_one_writer_go_on_top_of_those_of_the_other(v4_lab: Lab) -> None:
    lab = v4_lab
    held = []
    for image in (QEMU, ImageOptions(), ZSTD, QEMU, ZSTD):
        fill(lab)
        change(lab)
        point = await lab.capture(image=image)
        held.append((point, lab.guest()))

    for point, guest in held:
        assert lab.stored(point) == guest
    writers = [point.disks[0].writer for point, _ in held]
    assert writers == ["qemu-nbd", "ntx-qcow2/2", "ntx-qcow2/2", "qemu-nbd", "ntx-qcow2/2"]
    lab.check_images(held[-1][0])


@pytest.mark.parametrize("again", [False, True])
async def test_what_the_container_compresses_is_not_compressed_again_unless_asked_for(v4_lab: Lab, again: bool) -> None:
    lab = v4_lab
    for container in lab.sim.config.containers:
        container.compression = container.name == "fast"
    lab.reconfigure()
    lab.write(1, 0, SMALLER)

    point = await lab.capture(image=ZSTD, compress_again=again)

    compression = {disk.label: point.report.disks[disk.disk_id].compression for disk in point.disks}
    assert compression == {"scsi.0": "zstd:1", "scsi.1": "zstd:1" if again else ""}
    assert lab.stored(point) == lab.guest()


async def test_a_compressed_capture_goes_on(v4_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = v4_lab
    lab.write(0, 0, os.urandom(6 * MIB))
    lab.write(0, 6 * MIB, SMALLER)
    lab.write(0, MIB, SMALLER)
    checkpoints_often(monkeypatch)
    frozen = lab.guest()
    await interrupt(lab, image=ZSTD)
    lab.write(0, 0, os.urandom(MIB))

    point = await lab.capture(image=ZSTD, copy=CopyOptions())

    assert point.report.resumed == 1
    assert lab.stored(point) == frozen
    lab.check_images(point)


@pytest.mark.parametrize("gone_on", [QEMU, ZSTD])
async def test_what_was_begun_in_one_way_is_begun_anew_in_another(
    v4_lab: Lab, monkeypatch: pytest.MonkeyPatch, gone_on: ImageOptions
) -> None:
    lab = v4_lab
    lab.write(0, 0, os.urandom(6 * MIB))
    checkpoints_often(monkeypatch)
    frozen = lab.guest()
    await interrupt(lab)

    point = await lab.capture(image=gone_on, copy=CopyOptions())

    assert any("--writer" in text or "--compress" in text for text in lab.witness.warnings)
    assert (point.report.resumed, lab.stored(point)) == (0, frozen)
    lab.check_images(point)
    lab.assert_clean(points=1)

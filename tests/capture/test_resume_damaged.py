"""What an interrupted capture left is damaged: the next one makes a right point all the same, and says why it began."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ntxengine.capture.resumed_disk import open_resumed
from ntxengine.units import BLOCK_SIZE
from tests.capture.lab import MIB, Lab
from tests.capture.resuming import IS_LONG, checkpoints_often, damaged, fill, find, interrupt, write_after_freeze

KINDS = ["empty", "half", "flipped"]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints_often(monkeypatch)


def spoil(path: Path, kind: str) -> None:
    path.write_bytes(dict(damaged(path.read_bytes()))[kind])


def spoil_digest(path: Path) -> None:
    """Flip a bit of a digest that is below what is stored."""
    data = bytearray(path.read_bytes())
    data[4096 + 16 * 3] ^= 1
    path.write_bytes(data)


async def test_a_disk_of_which_a_file_is_damaged_begins_again_and_no_other(v4_lab: Lab, tmp_path: Path) -> None:
    lab = v4_lab
    fill(lab)
    frozen = lab.guest()
    unfinished = await interrupt(lab)
    write_after_freeze(lab)
    shutil.copytree(unfinished, tmp_path / "kept")

    for file in ("journal", "changes", "manifest"):
        for kind in KINDS:
            shutil.rmtree(unfinished)
            shutil.copytree(tmp_path / "kept", unfinished)
            (path,) = unfinished.glob(f"disk-*.{file}")
            if (file, kind) == ("manifest", "flipped"):
                spoil_digest(path)
            else:
                spoil(path, kind)

            opened, warnings = await reopened(lab)

            assert opened == []
            (said,) = [text for text in warnings if "is copied from its beginning again" in text]
            assert str(path) in said
            assert list(unfinished.glob("disk-*")) == []
    point = await lab.capture()

    assert point.report.resumed
    assert lab.stored(point) == frozen
    lab.check_images(point)
    lab.assert_clean(points=1)


async def reopened(lab: Lab) -> tuple[list[str], list[str]]:
    """Return the disks that would go on where they were, and what is said of the others."""
    found = await find(lab)
    assert found.resumption is not None
    resumption, opened = found.resumption, list[str]()
    async with lab.repository.lock(lab.vm_id) as lock:
        (again,) = await lab.repository.interrupted(lab.vm_id)
        unfinished = await lab.repository.reopen(lock, again, None)
        for plan in resumption.plan.disks:
            frozen = resumption.frozen.disks[plan.disk.id]
            disk = await open_resumed(unfinished, plan, frozen, warn=found.warnings.append)
            if disk is not None:
                opened.append(plan.disk.label)
                disk.close()
        unfinished.leave()
    return opened, found.warnings


@pytest.mark.parametrize("file", ["journal", "changes", "manifest", "qcow2"] if IS_LONG else ["changes"])
async def test_a_file_that_is_missing_costs_only_time(file: str, v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    frozen = lab.guest()
    unfinished = await interrupt(lab)
    (path,) = unfinished.glob(f"disk-*.{file}")
    path.unlink()

    point = await lab.capture()

    assert lab.stored(point) == frozen
    lab.check_images(point)
    lab.assert_clean(points=1)


@pytest.mark.parametrize("kind", ["empty", "half"] if IS_LONG else ["half"])
async def test_a_damaged_image_begins_anew(kind: str, v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    unfinished = await interrupt(lab)
    (path,) = unfinished.glob("disk-*.qcow2")
    if kind == "half":
        os.truncate(path, 3 * BLOCK_SIZE // 2)  # within the first cluster of the disk; behind its data a file has room
    else:
        spoil(path, kind)
    write_after_freeze(lab)

    point = await lab.capture()

    assert any("is given up" in text for text in lab.witness.warnings)
    assert lab.stored(point) == lab.guest()
    lab.check_images(point)
    lab.assert_clean(points=1)


async def test_an_image_that_lost_bytes_is_never_a_point(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    unfinished = await interrupt(lab)
    (path,) = unfinished.glob("disk-*.qcow2")
    data = path.read_bytes()
    at = data.rindex(lab.guest()[0][MIB : MIB + 4096])
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\x00" * 4096)

    with pytest.raises(Exception, match="read back as something else"):
        await lab.capture()

    lab.assert_clean(points=0)

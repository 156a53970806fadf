"""What an interrupted capture left is damaged: the next one makes a right point all the same, and says why it began."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.lab import MIB, Lab
from tests.capture.resuming import checkpoints_often, damaged, fill, interrupt, write_after_freeze

KINDS = ["empty", "half", "flipped"]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints_often(monkeypatch)


def spoil(path: Path, kind: str) -> None:
    path.write_bytes(dict(damaged(path.read_bytes()))[kind])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_damaged_record_begins_anew(kind: str, v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    unfinished = await interrupt(lab)
    spoil(unfinished / "resume", kind)
    write_after_freeze(lab)

    point = await lab.capture()

    assert len([text for text in lab.witness.warnings if "is given up" in text]) == 1
    assert lab.stored(point) == lab.guest()
    lab.assert_clean(points=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", ["journal", "changes", "manifest"])
async def test_a_disk_of_which_a_file_is_damaged_is_copied_from_its_beginning(
    file: str, kind: str, v4_lab: Lab
) -> None:
    lab = v4_lab
    fill(lab)
    frozen = lab.guest()
    unfinished = await interrupt(lab)
    (path,) = unfinished.glob(f"disk-*.{file}")
    if (file, kind) == ("manifest", "flipped"):
        data = bytearray(path.read_bytes())
        data[4096 + 16 * 3] ^= 1
        path.write_bytes(data)
    else:
        spoil(path, kind)
    write_after_freeze(lab)

    point = await lab.capture()

    assert len([text for text in lab.witness.warnings if "from its beginning" in text]) == 1
    assert lab.stored(point) == frozen
    lab.check_images(point)
    lab.assert_clean(points=1)


@pytest.mark.parametrize("file", ["journal", "changes", "manifest", "qcow2"])
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


@pytest.mark.parametrize("kind", ["empty", "half", "header"])
async def test_a_damaged_image_begins_anew(kind: str, v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    unfinished = await interrupt(lab)
    (path,) = unfinished.glob("disk-*.qcow2")
    if kind == "header":
        with path.open("r+b") as file:
            file.seek(40)
            file.write(b"\xff" * 8)
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

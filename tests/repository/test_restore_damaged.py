"""What rotted in a repository never gets the name of a restored disk, unless somebody wants to save what is there."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.errors import (
    ChecksumMismatch,
    NtxError,
    OptionsError,
    RepositoryError,
    SourceError,
    TargetError,
)
from ntxengine.repository import Point, Repository
from ntxengine.repository.store import PointStore
from ntxengine.restore import RestoreFormat, RestoreOptions, restore
from ntxengine.units import BLOCK_SIZE, MIB
from tests.repository.builders import DISK, OTHER_DISK, VM, ModelDisk, Write, begin, capture, fill_disk, record_of

SIZE = 3 * MIB + 512
FORMATS = ["raw", "qcow2"]
SALVAGE = RestoreOptions(check=False)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def point(repository: PointStore) -> Point:
    """An increment of two disks; the second shows 2 from the full point below, and 3 and 4 of its own."""
    models = ModelDisk(SIZE), ModelDisk(SIZE)
    for writes in ([Write(0, 3 * MIB, 2)], [Write(0, 512, 3), Write(SIZE - 512, 512, 4)]):
        with begin(repository, VM, repository.newest(VM)) as unfinished:
            disks = [
                fill_disk(unfinished, disk_id, model, writes, label)
                for disk_id, model, label in zip((DISK, OTHER_DISK), models, ("scsi.0", "scsi.1"), strict=True)
            ]
            made = unfinished.commit(record_of(unfinished, disks), vm_config={"name": "db01"})
    return made


def image_of(point: Point) -> Path:
    return point.image_path(point.disk("scsi.1"))


def flip(image: Path, value: int, *, runs: int = 1) -> None:
    """Flip one bit in each of the first blocks that are full of `value`, as they lie in the image."""
    data = bytearray(image.read_bytes())
    at = -1
    for _ in range(runs):
        at = data.index(bytes([value]) * 512, at + 1)
        data[at + 100] ^= 64
        at += BLOCK_SIZE
    image.write_bytes(data)


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("format", FORMATS)
async def test_a_flipped_bit_is_found_while_it_is_written(
    repository: PointStore, point: Point, out: Path, format: RestoreFormat, verify: bool
) -> None:
    flip(image_of(point), 4)

    with pytest.raises(ChecksumMismatch) as caught:
        await restore(Repository(repository), point, out, options=RestoreOptions(format=format, verify=verify))

    assert (caught.value.offsets, caught.value.blocks) == ((SIZE // BLOCK_SIZE * BLOCK_SIZE,), 1)
    for words in (point.id, "scsi.1", OTHER_DISK, f"offset {SIZE - 512}", "--no-check"):
        assert words in str(caught.value)
    assert list(out.iterdir()) == []


async def test_rot_in_a_point_below_is_found_too(repository: PointStore, point: Point, out: Path) -> None:
    flip(image_of(repository.chain(point)[0]), 2, runs=20)

    with pytest.raises(ChecksumMismatch, match=r"19 of 49 blocks .* at offset 65536, .* and 3 more") as caught:
        await restore(Repository(repository), point, out)

    assert len(caught.value.offsets) == 16
    assert caught.value.blocks == 19
    assert list(out.iterdir()) == []


async def test_zeros_that_were_data_are_rot(repository: PointStore, point: Point, out: Path) -> None:
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -z 0 64k", image_of(point)], check=True, capture_output=True)

    with pytest.raises(ChecksumMismatch) as caught:
        await restore(Repository(repository), point, out)

    assert caught.value.offsets == (0,)


@pytest.mark.parametrize("overwrite", [False, True])
async def test_what_was_restored_before_stays_as_it_was(
    repository: PointStore, point: Point, out: Path, overwrite: bool
) -> None:
    await restore(Repository(repository), point, out)
    before = (out / "scsi.1.raw").read_bytes()
    flip(image_of(point), 4)

    with pytest.raises((ChecksumMismatch, OptionsError)):
        await restore(Repository(repository), point, out, options=RestoreOptions(overwrite=overwrite))

    assert (out / "scsi.1.raw").read_bytes() == before
    assert sorted(path.name for path in out.iterdir()) == ["scsi.0.raw", "scsi.1.raw", "vm.json"]


@pytest.mark.parametrize("format", FORMATS)
async def test_what_is_there_can_be_saved_without_a_comparison(
    repository: PointStore, point: Point, out: Path, format: RestoreFormat
) -> None:
    flip(image_of(point), 4)
    point.manifest_path(point.disk("scsi.0")).unlink()

    report = await restore(Repository(repository), point, out, options=RestoreOptions(format=format, check=False))

    assert [disk.is_checked for disk in report.disks] == [False, False]
    subprocess.run(["qemu-img", "convert", "-O", "raw", out / f"scsi.1.{format}", out / "plain"], check=True)
    assert (out / "plain").read_bytes()[SIZE - 512 : SIZE] == b"\4" * 100 + b"\x44" + b"\4" * 411


async def test_a_point_whose_record_rotted_can_be_saved(repository: PointStore, point: Point, out: Path) -> None:
    for each in repository.chain(point):
        file = each.path / "point.json"
        file.write_bytes(file.read_bytes().replace(b'"db01"', b'"db02"'))
        (each.path / "vm.json").write_bytes(b"rot")

    with pytest.raises(RepositoryError, match=r"point\.json: is damaged.*--no-check"):
        await restore(Repository(repository), point, out)
    report = await restore(Repository(repository), point, out, options=SALVAGE)

    assert report.point.vm_name == "db02"
    assert (out / "vm.json").read_bytes() == b"rot"
    assert (out / "scsi.1.raw").read_bytes()[:512] == b"\3" * 512


def other_manifest(path: Path) -> None:
    path.write_bytes(path.with_name(path.name.replace(OTHER_DISK, DISK)).read_bytes()[:-1] + b"x")


@pytest.mark.parametrize("damage", [Path.unlink, other_manifest, lambda path: path.write_bytes(b"")])
async def test_without_its_manifest_nothing_is_restored(
    repository: PointStore, point: Point, out: Path, damage: Callable[[Path], object]
) -> None:
    damage(point.manifest_path(point.disk("scsi.1")))

    with pytest.raises(NtxError, match="--no-check"):
        await restore(Repository(repository), point, out)

    assert list(out.iterdir()) == []


async def test_the_manifest_of_another_disk_is_not_believed(repository: PointStore, point: Point, out: Path) -> None:
    path = point.manifest_path(point.disk("scsi.1"))
    path.write_bytes(repository.chain(point)[0].manifest_path(point.disk("scsi.0")).read_bytes())

    with pytest.raises(RepositoryError, match=r"is not the manifest of disk scsi\.1"):
        await restore(Repository(repository), point, out)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("format", FORMATS)
async def test_a_cluster_that_cannot_be_read_is_named_with_its_point(
    repository: PointStore, point: Point, out: Path, format: RestoreFormat, check: bool
) -> None:
    image = image_of(repository.chain(point)[0])
    data = bytearray(image.read_bytes())
    l1_table = int.from_bytes(data[40:48], "big")
    data[l1_table + 6] |= 2  # an address that is no whole cluster
    image.write_bytes(data)

    with pytest.raises(SourceError, match="a damaged entry of the L1 table") as caught:
        await restore(Repository(repository), point, out, options=RestoreOptions(format=format, check=check))

    for words in (point.id, "scsi.1", OTHER_DISK, "cannot be read", "--salvage"):
        assert words in str(caught.value)
    assert "--no-check" not in str(caught.value)
    assert list(out.iterdir()) == []


def compress(image: Path) -> None:
    """Store it as what only qemu can read."""
    packed = image.with_name("packed")
    subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", image, packed], check=True)
    packed.rename(image)


@pytest.mark.parametrize("format", FORMATS)
async def test_an_image_that_only_qemu_can_read_is_restored_and_compared(
    repository: PointStore, out: Path, format: RestoreFormat
) -> None:
    point = capture(repository, ModelDisk(SIZE), [Write(0, MIB, 2), Write(SIZE - 512, 512, 3)])
    compress(point.image_path(point.disks[0]))

    await restore(Repository(repository), point, out, options=RestoreOptions(format=format, verify=True))
    await restore(Repository(repository), point, out / "2", options=RestoreOptions(format=format))

    subprocess.run(["qemu-img", "convert", "-O", "raw", out / f"scsi.0.{format}", out / "plain"], check=True)
    assert (out / "plain").read_bytes()[:SIZE] == b"\2" * MIB + bytes(SIZE - MIB - 512) + b"\3" * 512


@pytest.mark.parametrize("format", FORMATS)
async def test_a_full_disk_is_not_taken_for_a_damaged_point(
    repository: PointStore, small_fs: Callable[[str], Path], format: RestoreFormat
) -> None:
    point = capture(repository, ModelDisk(4 * MIB), [Write(0, 4 * MIB, 1)])
    compress(point.image_path(point.disks[0]))

    # Its data or its digests, which lie beside it: whichever comes to the end of the room first.
    with pytest.raises(TargetError, match=r"No space left on device.*free some space") as caught:
        await restore(Repository(repository), point, small_fs("1m"), options=RestoreOptions(format=format))

    assert "cannot be read" not in str(caught.value)


def test_reading_back_and_comparing_nothing_contradict_each_other() -> None:
    with pytest.raises(OptionsError, match="contradict"):
        RestoreOptions(verify=True, check=False)

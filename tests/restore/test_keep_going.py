"""A damaged point gives all that is good of it, and says what is not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import jsonschema
import pytest
from referencing import Registry, Resource

from ntxengine.errors import OptionsError, RepositoryError
from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from ntxengine.restore import BadRange, RestoreFormat, RestoreOptions, restore
from ntxengine.units import BLOCK_SIZE, MIB
from tests.cli.ntx import ROOT, Ran, assert_refused, ntx
from tests.restore.points import OLD, SIZES, SeveralDisks, device, flip, full_of
from tests.support.servers import qemu_img, qemu_nbd

GOING = RestoreOptions(keep_going=True)
ALL = ("scsi.0", "scsi.1", "scsi.2")


def image_below(repository: PointStore, several: SeveralDisks, label: str) -> Path:
    return repository.chain(several.point)[0].image_path(several.point.disk(label))


def break_entry(image: Path, block: int) -> None:
    """Let the entry of a block in the L2 table of an image point nowhere."""
    data = bytearray(image.read_bytes())
    l1 = int.from_bytes(data[40:48], "big")
    l2 = int.from_bytes(data[l1 : l1 + 8], "big") & 0x00FFFFFFFFFFFE00
    at = l2 + 8 * block
    assert any(data[at : at + 8]), "this block is not allocated here"
    data[at + 6] |= 2  # an address that is no whole cluster
    image.write_bytes(data)


def expected(several: SeveralDisks, label: str, lost: list[int]) -> bytes:
    data = bytearray(several.data(label))
    for block in lost:
        data[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE] = bytes(BLOCK_SIZE)
    return bytes(data)


def raw(place: Path, name: str, format: RestoreFormat, size: int) -> bytes:
    if format == "raw":
        return (place / f"{name}.raw").read_bytes()
    qemu_img("check", "-q", "-f", "qcow2", str(place / f"{name}.qcow2"))
    qemu_img("convert", "-f", "qcow2", "-O", "raw", str(place / f"{name}.qcow2"), str(place / "plain"))
    return (place / "plain").read_bytes()[:size]


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("format", ["raw", "qcow2"])
async def test_what_cannot_be_read_is_zero_and_listed_and_all_else_is_there(
    repository: PointStore, several: SeveralDisks, place: Path, format: RestoreFormat, verify: bool
) -> None:
    broken = {"scsi.0": [0, 2, 10], "scsi.2": [5]}
    for label, blocks in broken.items():
        for block in blocks:
            break_entry(image_below(repository, several, label), block)

    report = await restore(
        Repository(repository),
        several.point,
        place,
        options=RestoreOptions(keep_going=True, format=format, verify=verify),
    )

    assert not report.is_whole
    for disk in report.disks:
        lost = broken.get(disk.disk.label, [])
        assert raw(place, disk.disk.label, format, disk.disk.size) == expected(several, disk.disk.label, lost)
        assert disk.bad_ranges == tuple(BadRange(block * BLOCK_SIZE, BLOCK_SIZE, "unreadable") for block in lost)
        assert (disk.bad_ranges_total, disk.bad_bytes) == (len(lost), len(lost) * BLOCK_SIZE)
        assert disk.is_verified is verify
    assert (place / "vm.json").exists()


async def test_a_block_that_differs_is_written_as_it_is_and_listed(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    flip(several, "scsi.1")
    flip(several, "scsi.2")

    report = await restore(
        Repository(repository), several.point, place, options=RestoreOptions(keep_going=True, verify=True)
    )

    for disk in report.disks:
        wrong = disk.disk.label != "scsi.0"
        restored, right = (place / f"{disk.disk.label}.raw").read_bytes(), several.data(disk.disk.label)
        assert disk.bad_ranges == ((BadRange(3 * BLOCK_SIZE, BLOCK_SIZE, "differs"),) if wrong else ())
        assert sum(a != b for a, b in zip(restored, right, strict=True)) == wrong


async def test_a_table_that_is_lost_takes_all_behind_it_and_nothing_else(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    image = image_below(repository, several, "scsi.0")
    data = bytearray(image.read_bytes())
    data[int.from_bytes(data[40:48], "big") + 6] |= 2
    image.write_bytes(data)

    report = await restore(Repository(repository), several.point, place, options=GOING)

    first = report.disks[0]
    of_the_increment = [1, 3]
    assert first.bad_bytes == sum(bad.length for bad in first.bad_ranges)
    assert {bad.reason for bad in first.bad_ranges} == {"unreadable"}
    restored = (place / "scsi.0.raw").read_bytes()
    for block in range(49):
        at = slice(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE)
        is_listed = any(bad.offset <= at.start < bad.offset + bad.length for bad in first.bad_ranges)
        assert is_listed is (restored[at] != several.data("scsi.0")[at])
        assert is_listed is (any(several.data("scsi.0")[at]) and block not in of_the_increment)
    for label in ALL[1:]:
        assert (place / f"{label}.raw").read_bytes() == several.data(label)


async def test_devices_and_servers_get_zeros_where_nothing_could_be_read(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    for label in ("scsi.0", "scsi.1"):
        break_entry(image_below(repository, several, label), 2)
    served = full_of(place / "served", SIZES[1])
    with device(place, 8 * MIB) as (path, behind), qemu_nbd(served) as uri:
        options = RestoreOptions(keep_going=True, overwrite=True, verify=True)

        report = await restore(
            Repository(repository), several.point, targets={"scsi.0": path, "scsi.1": uri}, options=options
        )

    assert behind.read_bytes()[: SIZES[0]] == expected(several, "scsi.0", [2])
    assert served.read_bytes() == expected(several, "scsi.1", [2])
    assert [disk.bad_ranges_total for disk in report.disks] == [1, 1]


async def test_in_place_what_cannot_be_read_stays_as_it_was(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    break_entry(image_below(repository, several, "scsi.1"), 0)
    break_entry(image_below(repository, several, "scsi.1"), 2)
    data = bytearray(several.data("scsi.1"))
    data[2 * BLOCK_SIZE : 3 * BLOCK_SIZE] = OLD * BLOCK_SIZE
    data[MIB + BLOCK_SIZE] ^= 1
    (place / "file").write_bytes(data)

    report = await restore(
        Repository(repository),
        several.point,
        targets={"scsi.1": str(place / "file")},
        options=RestoreOptions(keep_going=True, in_place=True, verify=True),
    )

    (disk,) = report.disks
    assert disk.bad_ranges == (BadRange(2 * BLOCK_SIZE, BLOCK_SIZE, "unreadable"),)
    assert disk.bytes_written == BLOCK_SIZE
    data[MIB + BLOCK_SIZE] ^= 1
    assert (place / "file").read_bytes() == data


async def test_an_image_that_only_qemu_reads_is_gone_on_with(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    image = image_below(repository, several, "scsi.0")
    packed = image.with_name("packed")
    subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", "-o", "cluster_size=128k", image, packed], check=True)
    packed.rename(image)
    data = bytearray(image.read_bytes())
    l1 = int.from_bytes(data[40:48], "big")
    l2 = int.from_bytes(data[l1 : l1 + 8], "big") & 0x00FFFFFFFFFFFE00
    compressed = (int.from_bytes(data[l2 + 8 : l2 + 16], "big")) & ((1 << 53) - 1)
    data[compressed : compressed + 32] = b"\xff" * 32  # of the second cluster: blocks 2 and 3
    image.write_bytes(data)

    report = await restore(Repository(repository), several.point, place, options=GOING)

    assert report.failed == ()
    (bad,) = report.disks[0].bad_ranges
    assert (bad.offset, bad.reason) == (2 * BLOCK_SIZE, "unreadable")
    assert (place / "scsi.0.raw").read_bytes()[: 2 * BLOCK_SIZE] == several.data("scsi.0")[: 2 * BLOCK_SIZE]
    assert (place / "scsi.0.raw").read_bytes()[4 * BLOCK_SIZE :] == several.data("scsi.0")[4 * BLOCK_SIZE :]


async def test_a_disk_of_which_nothing_is_left_does_not_keep_the_others(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    image_below(repository, several, "scsi.1").unlink()

    report = await restore(Repository(repository), several.point, place, options=GOING)

    assert [(each.disk.label, "is missing" in each.problem) for each in report.failed] == [("scsi.1", True)]
    assert sorted(path.name for path in place.iterdir()) == ["scsi.0.raw", "scsi.2.raw", "vm.json"]
    for label in ("scsi.0", "scsi.2"):
        assert (place / f"{label}.raw").read_bytes() == several.data(label)
    with pytest.raises(RepositoryError, match="is missing"):
        await restore(Repository(repository), several.point, place / "out", disks=["scsi.1"], options=GOING)


async def test_without_digests_a_disk_is_written_and_said_to_be_unproved(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    manifest = several.point.manifest_path(several.point.disk("scsi.1"))
    data = bytearray(manifest.read_bytes())
    data[4096 + 5] ^= 1
    manifest.write_bytes(data)

    report = await restore(
        Repository(repository), several.point, place, options=RestoreOptions(keep_going=True, verify=True)
    )

    assert [(disk.is_checked, disk.is_verified) for disk in report.disks] == [
        (True, True),
        (False, False),
        (True, True),
    ]
    assert "nothing of it could be compared" in report.disks[1].problem
    assert not report.is_whole
    for label in ALL:
        assert (place / f"{label}.raw").read_bytes() == several.data(label)


@pytest.mark.parametrize("which", [0, 1])
async def test_a_record_that_is_damaged_is_said_and_the_disks_are_there(
    repository: PointStore, several: SeveralDisks, place: Path, which: int
) -> None:
    record = repository.chain(several.point)[which].path / "point.json"
    record.write_bytes(record.read_bytes().replace(b'"db01"', b'"db02"'))

    report = await restore(Repository(repository), several.point, place, options=GOING)

    said = [report.problem, *(disk.problem for disk in report.disks)]
    assert any("point.json: is damaged" in text for text in said)
    assert not report.is_whole
    for label in ALL:
        assert (place / f"{label}.raw").read_bytes() == several.data(label)


async def test_a_point_that_is_whole_is_whole(repository: PointStore, several: SeveralDisks, place: Path) -> None:
    report = await restore(Repository(repository), several.point, place, options=GOING)

    assert report.is_whole
    assert [disk.bad_ranges for disk in report.disks] == [(), (), ()]
    for label in ALL:
        assert (place / f"{label}.raw").read_bytes() == several.data(label)


def test_comparing_nothing_contradicts_it(repository: PointStore, several: SeveralDisks, place: Path) -> None:
    with pytest.raises(OptionsError, match="contradict"):
        RestoreOptions(keep_going=True, check=False)
    command = ("restore", several.point.id, str(place), "--from", repository.path, "--keep-going")
    assert_refused(ntx(*command, "--no-check"), 2, "--keep-going and --no-check contradict")


def check_schema(ran: Ran) -> None:
    folder = ROOT / "docs" / "schema"
    documents = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
    registry: Registry = Registry().with_resources(
        (name, Resource.from_contents(document)) for name, document in documents.items()
    )
    jsonschema.Draft202012Validator(documents["restore.json"], registry=registry).validate(ran.json)


def test_a_person_is_told_which_ranges_and_ends_with_three(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    flip(several, "scsi.2")
    image = image_below(repository, several, "scsi.0")
    for block in range(2, 16, 2):
        break_entry(image, block)
    image_below(repository, several, "scsi.1").unlink()
    command = ("restore", several.point.id, "--from", repository.path, "--keep-going")

    plan = ntx(*command, place, "-n")
    said = ntx(*command, place)
    printed = ntx(*command, place, "--overwrite", "--json")

    assert plan.code == 0, plan.err
    assert said.code == printed.code == 3, said.err
    assert "of disk scsi.0 7 ranges, 448.0 KiB, are not what was captured:" in said.out
    assert "  offset 131072 length 65536: cannot be read" in said.out
    assert f"  offset {3 * BLOCK_SIZE} length 65536: is not what was captured" in said.out
    assert "warning: disk scsi.1 is not restored: " in said.err
    assert "try another point" in said.err
    check_schema(printed)
    assert [disk["bad_ranges_total"] for disk in printed.json["disks"]] == [7, 1]
    assert [each["label"] for each in printed.json["failed"]] == ["scsi.1"]
    assert printed.json["error"]["exit_code"] == 3

"""A restore in place reads what is there, and writes only what differs from the point."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ntxengine.errors import ChecksumMismatch, OptionsError, SourceError, TargetError
from ntxengine.events import Event, Progressed, Stage, StageBegan, Warned
from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from ntxengine.restore import RestoredDisk, RestoreOptions, restore
from ntxengine.units import BLOCK_SIZE, MIB
from tests.cli.ntx import COMMAND, assert_refused, environment, ntx
from tests.restore.points import OLD, SIZES, SeveralDisks, device, flip, full_of
from tests.support.killable import killable_disk
from tests.support.servers import loop_device, nbdkit, qemu_nbd

IN_PLACE = RestoreOptions(in_place=True)
VERIFIED = RestoreOptions(in_place=True, verify=True)
ALL = {"scsi.0", "scsi.1", "scsi.2"}


def amounts(disks: tuple[RestoredDisk, ...]) -> list[tuple[int | None, int | None]]:
    return [(disk.bytes_written, disk.bytes_left) for disk in disks]


def changed(path: Path, data: bytes, places: list[int]) -> Path:
    """Make a file of `data` in which a byte of some places is another."""
    changing = bytearray(data)
    for at in places:
        changing[at] ^= 0xFF
    path.write_bytes(changing)
    return path


def writes_of(path: Path, before: bytes) -> set[int]:
    """Return the numbers of the blocks that are not what they were."""
    after = path.read_bytes()
    return {
        at // BLOCK_SIZE
        for at in range(0, len(after), BLOCK_SIZE)
        if after[at : at + BLOCK_SIZE] != before[at : at + BLOCK_SIZE]
    }


async def test_only_what_differs_is_written_to_files_devices_and_servers(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    file = changed(place / "file", several.data("scsi.0"), [0, 5 * BLOCK_SIZE, SIZES[0] - 1])
    behind = changed(place / "behind", several.data("scsi.1") + OLD * MIB, [BLOCK_SIZE + 1, 2 * MIB + 7])
    served = changed(place / "served", several.data("scsi.2"), [])
    with loop_device(behind) as path, qemu_nbd(served) as uri:
        targets = {"scsi.0": str(file), "scsi.1": path, "scsi.2": uri}

        report = await restore(Repository(repository), several.point, targets=targets, options=VERIFIED)

    last = SIZES[0] - SIZES[0] // BLOCK_SIZE * BLOCK_SIZE
    assert amounts(report.disks) == [
        (2 * BLOCK_SIZE + last, SIZES[0] - 2 * BLOCK_SIZE - last),
        (BLOCK_SIZE, SIZES[1] - BLOCK_SIZE),
        (0, SIZES[2]),
    ]
    assert file.read_bytes() == several.data("scsi.0")
    assert behind.read_bytes()[: SIZES[1]] == several.data("scsi.1")
    assert behind.read_bytes()[SIZES[1] + 7] == OLD[0] ^ 0xFF
    assert served.read_bytes() == several.data("scsi.2")


async def test_every_disk_of_a_directory_is_compared_and_mended(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    await restore(Repository(repository), several.point, place)
    for label in ALL:
        changed(place / f"{label}.raw", several.data(label), [MIB + BLOCK_SIZE])
    (place / "vm.json").write_text("{}")

    report = await restore(Repository(repository), several.point, place, options=IN_PLACE)
    again = await restore(Repository(repository), several.point, place, options=IN_PLACE)

    assert [disk.bytes_written for disk in report.disks] == [BLOCK_SIZE] * 3
    assert [disk.bytes_written for disk in again.disks] == [0] * 3
    for label in ALL:
        assert (place / f"{label}.raw").read_bytes() == several.data(label)
    assert "db01" in (place / "vm.json").read_text()
    assert len(list(place.iterdir())) == 4


async def test_what_is_zero_in_the_point_is_zeroed_and_what_is_zero_in_the_place_is_filled(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    old, empty = full_of(place / "old", SIZES[0]), place / "empty"
    with empty.open("wb") as made:
        made.truncate(SIZES[1])

    report = await restore(
        Repository(repository),
        several.point,
        targets={"scsi.0": str(old), "scsi.1": str(empty)},
        options=VERIFIED,
    )

    assert (old.read_bytes(), empty.read_bytes()) == (several.data("scsi.0"), several.data("scsi.1"))
    assert amounts(report.disks)[0] == (SIZES[0], 0)
    assert report.disks[1].bytes_written == 2 * MIB - 2 * BLOCK_SIZE  # two are zero


async def test_a_server_is_read_and_not_believed(repository: PointStore, several: SeveralDisks, place: Path) -> None:
    served = changed(place / "served", several.data("scsi.1"), [700_000])
    # It says that all of it is a hole that reads as zero.
    with nbdkit(
        "eval",
        f"get_size=echo {SIZES[1]}",
        f"pread=dd if='{served}' iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none",
        f"pwrite=dd of='{served}' oflag=seek_bytes conv=notrunc seek=$4 status=none",
        "can_extents=exit 0",
        "extents=echo $4 $3 hole,zero",
    ) as uri:
        report = await restore(Repository(repository), several.point, targets={"scsi.1": uri}, options=IN_PLACE)

    assert served.read_bytes() == several.data("scsi.1")
    assert report.disks[0].bytes_written == BLOCK_SIZE


async def test_what_need_not_be_written_need_not_be_readable(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    flip(several, "scsi.1")
    whole = changed(place / "whole", several.data("scsi.1"), [2 * MIB - 1])
    hurt = changed(place / "hurt", several.data("scsi.1"), [3 * BLOCK_SIZE + 600])

    await restore(Repository(repository), several.point, targets={"scsi.1": str(whole)}, options=VERIFIED)
    with pytest.raises(
        ChecksumMismatch, match=rf"1 of 32 blocks.* at offset {3 * BLOCK_SIZE}; .*holds it all the same"
    ):
        await restore(Repository(repository), several.point, targets={"scsi.1": str(hurt)}, options=IN_PLACE)

    assert whole.read_bytes() == several.data("scsi.1")


@pytest.mark.parametrize("difference", [-1, 1, 512, BLOCK_SIZE])
async def test_a_file_of_another_size_is_refused(
    repository: PointStore, several: SeveralDisks, place: Path, difference: int
) -> None:
    file = full_of(place / "file", SIZES[1] + difference)

    with pytest.raises(OptionsError, match=rf"has {SIZES[1] + difference} bytes, the disk {SIZES[1]}"):
        await restore(Repository(repository), several.point, targets={"scsi.1": str(file)}, options=IN_PLACE)
    assert set(file.read_bytes()) == set(OLD)


async def test_a_device_that_is_too_small_is_refused(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    with device(place, MIB) as (path, behind), pytest.raises(OptionsError, match="is too small"):
        await restore(Repository(repository), several.point, targets={"scsi.1": path}, options=IN_PLACE)
    assert set(behind.read_bytes()) == set(OLD)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "qcow2"}, "only the bytes of a disk"),
        ({"check": False}, "comparing nothing"),
        ({"target_is_zero": True}, "what is there is read"),
    ],
)
def test_what_contradicts_reading_what_is_there_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionsError, match=words):
        RestoreOptions(in_place=True, **options)


async def test_what_is_not_there_is_not_made(repository: PointStore, several: SeveralDisks, place: Path) -> None:
    (place / "image").write_bytes(b"QFI\xfb" + bytes(SIZES[1] - 4))
    (place / "scsi.0.raw").symlink_to(place / "image")

    for target, words in (("new", "is not there"), ("image", "looks like an image")):
        with pytest.raises(OptionsError, match=words):
            await restore(
                Repository(repository), several.point, targets={"scsi.1": str(place / target)}, options=IN_PLACE
            )
    with pytest.raises(OptionsError, match="is a link"):
        await restore(Repository(repository), several.point, place, disks=["scsi.0"], options=IN_PLACE)

    assert sorted(path.name for path in place.iterdir()) == ["image", "scsi.0.raw"]


async def test_a_server_that_dies_is_gone_on_with_in_either_pass(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    disk = full_of(place / "served", 8 * MIB)
    told: list[Event] = []
    died: set[Stage] = set()
    with killable_disk(disk) as server:

        def tell(event: Event) -> None:
            told.append(event)
            if isinstance(event, Progressed) and event.bytes_done and event.stage not in died:
                died.add(event.stage)
                server.kill()
                server.start()

        report = await restore(
            Repository(repository),
            several.point,
            targets={"scsi.2": server.uri},
            options=RestoreOptions(in_place=True, bandwidth=4 * MIB),
            on_event=tell,
        )

    assert several.is_in(disk, "scsi.2")
    assert died == {Stage.COMPARE, Stage.RESTORE}
    assert sum(isinstance(event, Warned) for event in told) >= 1
    assert report.disks[0].bytes_written == SIZES[2]
    assert [event.stage for event in told if isinstance(event, StageBegan)] == [Stage.COMPARE, Stage.RESTORE]


async def test_a_failure_says_that_the_same_command_goes_on(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    disk = full_of(place / "served", 8 * MIB)
    with killable_disk(disk) as server, pytest.raises(TargetError, match="the same command writes what is left"):
        await restore(
            Repository(repository),
            several.point,
            targets={"scsi.2": server.uri},
            options=RestoreOptions(in_place=True, retry_for_s=0, bandwidth=MIB),
            on_event=lambda event: server.kill() if getattr(event, "bytes_done", 0) else None,
        )


def test_a_killed_restore_is_gone_on_with_by_the_same_command(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    file = full_of(place / "x y=z", SIZES[2])
    command = ("restore", several.point.id, "--from", str(repository.path), "--to", f"scsi.2={file}", "--in-place")
    process = subprocess.Popen(
        [*COMMAND, *command, "--bandwidth", "4M", "--progress", "json"],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if '"restore' in line and '"bytes_done": 0' not in line:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = len(writes_of(file, OLD * SIZES[2]))

    ran = ntx(*command, "--verify", "--json")
    table = ntx(*command)

    assert ran.code == 0, ran.err
    (disk,) = ran.json["disks"]
    assert disk["bytes_written"] + disk["bytes_left"] == SIZES[2]
    assert disk["bytes_left"] >= (done - 1) * BLOCK_SIZE
    assert file.read_bytes() == several.data("scsi.2")
    assert "WRITTEN" in table.out
    assert "0 B" in table.out


def test_what_contradicts_it_is_a_usage_error(repository: PointStore, several: SeveralDisks, place: Path) -> None:
    command = ("restore", several.point.id, str(place), "--from", repository.path, "--in-place")

    assert_refused(ntx(*command, "--no-check"), 2, "--in-place and --no-check contradict")
    assert_refused(ntx(*command, "--target-is-zero"), 2, "--in-place and --target-is-zero contradict")
    assert_refused(ntx(*command), 2, "is not there")
    assert os.listdir(place) == []


async def test_a_damaged_table_is_named_only_if_something_behind_it_is_needed(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    file = changed(place / "file", several.data("scsi.0"), [0])
    image = repository.chain(several.point)[0].image_path(several.point.disk("scsi.0"))
    data = bytearray(image.read_bytes())
    data[int.from_bytes(data[40:48], "big") + 6] |= 2  # an address that is no whole cluster
    image.write_bytes(data)

    with pytest.raises(SourceError, match="a damaged entry of the L1 table"):
        await restore(Repository(repository), several.point, targets={"scsi.0": str(file)}, options=IN_PLACE)
    file.write_bytes(several.data("scsi.0"))
    report = await restore(Repository(repository), several.point, targets={"scsi.0": str(file)}, options=IN_PLACE)

    assert report.disks[0].bytes_written == 0

"""What is written in place, a device or a server: zeros, lost connections, and what does not keep what it gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.errors import ChecksumMismatch, TargetError
from ntxengine.events import Event, Progressed, Warned
from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from ntxengine.restore import RestoreOptions, restore
from ntxengine.units import MIB
from tests.restore.points import SeveralDisks, device, full_of
from tests.support.killable import killable_disk
from tests.support.servers import loop_device, nbdkit, qemu_nbd

OVER = RestoreOptions(overwrite=True)
VERIFIED = RestoreOptions(overwrite=True, verify=True)


def has_moved(event: Event) -> bool:
    return isinstance(event, Progressed) and event.bytes_done > 0


@pytest.mark.parametrize("kind", ["device", "server"])
async def test_zeros_reach_what_is_not_known_to_be_zero_and_are_left_out_where_it_is(
    repository: PointStore, several: SeveralDisks, place: Path, kind: str
) -> None:
    with device(place, 8 * MIB) as (path, behind), qemu_nbd(behind) as uri:
        target = path if kind == "device" else uri
        await restore(Repository(repository), several.point, targets={"scsi.0": target}, options=OVER)
        assert several.is_in(path if kind == "device" else behind, "scsi.0")

    empty = place / "empty"
    with empty.open("wb") as file:
        file.truncate(8 * MIB)
    with loop_device(empty) as path, qemu_nbd(empty, "--discard=unmap") as uri:
        options = RestoreOptions(overwrite=True, target_is_zero=True, verify=True)
        await restore(
            Repository(repository),
            several.point,
            targets={"scsi.0": path if kind == "device" else uri},
            options=options,
        )

    assert several.is_in(empty, "scsi.0")
    assert empty.stat().st_blocks * 512 < 3 * MIB


async def test_what_a_server_does_not_keep_is_found_by_reading_back(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    forgets = ("eval", "get_size=echo 8M", "pread=head -c $3 /dev/zero", "pwrite=cat > /dev/null", "zero=exit 0")
    with nbdkit(*forgets) as uri:
        with pytest.raises(ChecksumMismatch) as caught:
            await restore(Repository(repository), several.point, place, targets={"scsi.1": uri}, options=VERIFIED)

    assert caught.value.offsets[0] == 0
    assert list(place.iterdir()) == []


async def test_a_server_that_dies_and_comes_back_is_gone_on_with(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    disk = full_of(place / "served", 8 * MIB)
    told: list[Event] = []
    with killable_disk(disk) as server:

        def tell(event: Event) -> None:
            if not any(has_moved(each) for each in told) and has_moved(event):
                server.kill()
                server.start()
            told.append(event)

        await restore(
            Repository(repository),
            several.point,
            targets={"scsi.2": server.uri},
            options=RestoreOptions(overwrite=True, verify=True, bandwidth=4 * MIB),
            on_event=tell,
        )

    assert several.is_in(disk, "scsi.2")
    assert any(isinstance(event, Warned) and "trying again" in event.text for event in told)


async def test_a_server_that_stays_away_is_named_and_no_file_appears(
    repository: PointStore, several: SeveralDisks, place: Path, tmp_path: Path
) -> None:
    disk = full_of(place / "served", 8 * MIB)
    with killable_disk(disk) as server:
        options = RestoreOptions(overwrite=True, retry_for_s=0, bandwidth=MIB)

        with pytest.raises(TargetError, match=r"neither what was there before nor the whole disk") as caught:
            await restore(
                Repository(repository),
                several.point,
                tmp_path / "out",
                targets={"scsi.2": server.uri},
                options=options,
                on_event=lambda event: server.kill() if has_moved(event) else None,
            )

    assert server.uri in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


async def test_a_full_file_system_of_one_target_leaves_no_file_of_any(
    repository: PointStore, several: SeveralDisks, place: Path, small_fs: Callable[[str], Path]
) -> None:
    small = small_fs("1m")
    for format in ("raw", "qcow2"):
        targets = {"scsi.0": str(place / f"a.{format}"), "scsi.2": str(small / f"b.{format}")}

        with pytest.raises(TargetError, match=r"No space left on device.*free some space"):
            await restore(Repository(repository), several.point, targets=targets)

    assert [*place.iterdir(), *small.iterdir()] == []

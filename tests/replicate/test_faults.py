"""A target that has no room, or a disk that fails: the cycle ends with the remedy, and the next one mends it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.errors import NbdReplyError, NtxError, RepositoryError, TargetError
from ntxengine.replicate.state import INTENT_FILE, REPLICA_FILE
from tests.capture.lab import MIB, Lab
from tests.replicate.replicating import Replicating
from tests.support.killable import killable
from tests.support.servers import require_root


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that has room for less than the disks have."""
    require_root("to mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=7M", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


async def test_what_has_no_room_is_refused_before_anything_is_written(v4_lab: Lab, small: Path) -> None:
    v4_lab.write(0, 0, os.urandom(8 * MIB))
    following = Replicating(v4_lab, f"kvm:{small}", "raw")

    with pytest.raises(TargetError, match="free some space"):
        await following.run()

    assert list(small.iterdir()) == []
    assert v4_lab.recovery_points() == []


@pytest.mark.parametrize("form", ["raw", "qcow2"])
async def test_no_room_in_the_middle_ends_the_cycle_and_the_next_one_goes_on(
    v4_lab: Lab, small: Path, form: str
) -> None:
    following = Replicating(v4_lab, f"kvm:{small}", form)
    await following.run()
    frozen = v4_lab.guest()
    filler = small / "filler"
    # There is room when it is looked at, and none when it is written: a scan does not say beforehand what it writes.
    v4_lab.write(0, 0, os.urandom(8 * MIB))
    filler.write_bytes(bytes(2 * MIB))

    with pytest.raises(TargetError, match="No space left on device"):
        await following.run(scan=True)

    assert len(v4_lab.recovery_points()) == 1
    if form == "qcow2":
        following.assert_equal(frozen)
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=40M", small], check=True)
    await following.run()
    following.assert_equal()
    following.assert_clean()


async def test_server_that_fails_a_write_ends_the_cycle_and_the_next_one_goes_on(v4_lab: Lab, tmp_path: Path) -> None:
    trigger = tmp_path / "fails"
    with (
        killable(
            "--filter=error", "memory", "16M", "error-pwrite=EIO", "error-pwrite-rate=100%", f"error-file={trigger}"
        ) as one,
        killable("memory", "16M") as other,
    ):
        one.start()
        other.start()
        nbd = Replicating(v4_lab, f"scsi.0={one.uri} scsi.1={other.uri}", overwrite=True)
        await nbd.run()
        before = v4_lab.guest()
        v4_lab.write(0, MIB, os.urandom(65536))
        v4_lab.write(1, 0, os.urandom(65536))
        trigger.touch()

        with pytest.raises(NbdReplyError, match="nbd"):
            await nbd.run()

        assert nbd.dead is not None
        trigger.unlink()
        for file, content in zip(v4_lab.disk_files, before, strict=True):
            file.write_bytes(content)
        await nbd.run()
        nbd.assert_equal()
        nbd.assert_clean()


@pytest.mark.parametrize("name", [REPLICA_FILE, INTENT_FILE])
@pytest.mark.parametrize("damage", [b"", b"{}", b"\x00" * 64, b'{"format": "ntxengine-replica", "version": 99}'])
async def test_state_that_is_damaged_is_refused_with_the_remedy(raw: Replicating, name: str, damage: bytes) -> None:
    await raw.run()
    (raw.state.path / name).write_bytes(damage)

    with pytest.raises(RepositoryError, match=name):
        await raw.run()

    assert len(raw.lab.recovery_points()) == 1


async def test_manifest_that_is_lost_makes_the_target_be_read(raw: Replicating) -> None:
    await raw.run()
    (raw.state.path / raw.replica.disks[0].manifest).unlink()
    raw.lab.write(0, MIB, os.urandom(65536))
    raw.lab.zero(0, 4 * MIB, MIB)

    await raw.run()

    assert any("the target is read instead" in text for text in raw.witness.warnings)
    raw.assert_equal()
    raw.assert_clean()


async def test_disk_without_whole_sectors_is_refused_before_the_freeze(raw: Replicating) -> None:
    raw.lab.resize(1, 3 * MIB + 100)

    with pytest.raises(NtxError, match="multiple of 512 B"):
        await raw.run()

    assert raw.lab.recovery_points() == []


async def test_each_way_to_the_bytes_is_followed(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "kvm").mkdir()
    following = Replicating(lab, f"kvm:{tmp_path / 'kvm'}", "raw")
    await following.run()
    lab.write(0, 2 * MIB, os.urandom(70_000))
    lab.zero(0, 4 * MIB, MIB)

    cycle = await following.run()

    assert cycle.reference_id
    following.assert_equal()
    following.assert_clean()


async def test_definition_is_a_domain_that_libvirt_takes(raw: Replicating) -> None:
    await raw.run()
    definition = raw.folder() / raw.replica.definition

    text = definition.read_text()

    for disk in raw.replica.disks:
        assert str(raw.folder() / disk.files[0].name) in text
    valid = subprocess.run(["virt-xml-validate", definition, "domain"], capture_output=True, text=True, check=False)
    assert valid.returncode == 0, valid.stdout + valid.stderr

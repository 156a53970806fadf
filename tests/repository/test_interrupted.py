"""The record of what was frozen: read as it was written, and refused in one clear line as anything else."""

from __future__ import annotations

import dataclasses
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import xxhash

from ntxengine.dataplane import journal
from ntxengine.dataplane.journal import Journal
from ntxengine.files import durable
from ntxengine.repository import interrupted, stored
from ntxengine.repository.interrupted import RESUME_FORMAT, RESUME_VERSION, StoredResume, StoredResumeDisk
from ntxengine.repository.stored import StoredDiskPoint, StoredGuestTools

VM = "11111111-2222-4333-8444-555555555555"
POINT = "20261123T041500Z-8f3a2c"
DISKS = ("aaaaaaaa-2222-4333-8444-555555555555", "bbbbbbbb-2222-4333-8444-555555555555")
FROZEN = datetime(2026, 11, 23, 4, 15, tzinfo=UTC)
SIZE = 1024**3

RESUME = StoredResume(
    format=RESUME_FORMAT,
    version=RESUME_VERSION,
    point_id=POINT,
    vm_id=VM,
    vm_name="db01 ünïcode\n",
    parent_id=None,
    recovery_point_id="rp",
    frozen_at=FROZEN,
    expires_at=FROZEN + timedelta(days=7),
    asked="--consistency auto",
    consistency="crash",
    consistency_reason="no Guest Tools",
    disks=tuple(StoredResumeDisk(disk, f"scsi.{n}", SIZE, StoredDiskPoint(disk)) for n, disk in enumerate(DISKS)),
    excluded=("vg:x",),
    guest_tools=StoredGuestTools(),
    times=2,
    bytes_done=5,
    in_vain=1,
    vm_config={"name": "db01", "odd": [None, 1.5]},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / VM / f".unfinished-{POINT}"
    folder.mkdir(parents=True)
    return folder


def write_plain(folder: Path, **changes: Any) -> None:
    """Write a record with a right checksum, whatever it says."""
    line = msgspec.json.encode({**msgspec.to_builtins(RESUME), **changes})
    (folder / "resume").write_bytes(line + b"\n" + xxhash.xxh3_128_hexdigest(line).encode() + b"\n")


def problem(folder: Path) -> str:
    (found,) = interrupted.find(folder.parent)
    assert found.resume is None
    assert found.has_record
    assert not found.can_be_resumed(FROZEN)
    assert len(found.problem.splitlines()) == 1
    return found.problem


def test_what_was_written_is_read(folder: Path) -> None:
    interrupted.write(folder, dataclasses.replace(RESUME, times=1))
    interrupted.write(folder, RESUME)

    (found,) = interrupted.find(folder.parent)

    assert found.resume == RESUME
    assert (found.point_id, found.vm_id, found.problem) == (POINT, VM, "")
    assert (found.bytes_done, found.bytes_total) == (0, 2 * SIZE)
    assert os.listdir(folder) == ["resume"]


def test_it_can_be_gone_on_with_until_its_recovery_point_expires(folder: Path) -> None:
    interrupted.write(folder, RESUME)

    (found,) = interrupted.find(folder.parent)

    assert found.can_be_resumed(RESUME.expires_at - timedelta(seconds=1))
    assert not found.can_be_resumed(RESUME.expires_at)


def test_a_point_whose_vm_was_not_frozen_has_no_record(folder: Path) -> None:
    (found,) = interrupted.find(folder.parent)

    assert (found.resume, found.has_record) == (None, False)
    assert "not frozen yet" in found.problem


def test_a_link_in_the_place_of_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    interrupted.write(folder, RESUME)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")

    (found,) = interrupted.find(folder.parent)

    assert (found.resume, found.has_record) == (None, False)


def test_a_link_in_the_place_of_the_record_is_not_followed(folder: Path, tmp_path: Path) -> None:
    interrupted.write(folder, RESUME)
    (folder / "resume").rename(tmp_path / "elsewhere")
    (folder / "resume").symlink_to(tmp_path / "elsewhere")

    assert "cannot be read" in problem(folder)


def test_what_is_no_file_is_one_line(folder: Path) -> None:
    (folder / "resume").mkdir()
    assert problem(folder)

    (folder / "resume").rmdir()
    os.mkfifo(folder / "resume")
    assert problem(folder)


def test_any_damage_is_one_clear_line(folder: Path) -> None:
    interrupted.write(folder, RESUME)
    whole = (folder / "resume").read_bytes()
    for size in range(0, len(whole), 7):
        (folder / "resume").write_bytes(whole[:size])
        assert "damaged" in problem(folder)
    for at in range(0, len(whole), 7):
        (folder / "resume").write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
        assert "damaged" in problem(folder)
    (folder / "resume").write_bytes(whole + b"\n")
    assert "damaged" in problem(folder)


_DISK = msgspec.to_builtins(RESUME)["disks"][0]


@pytest.mark.parametrize(
    "changes",
    [
        {"point_id": "20261123T041500Z-000000"},
        {"vm_id": DISKS[0]},
        {"disks": [{**_DISK, "disk_id": "../../etc"}]},
        {"disks": [{**_DISK, "disk_id": DISKS[0].upper()}]},
        {"disks": [_DISK, _DISK]},
        {"disks": [{**_DISK, "size": -1}]},
        {"disks": [{**_DISK, "size": 2**63}]},
        {"frozen_at": "2026-11-23T04:15:00"},
        {"expires_at": "2026-11-23T04:15:00"},
    ],
    ids=str,
)
def test_a_record_that_cannot_be_true_is_refused(changes: dict[str, Any], folder: Path) -> None:
    write_plain(folder, **changes)

    assert "is not of this point" in problem(folder)


@pytest.mark.parametrize(
    "changes",
    [{"times": "many"}, {"disks": None}, {"vm_config": []}, {"frozen_at": 5}, {"expires_at": "soon"}, {"asked": None}],
    ids=str,
)
def test_a_record_of_other_things_is_damaged(changes: dict[str, Any], folder: Path) -> None:
    write_plain(folder, **changes)

    assert "is damaged" in problem(folder)


def test_one_of_a_newer_version_is_refused_by_name(folder: Path) -> None:
    write_plain(folder, version=RESUME_VERSION + 1)

    assert f"version {RESUME_VERSION + 1}: this ntxengine cannot use it" in problem(folder)


def test_one_that_is_nested_without_end_is_damaged(folder: Path) -> None:
    line = b'{"disks":' + b"[" * 100_000
    (folder / "resume").write_bytes(line + b"\n" + xxhash.xxh3_128_hexdigest(line).encode() + b"\n")

    assert "is damaged" in problem(folder)


def test_a_folder_whose_name_is_no_point_is_never_gone_on_with(folder: Path) -> None:
    odd = folder.with_name(".unfinished-yesterday")
    folder.rename(odd)
    write_plain(odd, point_id="yesterday")

    assert "is not of this point" in problem(odd)


def test_bytes_are_counted_by_the_journals_that_can_be_read(folder: Path) -> None:
    interrupted.write(folder, RESUME)
    first, second = (folder / f"disk-{disk}.journal" for disk in DISKS)
    journal.write(first, Journal({}, SIZE, 65536))
    (found,) = interrupted.find(folder.parent)
    assert found.bytes_done == 65536

    second.write_bytes(b"half")
    (found,) = interrupted.find(folder.parent)
    assert found.bytes_done == 65536

    second.unlink()
    journal.write(second, Journal({}, 2**60, 2**60))  # more than the disk has
    (found,) = interrupted.find(folder.parent)
    assert found.bytes_done == 65536 + SIZE


def test_what_only_resuming_needs_is_removed_and_the_rest_stays(folder: Path) -> None:
    interrupted.write(folder, RESUME)
    kept = [f"disk-{DISKS[0]}.qcow2", f"disk-{DISKS[0]}.manifest", "point.json"]
    for name in (*kept, f"disk-{DISKS[0]}.journal", f"disk-{DISKS[0]}.changes"):
        (folder / name).write_bytes(b"x")

    interrupted.remove(folder)

    assert sorted(os.listdir(folder)) == sorted(kept)


def test_what_nobody_goes_on_with_is_removed(folder: Path) -> None:
    interrupted.write(folder, RESUME)
    names = [f"disk-{DISKS[0]}.{kind}" for kind in ("qcow2", "manifest", "changes", "journal")]
    for name in (*names, f"disk-{VM}.qcow2", "extents-00", ".resume.0011aabb.new", "point.json"):
        (folder / name).write_bytes(b"x")

    interrupted.clean(folder, {DISKS[0]})

    assert sorted(os.listdir(folder)) == sorted(["resume", *names])


def test_a_record_that_is_too_large_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupted, "_LIMIT", 100)
    interrupted.write(folder, RESUME)

    assert "100 at most are believed" in problem(folder)


def test_text_that_is_no_unicode_does_not_keep_it_from_being_written(folder: Path) -> None:
    interrupted.write(folder, dataclasses.replace(RESUME, vm_name="\udcff"))

    (found,) = interrupted.find(folder.parent)

    assert found.resume is not None
    assert (folder / "resume").stat().st_mode & 0o777 == durable.FILE_MODE
    assert stored.encode_line(found.resume)

"""Disks that boot say what they read; a machine that says nothing is ended in time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ntxengine.demo.bootable import GuestDisk, boot, check_tools, make_bootable, proved_digest
from ntxengine.errors import ToolError
from tests.support.booting import assert_boots


def test_disk_says_the_digest_of_what_was_written_last(tmp_path: Path) -> None:
    check_tools()
    disk = make_bootable(tmp_path / "disk, with a comma.raw", "bios", os.urandom(70_000))
    assert_boots(disk)

    written = disk.write_proof(os.urandom(100_000))

    assert written.digest != disk.digest
    assert_boots(written)


def test_disk_boots_by_uefi(tmp_path: Path) -> None:
    disk = make_bootable(tmp_path / "disk.raw", "uefi", os.urandom(70_000))

    assert_boots(disk)


def test_wrong_byte_is_told_in_the_digest(tmp_path: Path) -> None:
    proof = os.urandom(70_000)
    disk = make_bootable(tmp_path / "disk.raw", "bios", proof)
    data = bytearray(disk.path.read_bytes())
    data[data.index(proof[:512]) + 5] ^= 1
    disk.path.write_bytes(data)

    assert proved_digest(boot([GuestDisk(disk.path)])) != disk.digest


def test_machine_that_never_ends_is_ended_in_time(tmp_path: Path) -> None:
    empty = tmp_path / "empty.raw"
    empty.write_bytes(bytes(1024**2))
    pids: list[int] = []

    with pytest.raises(ToolError, match="did not switch itself off in 2 s"):
        boot([GuestDisk(empty)], timeout_s=2, started=pids.append)

    assert len(pids) == 1
    assert not Path(f"/proc/{pids[0]}").exists()


def test_machine_that_says_something_else_proves_nothing() -> None:
    with pytest.raises(ToolError, match="did not say what it is asked to"):
        proved_digest("Booting from Hard Disk...")

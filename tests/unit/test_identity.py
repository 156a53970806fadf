"""What lies on what, as the kernel tells it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ntxengine.files import identity
from ntxengine.files.identity import is_same
from tests.support.servers import loop_device


def test_a_partition_lies_on_its_disk_and_not_on_its_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "disk"):
        (tmp_path / name).write_bytes(bytes(4096))
    with (
        loop_device(tmp_path / "one") as one,
        loop_device(tmp_path / "two") as two,
        loop_device(tmp_path / "disk") as disk,
    ):
        numbers = {
            each: f"{os.major(number)}:{os.minor(number)}"
            for each in (one, two, disk)
            if (number := os.stat(each).st_rdev)
        }
        sysfs = tmp_path / "sysfs"
        for partition in (one, two):
            (sysfs / "devices" / numbers[partition]).mkdir(parents=True)
            (sysfs / "devices" / numbers[partition] / "partition").write_text("1\n")
            (sysfs / numbers[partition]).symlink_to(sysfs / "devices" / numbers[partition])
        (sysfs / "devices" / "dev").write_text(f"{numbers[disk]}\n")
        monkeypatch.setattr(identity, "_SYSFS", sysfs)

        assert is_same(Path(one), Path(disk))
        assert is_same(Path(disk), Path(two))
        assert not is_same(Path(one), Path(two))


def test_a_name_that_leads_nowhere_is_no_file_that_exists(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")

    assert not is_same(tmp_path / "file", tmp_path / "new")
    assert not is_same(tmp_path / "new", tmp_path / "newer")
    assert is_same(tmp_path / "new", tmp_path / "missing" / ".." / "new")

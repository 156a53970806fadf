"""The footer of a fixed VHD: what qemu reads, and what the specification says of each field."""

from __future__ import annotations

import os
import struct
import subprocess
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ntxengine.errors import OptionsError
from ntxengine.images.vhd import fixed_footer, geometry_of, rounded_size
from ntxengine.units import GIB, MIB, TIB
from tests.support.vmdk import qemu_equal, qemu_info

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
ID = uuid.UUID("a5a3a7e3-2a6d-4f33-8b1a-6a4f0a3b7c11")


@pytest.mark.parametrize("size", [3 * MIB, 17 * MIB, 64 * MIB])
def test_qemu_reads_the_disk_with_its_size(size: int, tmp_path: Path) -> None:
    raw, path = tmp_path / "d.raw", tmp_path / "d.vhd"
    raw.write_bytes(os.urandom(size))

    path.write_bytes(raw.read_bytes() + fixed_footer(size, unique_id=ID, made_at=NOW))

    qemu_equal(path, "vpc", raw)
    assert qemu_info(path, "vpc")["virtual-size"] == size


def test_footer_is_that_of_qemu_but_for_who_made_it(tmp_path: Path) -> None:
    path = tmp_path / "d.vhd"
    options = "subformat=fixed,force_size=on"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vpc", "-o", options, path, "64M"], check=True)
    theirs = path.read_bytes()[-512:]

    ours = fixed_footer(64 * MIB, unique_id=uuid.UUID(bytes=theirs[68:84]), made_at=NOW)

    # Not the time, the creator and its version, the checksum; nor the geometry, of which qemu says the largest where
    # the size is not to be taken from it.
    for start, end in ((0, 24), (36, 56), (60, 64), (84, 512)):
        assert ours[start:end] == theirs[start:end], (start, end)


def test_checksum_is_of_all_bytes_but_its_own() -> None:
    footer = fixed_footer(GIB, unique_id=ID, made_at=NOW)

    (found,) = struct.unpack_from(">I", footer, 64)
    assert found == ~(sum(footer) - sum(footer[64:68])) & 0xFFFFFFFF
    assert len(footer) == 512
    assert struct.unpack_from(">I", footer, 24)[0] == (NOW - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (3 * MIB, (90, 4, 17)),
        (64 * MIB, (963, 8, 17)),
        (GIB, (2080, 16, 63)),
        (127 * GIB, (65278, 16, 255)),
        (2040 * GIB, (65535, 16, 255)),
    ],
)
def test_geometry_is_that_of_the_specification(size: int, expected: tuple[int, int, int]) -> None:
    assert geometry_of(size) == expected


@pytest.mark.parametrize(
    ("size", "expected"), [(512, MIB), (MIB, MIB), (MIB + 512, 2 * MIB), (2040 * GIB - 512, 2040 * GIB)]
)
def test_size_is_rounded_to_whole_mib(size: int, expected: int) -> None:
    assert rounded_size(size, "d") == expected


@pytest.mark.parametrize("size", [0, 513, 2040 * GIB + 512, 4 * TIB])
def test_size_that_no_vhd_has_is_refused(size: int) -> None:
    with pytest.raises(OptionsError, match="VHD"):
        rounded_size(size, "disk scsi.0")

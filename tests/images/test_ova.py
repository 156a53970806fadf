"""OVAs: tar reads them, sha256sum believes their manifest, qemu and libvmdk their disks."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ntxengine.errors import SourceError, TargetError
from ntxengine.images import ova
from ntxengine.images.ova import OvaDisk, _File, member_of, write_ova
from ntxengine.images.qemu_nbd import QemuNbd
from ntxengine.images.served import Embedded
from ntxengine.units import GIB, MIB
from tests.support.cancelling import cancelled_within
from tests.support.vmdk import libvmdk_reads, qemu_equal

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def envelope(lengths: Sequence[int]) -> bytes:
    return f"<Envelope sizes='{' '.join(map(str, lengths))}'/>\n".encode()


def make_disks(folder: Path) -> list[OvaDisk]:
    disks = []
    for number, size in enumerate((2 * MIB + 512, 5 * MIB)):
        raw = folder / f"disk{number}.raw"
        raw.write_bytes(os.urandom(MIB) + bytes(size - 2 * MIB) + os.urandom(MIB))
        disks.append(OvaDisk(raw, size, f"vm-disk{number}.vmdk", "lsilogic", number))
    return disks


async def test_ova_is_read_by_others(tmp_path: Path) -> None:
    disks = make_disks(tmp_path)
    path = tmp_path / "vm.ova"
    progress: list[int] = []

    lengths = await write_ova(path, "vm", disks, envelope, made_at=NOW, on_progress=progress.append)

    listed = subprocess.run(["tar", "tf", path], check=True, capture_output=True, text=True).stdout.split()
    assert listed == ["vm.ovf", "vm.mf", "vm-disk0.vmdk", "vm-disk1.vmdk"]
    assert path.read_bytes()[257:263] == b"ustar\0"
    folder = tmp_path / "out"
    folder.mkdir()
    subprocess.run(["tar", "xf", path, "-C", folder], check=True)
    assert (folder / "vm.ovf").read_bytes().strip() == envelope(lengths).strip()
    assert tuple((folder / disk.name).stat().st_size for disk in disks) == lengths
    lines = (folder / "vm.mf").read_text().splitlines()
    told = dict(line.removeprefix("SHA256(").split(")= ") for line in lines)
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in listed if name != "vm.mf"}
    assert told == files
    for disk in disks:
        qemu_equal(folder / disk.name, "vmdk", disk.source)
        assert libvmdk_reads(folder / disk.name) == disk.source.read_bytes()
    assert progress[-1] == sum(disk.size for disk in disks)
    assert progress == sorted(progress)


@pytest.mark.parametrize("opening", [ova._File, ova._Source])
async def test_one_that_is_cancelled_as_it_opens_leaves_nothing_open(
    opening: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = write_ova(tmp_path / "vm.ova", "vm", make_disks(tmp_path), envelope, made_at=NOW)

    await cancelled_within(monkeypatch, opening, "__init__", work)

    assert [at for at in map(os.path.realpath, Path("/proc/self/fd").iterdir()) if at.startswith(str(tmp_path))] == []


async def test_disk_is_read_where_it_lies_in_the_ova(tmp_path: Path) -> None:
    disks = make_disks(tmp_path)
    path = tmp_path / "vm.ova"
    await write_ova(path, "vm", disks, envelope, made_at=NOW)

    offset, size = member_of(path, "vm-disk1.vmdk")
    async with QemuNbd(Embedded(path, offset, size), read_only=True) as server:
        copied = tmp_path / "copied.raw"
        subprocess.run(["nbdcopy", server.uri, copied], check=True)

    assert copied.read_bytes() == disks[1].source.read_bytes()


def test_member_that_is_not_there_is_said(tmp_path: Path) -> None:
    path = tmp_path / "vm.ova"
    path.write_bytes(bytes(10240))

    with pytest.raises(SourceError, match=r"vm\.vmdk cannot be found"):
        member_of(path, "vm.vmdk")


def test_member_of_eight_gib_and_more_has_its_length(tmp_path: Path) -> None:
    path = tmp_path / "vm.ova"
    size = 9 * GIB + 512
    file = _File(path, NOW)
    place = file.begin_member()
    file._at += size
    file.end_member(place, "large.vmdk", size)
    file.end()
    file.close()

    listed = subprocess.run(["tar", "tvf", path], check=True, capture_output=True, text=True).stdout
    assert str(size) in listed
    with tarfile.open(path) as tar:
        assert tar.getmember("large.vmdk").size == size


async def test_full_file_system_is_said(tmp_path: Path, small_fs) -> None:  # type: ignore[no-untyped-def]
    disks = make_disks(tmp_path)

    with pytest.raises(TargetError, match=r"No space left on device.*free some space"):
        await write_ova(small_fs("1M") / "vm.ova", "vm", disks, envelope, made_at=NOW)

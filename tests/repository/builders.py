"""Points with known bytes, made the way a capture makes them, and an oracle that computes digests without our core."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import xxhash

from ntxengine.dataplane.manifest import HEADER_SIZE, Manifest
from ntxengine.images.create import NewImage, make_image
from ntxengine.repository import (
    CaptureReport,
    DiskReport,
    Point,
    PointDisk,
    PointRecord,
    StoredDiskPoint,
    UnfinishedPoint,
)
from ntxengine.repository.store import PointStore
from ntxengine.repository.unfinished import BlockingUnfinishedPoint
from ntxengine.units import BLOCK_SIZE

VM = "0a1b2c3d-0000-4000-8000-00000000aa01"
OTHER_VM = "0a1b2c3d-0000-4000-8000-00000000aa02"
DISK = "d15c0000-0000-4000-8000-000000000001"
OTHER_DISK = "d15c0000-0000-4000-8000-000000000002"


@dataclass(frozen=True)
class Write:
    """`value` 0 writes zeroes as a capture does, not bytes."""

    offset: int
    length: int
    value: int


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 4, 15, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class ModelDisk:
    """What a disk should read as."""

    def __init__(self, size: int, contents: bytes = b"") -> None:
        self.data = bytearray(contents.ljust(size, b"\0"))

    def apply(self, writes: Iterable[Write]) -> ModelDisk:
        for write in writes:
            self.data[write.offset : write.offset + write.length] = bytes([write.value]) * write.length
        return self


def write_manifest(path: Path, data: bytes) -> str:
    """Write the manifest of `data` and return the disk digest."""
    with Manifest.create(path, size=len(data)) as manifest:
        digests = b"".join(_digest(data[at : at + BLOCK_SIZE]) for at in range(0, len(data), BLOCK_SIZE))
        with path.open("r+b") as file:
            file.seek(HEADER_SIZE)
            file.write(digests)
        return manifest.seal()


def _digest(block: bytes) -> bytes:
    return xxhash.xxh3_128_digest(block) if any(block) else bytes(16)


def write_image(path: Path, writes: Iterable[Write]) -> None:
    """Put bytes into an image with a tool that is not ours."""
    commands = []
    for write in writes:
        how = "-z" if write.value == 0 else f"-P {write.value}"
        commands += ["-c", f"write {how} {write.offset} {write.length}"]
    if commands:
        subprocess.run(["qemu-io", "-f", "qcow2", *commands, str(path)], check=True, capture_output=True)


def make(new: NewImage, format: str = "qcow2") -> Path:
    """Make an empty image, also for a test that has no event loop, or is in one."""
    with ThreadPoolExecutor(1) as apart:
        apart.submit(asyncio.run, make_image(new, format)).result()
    return new.path


def fill_disk(
    unfinished: BlockingUnfinishedPoint,
    disk_id: str,
    model: ModelDisk,
    writes: Iterable[Write],
    label: str,
    *,
    is_full: bool = False,
) -> PointDisk:
    """Make one disk of a point: on top of the parent's where that has it."""
    parent = unfinished.parent
    below = next((disk for disk in parent.disks if disk.disk_id == disk_id), None) if parent and not is_full else None
    path = make(unfinished.add_disk(disk_id, len(model.data), below))
    write_image(path, writes)
    digest = write_manifest(unfinished.manifest_path(disk_id), bytes(model.apply(writes).data))
    return unfinished.disk_entry(disk_id, label, digest)


def record_of(
    unfinished: BlockingUnfinishedPoint | UnfinishedPoint, disks: Iterable[PointDisk], *, vm_name: str = "db01"
) -> PointRecord:
    """Return a record of the point that fits."""
    disks = tuple(disks)
    is_incremental = any(disk.backing for disk in disks)
    return PointRecord(
        id=unfinished.id,
        vm_id=unfinished.vm_id,
        vm_name=vm_name,
        created_at=datetime(2026, 11, 23, 4, 15, tzinfo=UTC),
        parent_id=unfinished.parent.id if unfinished.parent and is_incremental else None,
        kind="incremental" if is_incremental else "full",
        consistency_requested="auto",
        consistency_obtained="crash",
        tracking="v4-changed-regions" if is_incremental else "allocated",
        tracking_reason="",
        recovery_point_id="1f000000-0000-4000-8000-000000000001",
        recovery_point_disks={disk.disk_id: StoredDiskPoint("x", disk.disk_id) for disk in disks},
        disks=disks,
        report=CaptureReport({disk.disk_id: DiskReport(bytes_read=disk.size) for disk in disks}),
    )


@contextmanager
def begin(repository: PointStore, vm_id: str, parent: Point | None) -> Iterator[BlockingUnfinishedPoint]:
    """Begin a point while its VM is locked; one that is not committed is aborted."""
    with repository.lock(vm_id) as lock, repository.begin(lock, parent) as unfinished:
        yield unfinished


def capture(
    repository: PointStore,
    model: ModelDisk,
    writes: Iterable[Write] = (),
    *,
    vm_id: str = VM,
    vm_name: str = "db01",
    on_top: bool = True,
    label: str = "scsi.0",
) -> Point:
    """Make a point of one disk, on top of the newest one; `model` follows."""
    writes = list(writes)
    with begin(repository, vm_id, repository.newest(vm_id) if on_top else None) as unfinished:
        disk = fill_disk(unfinished, DISK, model, writes, label)
        return unfinished.commit(record_of(unfinished, [disk], vm_name=vm_name), vm_config={"name": vm_name})


def write_sums_anew(point: Point) -> None:
    """Do what docs/troubleshooting.md says of files that are right although their digests are not."""
    sums = subprocess.run(
        ["sha256sum", "point.json", "report.json", "vm.json"], cwd=point.path, check=True, capture_output=True
    )
    (point.path / "SHA256SUMS").write_bytes(sums.stdout)


def read_image(path: Path, size: int) -> bytes:
    """Return what an image and all below it reads as, by plain qemu-img: what a person would do without us."""
    raw = path.with_name("plain.raw")
    try:
        subprocess.run(["qemu-img", "convert", "-O", "raw", str(path), str(raw)], check=True, capture_output=True)
        return raw.read_bytes()[:size]
    finally:
        raw.unlink(missing_ok=True)


def run_folders() -> set[Path]:
    """Return the folders that servers of this test have sockets in."""
    base = Path(tempfile.gettempdir())
    return {*base.glob("ntx-run-*"), *base.glob(".ntx-run-*")}

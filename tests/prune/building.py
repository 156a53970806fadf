"""Points of two disks, written at random by either writer, and what each of them must read as for ever."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.extents import make as extents
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.images.choice import ImageOptions
from ntxengine.images.create import create_image
from ntxengine.images.open import open_image
from ntxengine.repository import Point, PointDisk, retention_file
from ntxengine.repository.store import PointStore
from ntxengine.repository.unfinished import BlockingUnfinishedPoint
from tests.repository.builders import VM, Clock, ModelDisk, begin, record_of, write_manifest

DISKS = {
    "scsi.0": "d15c0000-0000-4000-8000-000000000001",
    "scsi.1": "d15c0000-0000-4000-8000-000000000002",
}
CLUSTER = 65536


@dataclass
class History:
    """A VM that is captured again and again.  `held` is what each disk of each point reads as.  `resizes` is how likely
    it is that a disk has another size than before."""

    store: PointStore
    clock: Clock
    random: random.Random
    size: int = 40 * CLUSTER + 512
    resizes: float = 0.1
    images: tuple[ImageOptions, ...] = (ImageOptions(), ImageOptions(zstd_level=1), ImageOptions(writer="qemu"))
    held: dict[tuple[str, str], bytes] = field(default_factory=dict)
    models: dict[str, ModelDisk] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)

    def capture(self, *, full: bool = False) -> Point:
        """Change both disks at random, and make a point of them."""
        self.clock.advance(3600)
        parent = None if full or not self.points else self.store.newest(VM)
        with begin(self.store, VM, parent) as unfinished:
            disks = [self._disk(unfinished, label, disk_id) for label, disk_id in DISKS.items()]
            point = unfinished.commit(record_of(unfinished, disks), vm_config={"name": "db01"})
        for label, model in self.models.items():
            self.held[point.id, DISKS[label]] = bytes(model.data)
        self.points.append(point)
        return point

    def forget(self, points: Collection[str]) -> None:
        """Forget points, by their ids."""
        retention_file.change(self.store.path / VM, lambda found: found.forget(points, self.clock()))

    def _disk(self, unfinished: BlockingUnfinishedPoint, label: str, disk_id: str) -> PointDisk:
        model = self.models.setdefault(label, ModelDisk(self.size))
        before = len(model.data)
        if self.random.random() < self.resizes:
            self._resize(model)
        writes = self._writes(len(model.data))
        for at, length, value in writes:
            model.data[at : at + length] = _bytes(value, length)
        below = unfinished.parent.find_disk(disk_id) if unfinished.parent else None
        if below is None:
            places = [(0, len(model.data), 0)]
        else:
            shrunk_or_grown = [(min(before, len(model.data)) // CLUSTER * CLUSTER, len(model.data))]
            places = _blocks([(at, at + length) for at, length, _ in writes] + shrunk_or_grown, len(model.data))
        new = unfinished.add_disk(disk_id, len(model.data), below)
        image = self.random.choice(self.images)
        asyncio.run(_write(dataclasses.replace(new, options=image), image, bytes(model.data), places))
        digest = write_manifest(unfinished.manifest_path(disk_id), bytes(model.data))
        return unfinished.disk_entry(disk_id, label, digest, writer="ntx-qcow2/1")

    def _resize(self, model: ModelDisk) -> None:
        size = max(512, len(model.data) + self.random.choice((-3 * CLUSTER, -512, 512, 5 * CLUSTER)))
        model.data = model.data[:size].ljust(size, b"\0")

    def _writes(self, size: int) -> list[tuple[int, int, int]]:
        writes = []
        for _ in range(self.random.randint(0, 8) if self.points else 8):
            at = self.random.randrange(0, size, 512)
            length = min(self.random.choice((512, 4096, CLUSTER, 3 * CLUSTER)), size - at)
            writes.append((at, length, self.random.choice((0, 0, *range(1, 250)))))
        return writes


def _bytes(value: int, length: int) -> bytes:
    """Half of the values compress badly."""
    return random.Random(value).randbytes(length) if value % 2 else bytes([value]) * length


def _blocks(ranges: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int, int]]:
    blocks = sorted({block for begin, end in ranges for block in range(begin // CLUSTER, -(-end // CLUSTER))})
    return [(at, min(CLUSTER, size - at), 0) for at in (block * CLUSTER for block in blocks) if at < size]


async def _write(new, image: ImageOptions, data: bytes, places: list[tuple[int, int, int]]) -> None:  # type: ignore[no-untyped-def]
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        options = CopyOptions(connections=1, target_is_zero=not new.backing)
        async with open_source(file.name) as source, create_image(new, image.format, options) as written:
            await dataplane.copy(source, written.device, [extents(places)], options=options)
            await written.finish()


def restored(store: PointStore, point: Point, disk: PointDisk, folder: Path) -> bytes:
    """Return what a disk reads as, to us."""
    target = folder / "by-us.raw"
    target.unlink(missing_ok=True)

    async def read() -> None:
        async with open_image(store.images(point, disk)) as device, open_target(str(target), source=device) as opened:
            await dataplane.copy(device, opened.device, [dataplane.whole(device.size)], options=CopyOptions())

    asyncio.run(read())  # which makes a repr of what it returns, be it megabytes
    return target.read_bytes()[: disk.size]


def check_everything(
    history: History,
    folder: Path,
    *,
    points: int | None = None,
    with_forgotten: bool = False,
    is_over: bool = True,
    by_us: bool = False,
) -> None:
    """Check each disk of each point that there is: to us, to qemu, and to `qemu-img check`.

    `by_us`: what it reads as to us alone, which is quick.  `is_over`: each image records the one below that its point
    says; before that it may record the one that held the same before a merge.
    """
    there = history.store.points(VM, with_forgotten=with_forgotten)
    assert history.store.damaged() == []
    assert points is None or len(there) == points
    for point in there:
        assert len(point.disks) == len(DISKS)
        for disk in point.disks:
            image = point.image_path(disk)
            held = history.held[point.id, disk.disk_id]
            assert restored(history.store, point, disk, folder) == held
            if by_us:
                continue
            assert by_qemu(image, folder)[: disk.size] == held
            run("qemu-img", "check", "-q", image)
            chain = json.loads(run("qemu-img", "info", "--output=json", "--backing-chain", image))
            expected = [path.resolve() for path in history.store.images(point, disk)]
            assert not is_over or [(image.parent / each["filename"]).resolve() for each in chain] == expected


def by_qemu(image: Path | str, folder: Path) -> bytes:
    raw = folder / "by-qemu.raw"
    run("qemu-img", "convert", "-O", "raw", image, raw)
    return raw.read_bytes()


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout

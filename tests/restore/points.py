"""Points of several disks, none like another, and what each of them should read as."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ntxengine.repository import Point
from ntxengine.repository.store import PointStore
from ntxengine.units import BLOCK_SIZE, MIB
from tests.repository.builders import VM, ModelDisk, Write, begin, fill_disk, record_of
from tests.support.servers import loop_device

OLD = b"\xa5"
"""What is everywhere before a restore."""

LABELS = ("scsi.0", "scsi.1", "scsi.2")
SIZES = (3 * MIB + 512, 2 * MIB, 5 * MIB + BLOCK_SIZE // 2)


class SeveralDisks:
    """`point` is an increment of disks with `labels`; `models` are their bytes, by label."""

    def __init__(self, repository: PointStore, labels: Sequence[str] = LABELS, sizes: Sequence[int] = SIZES) -> None:
        self.ids = [f"d15c0000-0000-4000-8000-00000000000{number}" for number in range(1, len(labels) + 1)]
        self.labels = list(labels)
        self.sizes = dict(zip(labels, sizes, strict=True))
        self.models = {label: ModelDisk(size) for label, size in self.sizes.items()}
        for round_ in range(2):
            with begin(repository, VM, repository.newest(VM)) as unfinished:
                disks = [
                    fill_disk(unfinished, disk_id, self.models[label], self._writes(number, label, round_), label)
                    for number, (disk_id, label) in enumerate(zip(self.ids, labels, strict=True), 1)
                ]
                self.point: Point = unfinished.commit(record_of(unfinished, disks), vm_config={"name": "db01"})

    def _writes(self, number: int, label: str, round_: int) -> list[Write]:
        size = self.sizes[label]
        if round_ == 0:  # its first and its last MiB; a hole between them
            return [Write(0, MIB, 16 * number), Write(size - MIB + BLOCK_SIZE, MIB - BLOCK_SIZE, 16 * number + 1)]
        return [Write(BLOCK_SIZE, BLOCK_SIZE, 0), Write(3 * BLOCK_SIZE + 512, 512, 16 * number + 2)]

    def data(self, label: str) -> bytes:
        return bytes(self.models[label].data)

    def is_in(self, path: Path | str, label: str) -> bool:
        """Say whether a file or a device begins with the bytes of a disk."""
        data = self.data(label)
        with open(path, "rb") as file:
            return file.read(len(data)) == data


def flip(several: SeveralDisks, label: str, *, value: int | None = None) -> Callable[[], object]:
    """Let a byte of a disk rot where it lies in an image; return what mends it.  `value`: of what its block is full."""
    number = several.labels.index(label) + 1
    image = several.point.image_path(several.point.disk(label))
    before = image.read_bytes()
    data = bytearray(before)
    data[data.index(bytes([16 * number + 2 if value is None else value]) * 512) + 100] ^= 64
    image.write_bytes(data)
    return lambda: image.write_bytes(before)


def full_of(path: Path, size: int) -> Path:
    """Make a file whose every byte is not what will be there."""
    path.write_bytes(OLD * size)
    return path


@contextmanager
def device(folder: Path, size: int) -> Iterator[tuple[str, Path]]:
    """Give a block device that is full of old bytes, and the file behind it."""
    file = full_of(folder / "behind", size)
    with loop_device(file) as path:
        yield path, file

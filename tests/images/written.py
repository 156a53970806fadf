"""Images written by the core, for tests that hold all kinds of them to the same facts.

What an image holds is read with qemu-img, never with ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import make as extents
from ntxengine.dataplane.open import open_source
from ntxengine.images.choice import ImageOptions
from ntxengine.images.create import ImageWriter, NewImage, create_image, reopen_image
from ntxengine.units import BLOCK_SIZE
from tests.support.servers import qemu_img

Rows = list[tuple[int, int, int]]
"""Extents: offset, length, flags."""

CLUSTER = 65536
L2_BYTES = 512 << 20
"""Of the disk, for one L2 table."""


@dataclass(frozen=True)
class Kind:
    """A kind of image that the core writes."""

    name: str
    format: str
    zstd_level: int = 0

    def create(self, new: NewImage, options: CopyOptions) -> AbstractAsyncContextManager[ImageWriter]:
        return create_image(self._chosen(new), self.format, options)

    def reopen(self, new: NewImage, options: CopyOptions, stored_to: int) -> AbstractAsyncContextManager[ImageWriter]:
        return reopen_image(self._chosen(new), self.format, options, stored_to=stored_to)

    def _chosen(self, new: NewImage) -> NewImage:
        return replace(new, options=ImageOptions(zstd_level=self.zstd_level))

    def __str__(self) -> str:
        return self.name


PLAIN = Kind("plain", "qcow2")
ZSTD = Kind("zstd", "qcow2", 1)
KINDS = [PLAIN, ZSTD]
"""All that the core writes: a new kind is a row here."""

BY_QEMU = Kind("by qemu", "qcow2-by-qemu")
"""The oracle."""


async def write(image: ImageWriter, source: Path, rows: Iterable[tuple[int, int, int]], options: CopyOptions) -> None:
    """Copy extents of a raw file to the same places of the image."""
    async with open_source(str(source)) as device:
        await copy(device, image.device, [extents(rows)], options=options)


def split_at(rows: Rows, place: int) -> tuple[Rows, Rows]:
    """Return what of the extents is before a place, and what is behind it."""
    before = [(at, min(length, place - at), flags) for at, length, flags in rows if at < place]
    behind = [
        (max(at, place), at + length - max(at, place), flags) for at, length, flags in rows if at + length > place
    ]
    return before, behind


def bytes_of(path: Path, size: int) -> bytes:
    """Return what a disk of `size` bytes reads as; what its image has behind that is zero."""
    plain = path.with_name("plain")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", str(path), str(plain))
    data = plain.read_bytes()
    plain.unlink()
    assert not any(data[size:])
    return data[:size]


def check(*paths: Path) -> None:
    """Let qemu-img look for damage, and for clusters that nothing refers to."""
    for path in paths:
        qemu_img("check", "-q", "-f", "qcow2", str(path))


def blocks_of(rows: Rows) -> set[int]:
    """Return the numbers of the blocks that extents touch."""
    return {
        block for at, length, _ in rows for block in range(at // BLOCK_SIZE, -(-(at + length) // BLOCK_SIZE)) if length
    }


def clusters_of_tables(size: int, data: int, l2_tables: int) -> int:
    """Return how many clusters an image has beside `data` of the disk: header, tables, counts (of a small file)."""
    l1 = -(-size // L2_BYTES) * 8
    return 1 + l2_tables + -(-l1 // CLUSTER) + 2


def blocks_in(path: Path, size: int) -> set[int]:
    """Return the blocks that the image has itself, as qemu-img maps it, and check that it maps all of the disk."""
    at, here = 0, set()
    for extent in json.loads(qemu_img("map", "-f", "qcow2", "--output=json", str(path))):
        assert extent["start"] == at
        at += extent["length"]
        if extent["depth"] == 0 and extent["present"]:
            here |= blocks_of([(extent["start"], extent["length"], 0)])
    assert at == -(-size // 512) * 512
    return here

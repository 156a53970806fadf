"""A bit flipped anywhere in the image of a point, as our writer makes it: found, and nothing wrong is ever restored.

Some in `make test`; `make soak` sets NTX_FLIPS and NTX_SOAK_SEED for more.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from ntxengine.dataplane.copy import CopyOptions
from ntxengine.errors import NtxError
from ntxengine.images.create import NewImage
from ntxengine.repository import Point, Repository
from ntxengine.repository.store import PointStore
from ntxengine.restore import restore
from ntxengine.units import BLOCK_SIZE
from ntxengine.verify import verify_point
from tests.images.written import CLUSTER, KINDS, PLAIN, Kind, Rows, write
from tests.repository.builders import DISK, VM, begin, record_of, write_manifest

FLIPS = int(os.environ.get("NTX_FLIPS", "24"))
SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))
SIZE = 9 * BLOCK_SIZE + 512
OPTIONS = CopyOptions(connections=1, request_size=BLOCK_SIZE, timeout_s=60)
HEADER = 112


@dataclass(frozen=True)
class Place:
    """A part of an image: its bytes from `at` on.  In one that `matters` each bit does."""

    name: str
    at: int
    length: int
    matters: bool = True


def add_point(store: PointStore, kind: Kind, data: bytes, rows: Rows, source: Path) -> Point:
    """Make a point of one disk on top of the newest one, its image as a capture writes it."""
    source.write_bytes(data)

    async def fill(new: NewImage) -> None:
        async with kind.create(new, OPTIONS) as image:
            await write(image, source, rows, OPTIONS)
            await image.finish()

    with begin(store, VM, store.newest(VM)) as unfinished:
        below = unfinished.parent.disk(DISK) if unfinished.parent else None
        new = unfinished.add_disk(DISK, len(data), below)
        with ThreadPoolExecutor(1) as apart:
            apart.submit(asyncio.run, fill(new)).result()
        digest = write_manifest(unfinished.manifest_path(DISK), data)
        disks = [unfinished.disk_entry(DISK, "scsi.0", digest)]
        return unfinished.commit(record_of(unfinished, disks), vm_config={"name": "db01"})


def places_of(image: bytes, kind: Kind, blocks: list[int]) -> Iterator[Place]:
    """Return the parts of an image that has these blocks of the disk."""
    l1, counts_table = (int.from_bytes(image[at : at + 8]) for at in (40, 48))
    l2, counts = (int.from_bytes(image[at : at + 8]) & 0x00FFFFFFFFFFFE00 for at in (l1, counts_table))
    yield Place("header", 0, HEADER, matters=False)
    yield Place("L1", l1, 8)
    # A compressed cluster that claims more sectors than its frame has is read all the same.
    yield Place("L2", l2 + 8 * blocks[0], 8 * len(blocks), matters=kind is PLAIN)
    yield Place("table of counts", counts_table, 8)
    yield Place("counts", counts, 2 * (len(image) // CLUSTER))
    yield Place("data", CLUSTER, CLUSTER if kind is PLAIN else l2 - CLUSTER, matters=kind is PLAIN)


async def restored(store: PointStore, point: Point, out: Path) -> bytes | None:
    """Return what is restored, None if that is refused."""
    try:
        await restore(Repository(store), point, out)
    except NtxError:
        assert list(out.iterdir()) == []
        return None
    finally:
        found = [path.read_bytes() for path in out.iterdir()] if out.exists() else []
        shutil.rmtree(out, ignore_errors=True)
    return found[0]


async def is_found(store: PointStore, point: Point, image: Path) -> bool:
    """Return whether ntx verify or qemu-img check finds something."""
    checked = subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", image], capture_output=True)
    try:
        return not (await verify_point(Repository(store), point)).is_right or checked.returncode != 0
    except NtxError:
        return True


@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_no_flipped_bit_gives_wrong_bytes(repository: PointStore, tmp_path: Path, kind: Kind) -> None:
    chance = random.Random(f"{SEED} {kind}")
    compressible = chance.randbytes(1024) * (BLOCK_SIZE // 1024)
    below = compressible * 4 + chance.randbytes(SIZE - 4 * BLOCK_SIZE)
    above = chance.randbytes(BLOCK_SIZE) + compressible[::-1] + below[2 * BLOCK_SIZE :]
    full = add_point(repository, kind, below, [(0, SIZE, 0)], tmp_path / "source")
    point = add_point(repository, kind, above, [(0, 2 * BLOCK_SIZE, 0)], tmp_path / "source")
    assert await restored(repository, point, tmp_path / "out") == above

    for number in range(FLIPS):
        damaged, blocks = ((full, [3, 4, 5]), (point, [0, 1]))[number % 2]
        image = damaged.image_path(damaged.disk(DISK))
        right = image.read_bytes()
        parts = list(places_of(right, kind, blocks))
        place = parts[number // 2 % len(parts)]
        at, bit = place.at + chance.randrange(place.length), 1 << chance.randrange(8)
        wrong = bytearray(right)
        wrong[at] ^= bit
        image.write_bytes(wrong)

        found = await is_found(repository, damaged, image)
        got = await restored(repository, damaged, tmp_path / "out")

        assert got in (None, above if damaged is point else below), (place, at, bit)
        assert found or (got is not None and not place.matters), (place, at, bit)
        image.write_bytes(right)

"""Random chains of images, written by the core and by qemu: both hold what they should, to the byte.

A hundred in `make test`; `make soak` sets NTX_IMAGE_ROUNDS and NTX_SOAK_SEED for more.
"""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.extents import ZERO
from ntxengine.images.create import NewImage
from ntxengine.images.writer import map_of
from ntxengine.units import BLOCK_SIZE, MIB
from tests.images.dying import LostError
from tests.images.written import BY_QEMU, KINDS, Kind, Rows, blocks_in, blocks_of, bytes_of, check, split_at, write
from tests.support.servers import qemu_img

pytestmark = pytest.mark.slow

PARTS = 4
"""Tests that share the rounds, for processes that share the tests."""

ROUNDS = int(os.environ.get("NTX_IMAGE_ROUNDS", "100")) // PARTS // len(KINDS)
SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))


@dataclass
class Level:
    """An image to be: what changed since the one below, and how it is written."""

    data: bytes
    changed: Rows
    options: CopyOptions
    stored_to: int | None
    """Where a checkpoint is made, and the writer lost; None: it comes to its end."""


@dataclass
class Chance:
    """What is made up at random."""

    random: random.Random
    levels: list[Level] = field(default_factory=list)

    def size(self, least: int) -> int:
        size = max(least, self.random.choice([1, 511, 512, BLOCK_SIZE, self.random.randrange(3 * MIB)]))
        if self.random.random() < 0.5:
            size = max(least, size // BLOCK_SIZE * BLOCK_SIZE)
        return max(1, size)

    def changes(self, size: int) -> Rows:
        """Return extents, ascending: short and long, touching or not, on borders of blocks or not."""
        rows: Rows = []
        at = 0
        typical = self.random.choice([100, 5000, BLOCK_SIZE, 5 * BLOCK_SIZE])
        while at < size and len(rows) < 300:
            at += self.random.choice([0, 0, 1, self.random.randrange(4 * typical)])
            length = self.random.choice([1, 512, typical, self.random.randrange(1, 2 * typical)])
            if self.random.random() < 0.3:
                at, length = -(-at // BLOCK_SIZE) * BLOCK_SIZE, -(-length // BLOCK_SIZE) * BLOCK_SIZE
            if at < size:
                rows.append((at, min(length, size - at), self.random.choice([0, 0, ZERO])))
            at += length
        return rows

    def contents(self, length: int) -> bytes:
        """Return bytes that can be compressed well, a little, or not."""
        once = self.random.randbytes(self.random.choice([1, 100, length // 2 + 1, length]))
        return (once * (length // len(once) + 1))[:length]

    def level(self) -> Level:
        below = self.levels[-1].data if self.levels else b""
        size = self.size(len(below))
        data = bytearray(below.ljust(size, b"\0"))
        changed = self.changes(size)
        for at, length, flags in changed:
            is_zero = flags == ZERO or self.random.random() < 0.2
            data[at : at + length] = bytes(length) if is_zero else self.contents(length)
        options = CopyOptions(
            connections=self.random.randint(1, 4),
            request_size=self.random.choice([1, 2, 3, 16, 64, 512]) * BLOCK_SIZE,
            timeout_s=60,
        )
        stored_to = self.random.randrange(size + BLOCK_SIZE) // BLOCK_SIZE * BLOCK_SIZE
        return Level(bytes(data), changed, options, stored_to if self.random.random() < 0.5 else None)


async def write_level(kind: Kind, new: NewImage, level: Level, source: Path) -> None:
    """Write an image; where it has a checkpoint, lose what was written behind that, and go on from there."""
    before, behind = split_at(level.changed, len(level.data) if level.stored_to is None else level.stored_to)
    try:
        async with kind.create(new, level.options) as image:
            await write(image, source, before, level.options)
            if level.stored_to is None:
                await image.finish()
                return
            await image.checkpoint()
            await write(image, source, behind[::2], level.options)
            raise LostError
    except LostError:
        pass
    async with kind.reopen(new, level.options, min(level.stored_to, len(level.data))) as image:
        await write(image, source, behind, level.options)
        await image.finish()


async def write_chain(kind: Kind, folder: Path, levels: list[Level]) -> list[Path]:
    """Write images on top of each other; return them, the newest first."""
    chain: list[Path] = []
    for number, level in enumerate(levels):
        source = folder / "source"
        source.write_bytes(level.data)
        new = NewImage(folder / str(number), len(level.data), chain[0].name if chain else "", tuple(chain))
        await write_level(kind, new, level, source)
        chain.insert(0, new.path)
    return chain


def check_chain(chain: list[Path], levels: list[Level]) -> None:
    """Check that the newest image holds the disk, and has itself what was written and no more."""
    newest, size = levels[-1], len(levels[-1].data)
    assert bytes_of(chain[0], size) == newest.data
    touched = blocks_of(newest.changed)
    if len(levels) == 1:
        touched = {n for n in touched if any(newest.data[n * BLOCK_SIZE : (n + 1) * BLOCK_SIZE])}
    assert blocks_in(chain[0], size) == touched
    check(*chain)
    assert not any(map_of(path).exists() for path in chain)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_ours_and_that_of_qemu_are_the_same_disk(tmp_path: Path, kind: Kind, part: int) -> None:
    for number in range(ROUNDS):
        chance = Chance(random.Random(f"{SEED} {kind} {part} {number}"))
        for _ in range(chance.random.choice([1, 1, 2, 3, 4])):
            chance.levels.append(chance.level())
        ours, theirs = tmp_path / "ours", tmp_path / "theirs"
        ours.mkdir()
        theirs.mkdir()

        chain = await write_chain(kind, ours, chance.levels)
        by_qemu = await write_chain(BY_QEMU, theirs, chance.levels)

        check_chain(chain, chance.levels)
        qemu_img("compare", "-f", "qcow2", "-F", "qcow2", str(chain[0]), str(by_qemu[0]))
        shutil.rmtree(ours)
        shutil.rmtree(theirs)

"""Every block is where it belongs, once, whatever the size of a request."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ntxengine.dataplane.copy import CopyOptions
from ntxengine.images.create import NewImage
from ntxengine.units import BLOCK_SIZE, MIB
from tests.images.written import CLUSTER, KINDS, PLAIN, ZSTD, Kind, Rows, blocks_in, bytes_of, check, write

BLOCKS = 40 * MIB // BLOCK_SIZE
SIZE = BLOCKS * BLOCK_SIZE + 512
TABLES = 5
"""Clusters of an image of a small disk: header, an L2 table, the L1 table, the table of counts, counts."""


def pattern(seed: int) -> bytes:
    """Return a disk of which each block is full of its own offset."""
    blocks = (struct.pack("<QQ", n * BLOCK_SIZE, seed) * (BLOCK_SIZE // 16) for n in range(BLOCKS + 1))
    return b"".join(blocks)[:SIZE]


def across_each_border() -> Rows:
    """Return extents of two bytes, half on each side of each border of a block."""
    return [(n * BLOCK_SIZE - 1, 2, 0) for n in range(1, BLOCKS + 1)]


@pytest.mark.parametrize("request_size", [BLOCK_SIZE, 3 * BLOCK_SIZE, MIB, 32 * MIB])
@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_each_block_is_exact(tmp_path: Path, kind: Kind, request_size: int) -> None:
    options = CopyOptions(connections=2, request_size=request_size, timeout_s=60)
    source = tmp_path / "source"
    below = NewImage(tmp_path / "below", SIZE)
    above = NewImage(tmp_path / "above", SIZE, "below", (below.path,))

    for new, seed, rows in ((below, 1, [(0, SIZE, 0)]), (above, 2, across_each_border())):
        source.write_bytes(pattern(seed))
        async with kind.create(new, options) as image:
            await write(image, source, rows, options)
            await image.finish()

        assert bytes_of(new.path, SIZE) == source.read_bytes()
        assert blocks_in(new.path, SIZE) == set(range(BLOCKS + 1))
        if kind is PLAIN:  # none was written twice
            assert new.path.stat().st_size == (BLOCKS + 1 + TABLES) * CLUSTER
    check(below.path, above.path)


@pytest.mark.parametrize("kind", [PLAIN], ids=str)
@pytest.mark.parametrize("request_size", [BLOCK_SIZE, 32 * MIB])
async def test_a_thousand_extents_in_a_block_are_one_cluster(tmp_path: Path, kind: Kind, request_size: int) -> None:
    options = CopyOptions(connections=4, request_size=request_size, timeout_s=60)
    source = tmp_path / "source"
    source.write_bytes(pattern(3))
    new = NewImage(tmp_path / "image", SIZE)
    rows = [(at + 64 * n, 32, 0) for at in (BLOCK_SIZE, 7 * BLOCK_SIZE) for n in range(1000)]

    async with kind.create(new, options) as image:
        await write(image, source, rows, options)
        await image.finish()

    assert blocks_in(new.path, SIZE) == {1, 7}
    assert new.path.stat().st_size == (2 + TABLES) * CLUSTER


async def test_a_thousand_extents_in_a_block_are_compressed_once(tmp_path: Path) -> None:
    options = CopyOptions(connections=1, request_size=BLOCK_SIZE, timeout_s=60)
    source = tmp_path / "source"
    source.write_bytes(pattern(3))
    new = NewImage(tmp_path / "image", SIZE)

    async with ZSTD.create(new, options) as image:
        await write(image, source, [(BLOCK_SIZE + 64 * n, 32, 0) for n in range(1000)], options)
        await image.finish()

    assert blocks_in(new.path, SIZE) == {1}
    assert new.path.stat().st_size == (1 + TABLES) * CLUSTER

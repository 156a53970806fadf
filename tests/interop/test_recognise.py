"""A source is recognised by its bytes."""

import os
import random
from pathlib import Path

import pytest

from ntxengine.dataplane.copy import CopyOptions, digest
from ntxengine.dataplane.extents import ZERO, make
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source
from ntxengine.dataplane.recognise import holds_what_was_copied

SIZE = (4 << 20) + 512


async def is_recognised(path: Path, manifest: Manifest, stored_to: int) -> bool:
    async with open_source(str(path)) as source:
        return await holds_what_was_copied(
            source, manifest, stored_to=stored_to, options=CopyOptions(), chance=random.Random(1)
        )


@pytest.mark.parametrize("stored_to", [0, 65536, 4 << 20, SIZE])
async def test_it_is_what_it_was(tmp_path: Path, stored_to: int) -> None:
    path = tmp_path / "disk"
    path.write_bytes(random.Random(2).randbytes(SIZE // 2) + bytes(SIZE - SIZE // 2))
    with Manifest.create(tmp_path / "m", size=SIZE) as manifest:
        async with open_source(str(path)) as source:
            await digest(source, manifest, options=CopyOptions())

        assert await is_recognised(path, manifest, stored_to)

        path.write_bytes(random.Random(3).randbytes(SIZE))  # another disk, at the same path
        assert await is_recognised(path, manifest, stored_to) is (stored_to == 0)


async def test_a_change_of_the_last_block_that_was_stored_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(random.Random(2).randbytes(SIZE))
    with Manifest.create(tmp_path / "m", size=SIZE) as manifest:
        async with open_source(str(path)) as source:
            await digest(source, manifest, options=CopyOptions())
        with open(path, "r+b") as file:
            file.seek(SIZE - 1)
            file.write(b"\0")

        assert not await is_recognised(path, manifest, SIZE)
        assert await is_recognised(path, manifest, 4 << 20)  # it lies behind


async def test_a_disk_that_is_empty_for_the_most_part_is_told_from_an_empty_one(tmp_path: Path) -> None:
    path, size = tmp_path / "disk", 256 << 20
    with open(path, "wb") as file:
        file.seek(100 << 20)
        file.write(b"data")
        file.truncate(size)
    with Manifest.create(tmp_path / "m", size=size) as manifest:
        async with open_source(str(path)) as source:
            await digest(source, manifest, options=CopyOptions())

        assert await is_recognised(path, manifest, size)

        path.write_bytes(b"")
        os.truncate(path, size)
        assert not await is_recognised(path, manifest, size)


async def test_only_blocks_that_were_copied_whole_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(random.Random(2).randbytes(SIZE))
    copied = [make([(0, 100, 0), (65536 + 512, 65536, 0)]), make([(262144, 131072, 0), (1 << 20, 65536, ZERO)])]
    with Manifest.create(tmp_path / "m", size=SIZE) as manifest:
        async with open_source(str(path)) as source:
            await digest(source, manifest, options=CopyOptions(), extents=copied)

            async def is_same(stored_to: int) -> bool:
                return await holds_what_was_copied(
                    source,
                    manifest,
                    stored_to=stored_to,
                    options=CopyOptions(),
                    chance=random.Random(1),
                    extents=lambda: copied,
                )

            with open(path, "r+b") as file:
                for other in (0, 65536 + 512, 393216, 1 << 20):
                    file.seek(other)
                    file.write(b"another")
            assert await is_same(SIZE)

            with open(path, "r+b") as file:
                file.seek(327680)
                file.write(b"another")
            assert not await is_same(SIZE)
            assert await is_same(327680)

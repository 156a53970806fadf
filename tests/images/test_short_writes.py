"""A raw file that takes a part of a write gets the rest of it too, to the right place: images, as changes that fail."""

from __future__ import annotations

import asyncio
import errno
import os
from itertools import count
from pathlib import Path

from ntxengine.dataplane.copy import CopyOptions
from ntxengine.errors import NtxError
from ntxengine.images.create import NewImage, create_image
from ntxengine.units import BLOCK_SIZE
from tests.images.written import write
from tests.support import faulty
from tests.support.faulty import FaultyDisk

SIZE = 2 * BLOCK_SIZE
REQUEST = 32 << 10
"""Of a write, so that it takes several requests: of which the kernel makes what nobody expects, if one is short."""


async def write_raw(path: Path, source: Path) -> str | None:
    """Write, and return what went wrong."""
    options = CopyOptions(connections=1, request_size=BLOCK_SIZE)
    try:
        async with create_image(NewImage(path, SIZE), "raw", options) as image:
            await write(image, source, [(0, SIZE, 0)], options)
            await image.finish()
    except NtxError as exc:
        return str(exc)
    return None


def test_a_raw_file_written_in_part_is_the_disk_or_an_error(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(SIZE))
    whole = 0
    with FaultyDisk(tmp_path, request_size=REQUEST) as disk:
        for number in count():
            stored = disk.folder / f"disk-{number}"
            disk.plan.begin(number, faulty.IS_SHORT, errno.EIO)
            error = asyncio.run(write_raw(disk.path / stored.name, source))
            if error is None:
                assert stored.read_bytes() == source.read_bytes()
                whole += 1
            else:
                assert str(disk.path / stored.name) in error
                assert not stored.exists()
            if not disk.plan.has_happened:
                break
            stored.unlink(missing_ok=True)
    assert number > SIZE // REQUEST
    assert whole > 1  # some parts were added to, not all failed

"""The bytes that are copied: made from a seed, the same on every machine, and their digest known without the engine.

The digest is computed here, by the PyPI package xxhash over what was meant to be written, as docs/repository.md defines
it.  It therefore proves what the engine read, tested, digested and sent.
"""

from __future__ import annotations

import os
import random
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import xxhash

from ntxengine.bench.suite import Disk
from ntxengine.errors import ToolError
from ntxengine.units import BLOCK_SIZE, MIB

Kind = Literal["data", "zeros", "hole"]

_DIGEST_SIZE = 16


@dataclass(frozen=True)
class DiskFile:
    """A raw file.  `digests`: of its blocks, in order; zeros for a block that is zero."""

    path: Path
    size: int
    digests: bytes

    @property
    def bytes_data(self) -> int:
        """Bytes that have to be sent: blocks that are not zero."""
        starts = range(0, len(self.digests), _DIGEST_SIZE)
        return BLOCK_SIZE * sum(self.digests[at : at + _DIGEST_SIZE] != bytes(_DIGEST_SIZE) for at in starts)

    @property
    def digest(self) -> str:
        """The digest of the whole disk, in hex."""
        return xxhash.xxh3_128(self.digests + struct.pack("<Q", self.size)).hexdigest()


def make_disk(path: Path, disk: Disk, *, seed: str) -> DiskFile:
    """Write the file that `disk` describes.

    Errors: ToolError if there is no room.
    """
    count = disk.size // disk.run
    data, zeros = count * disk.data // 100, count * disk.zeros // 100
    kinds = _shuffled(seed, data=data, zeros=zeros, hole=count - data - zeros)
    return _write(path, disk, kinds, seed)


def make_layer(path: Path, disk: Disk, base: DiskFile, *, changed: int, seed: str) -> DiskFile:
    """Write a file that holds new data in `changed` percent of its runs, and holes.

    The digests are those of the disk that it makes on top of `base`.
    """
    count = disk.size // disk.run
    data = count * changed // 100
    kinds = _shuffled(seed, data=data, zeros=0, hole=count - data)
    layer = _write(path, disk, kinds, seed)
    step = disk.run // BLOCK_SIZE * _DIGEST_SIZE
    merged = b"".join(
        (layer if kind == "data" else base).digests[number * step : (number + 1) * step]
        for number, kind in enumerate(kinds)
    )
    return DiskFile(path, disk.size, merged)


def warm(path: Path) -> None:
    """Read a file once, so that it is in the page cache as far as there is room."""
    with path.open("rb", buffering=0) as file:
        while file.read(MIB):
            pass


def _shuffled(seed: str, *, data: int, zeros: int, hole: int) -> list[Kind]:
    data_runs: list[Kind] = ["data"] * data
    zero_runs: list[Kind] = ["zeros"] * zeros
    holes: list[Kind] = ["hole"] * hole
    kinds = data_runs + zero_runs + holes
    random.Random(seed).shuffle(kinds)
    return kinds


def _write(path: Path, disk: Disk, kinds: list[Kind], seed: str) -> DiskFile:
    digests = bytearray()
    zeros, no_digests = bytes(disk.run), bytes(disk.run // BLOCK_SIZE * _DIGEST_SIZE)
    try:
        with path.open("wb", buffering=0) as file:
            file.truncate(disk.size)
            for number, kind in enumerate(kinds):
                if kind == "data":
                    content = random.Random(f"{seed}/{number}").randbytes(disk.run)
                    digests += _digests(content)
                else:
                    content = zeros
                    digests += no_digests
                if kind != "hole":
                    file.seek(number * disk.run)
                    file.write(content)
            # What is dirty would be written back while others are timed.
            os.fsync(file.fileno())
    except OSError as exc:
        raise ToolError(f"{path}: the disk cannot be made: {exc.strerror}: give another --work-dir") from exc
    return DiskFile(path, disk.size, bytes(digests))


def _digests(content: bytes) -> bytes:
    view = memoryview(content)
    return b"".join(xxhash.xxh3_128_digest(view[at : at + BLOCK_SIZE]) for at in range(0, len(content), BLOCK_SIZE))

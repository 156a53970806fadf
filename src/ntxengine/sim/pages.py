"""A page of changed regions, and the window that it was asked for."""

from __future__ import annotations

from dataclasses import dataclass

SECTOR_SIZE = 512


@dataclass(frozen=True)
class Page:
    """Regions as (offset, length, is zero), the first changed offset not in them, and the size of the newer file.

    `data_type` is what a region that is not zero is called.
    """

    regions: list[tuple[int, int, bool]]
    next_offset: int | None
    size: int
    data_type: str = "REGULAR"


@dataclass(frozen=True)
class Window:
    """What to compute: [start, end) of the file, in blocks of `block_size`, at most `count` regions.

    `zeroes` lists unallocated ranges too when there is no reference.  `look_ahead` goes on past `end` to say where
    the next change is.
    """

    start: int = 0
    end: int | None = None
    block_size: int = SECTOR_SIZE
    count: int = 10_000
    zeroes: bool = False
    look_ahead: bool = False

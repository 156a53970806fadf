"""How long does it take from the pages of changed regions to extents that the core has taken, and in how much memory?

    python bench/scale/planning.py [--regions 10000000] [--save NAME]

Real code does all of it: page_v4() reads the body of an answer, find_changes() checks, sorts, merges and keeps the
regions in files, copy() feeds them to a job.  Making the pages is not counted.  Left out on purpose are the network
and the copying: for the job all extents are zero, and so is its target, so that it takes them and reads nothing.

`from_bytes` begins with the JSON, `from_arrays` with decoded pages.  The shapes of pages: `plain` has three keys a
region, `typed` an $objectType more, as Prism sends it; of `shuffled` the pages come in any order, so that regions are
sorted on disk.  Every seventh region is ZEROED.  Each is measured in a process of its own, because of the peak.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from measure import Spent, in_child, parser, peak_bytes, report, spending

from ntxengine.changes import ChangeQuery, Changes, find_changes
from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import EXTENT, ZERO, Extents
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.prism.models import DiskPoint, Family, RegionPage
from ntxengine.prism.regions import page_v4
from ntxengine.units import BLOCK_SIZE

PAGE_REGIONS = 10_000
ZEROED_EVERY = 7
LENGTH = BLOCK_SIZE
STRIDE = 2 * LENGTH
SHAPES = ("plain", "typed", "shuffled")


@dataclass
class Pages:
    """A Prism that has nothing but changed regions; counts what decoding them takes."""

    regions: int
    shape: str
    from_bytes: bool
    decoding: Spent = field(default_factory=Spent)
    making: Spent = field(default_factory=Spent)
    bytes_json: int = 0
    family: Family = "v4"

    @property
    def size(self) -> int:
        return self.regions * STRIDE

    async def changed_regions(self, disk: DiskPoint, reference: DiskPoint | None) -> AsyncIterator[RegionPage]:
        count = self.regions // PAGE_REGIONS
        order = np.random.default_rng(1).permutation(count) if self.shape == "shuffled" else np.arange(count)
        for number in order.tolist():
            with spending(self.making):
                made = self._body(number) if self.from_bytes else self._array(number)
            if isinstance(made, bytes):
                self.bytes_json += len(made)
                with spending(self.decoding):
                    page = page_v4(made, start=0, request="page")
                yield page
            else:
                yield RegionPage(made, self.size, None)

    def _array(self, page: int) -> Extents:
        numbers = np.arange(page * PAGE_REGIONS, (page + 1) * PAGE_REGIONS, dtype=np.uint64)
        found: Extents = np.empty(PAGE_REGIONS, dtype=EXTENT)
        found["offset"] = numbers * np.uint64(STRIDE)
        found["length"] = LENGTH
        found["flags"] = np.where(numbers % ZEROED_EVERY == 0, ZERO, 0)
        return found

    def _body(self, page: int) -> bytes:
        kind = '"$objectType":"dataprotection.v4.content.ChangedRegion",' if self.shape == "typed" else ""
        regions = ",".join(
            f'{{{kind}"offset":{i * STRIDE},"length":{LENGTH},'
            f'"regionType":"{"REGULAR" if i % ZEROED_EVERY else "ZEROED"}"}}'
            for i in range(page * PAGE_REGIONS, (page + 1) * PAGE_REGIONS)
        )
        extra = f'{{"extraInfo":[{{"name":"fileSize","value":"{self.size}"}}]}}'
        return f'{{"data":[{regions}],"metadata":{extra}}}'.encode()


async def plan(pages: Pages) -> dict[str, Any]:
    nobody = DiskPoint("", "", "")
    keeping, feeding = Spent(), Spent()
    with tempfile.TemporaryDirectory() as directory:
        query = ChangeQuery(pages, nobody, "disk", pages.size, Path(directory), print)
        with spending(keeping):
            changes = await find_changes(query, None, on_lost_tracking="fail")
        with changes.extents:
            check(changes, pages)
            with spending(feeding):
                fed = await feed(changes, pages.size)
    assert fed == pages.regions * LENGTH
    for inside in (pages.making, pages.decoding):
        keeping.wall_s -= inside.wall_s
        keeping.cpu_s -= inside.cpu_s
    stages = {"decode": pages.decoding, "spool, merge, keep": keeping, "feed": feeding}
    return {
        "regions": pages.regions,
        "bytes_json": pages.bytes_json,
        "stages": {name: spent.as_dict() for name, spent in stages.items()},
        "total_wall_s": round(sum(spent.wall_s for spent in stages.values()), 3),
        "total_cpu_s": round(sum(spent.cpu_s for spent in stages.values()), 3),
        "peak_bytes": peak_bytes(),
    }


def check(changes: Changes, pages: Pages) -> None:
    """What came out is what went in: as many, with the same bytes of each kind."""
    zeroed = -(-pages.regions // ZEROED_EVERY)
    assert changes.extents.count == pages.regions
    assert changes.bytes_zero == zeroed * LENGTH
    assert changes.bytes_data == (pages.regions - zeroed) * LENGTH


async def feed(changes: Changes, size: int) -> int:
    def as_zeros() -> Iterator[Extents]:
        for window in changes.extents.windows():
            zeros = window.copy()
            zeros["flags"] = ZERO
            yield zeros

    total = changes.bytes_data + changes.bytes_zero
    async with open_source(f"pattern:{size}") as source, open_target("null:", source=source) as target:
        options = CopyOptions(target_is_zero=True)
        done = await copy(source, target.device, as_zeros(), options=options, bytes_expected=total)
    assert (done.bytes_read, done.bytes_sent) == (0, 0), done
    return done.bytes_done


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--regions", type=int, default=10_000_000)
    arguments.add_argument("--one", nargs=2, metavar=("SHAPE", "FROM"), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.one:
        pages = Pages(given.regions, given.one[0], given.one[1] == "from_bytes")
        sys.stdout.write(json.dumps(asyncio.run(plan(pages))))
        return
    figures = {
        f"{shape}, {begin}": in_child(__file__, "--regions", str(given.regions), "--one", shape, begin)
        for shape in SHAPES
        for begin in ("from_bytes", "from_arrays")
        if (shape, begin) != ("typed", "from_arrays")  # the same arrays as plain
    }
    report(__doc__, given.save, figures)


if __name__ == "__main__":
    main()

"""From the pages of Prism to extents for the core: memory does not grow with the number of regions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ntxengine.units import MIB

LIMIT = 128 * MIB
REGIONS = 2_000_000

CODE = r"""
import asyncio, re, sys
from pathlib import Path
import numpy as np
from ntxengine.changes import ChangeQuery, find_changes
from ntxengine.prism.models import DiskPoint
from ntxengine.prism.regions import page_v4

regions, page, is_shuffled, folder = int(sys.argv[1]), 10_000, sys.argv[2] == "shuffled", Path(sys.argv[3])

class Pages:
    family = "v4"

    async def changed_regions(self, disk, reference):
        count = regions // page
        for number in np.random.default_rng(1).permutation(count) if is_shuffled else range(count):
            first = int(number) * page
            listed = ",".join('{"offset":%d,"length":512}' % (i * 131072) for i in range(first, first + page))
            yield page_v4(b'{"data":[%b]}' % listed.encode(), start=0, request="r")

async def main():
    query = ChangeQuery(Pages(), DiskPoint("", "", ""), "disk", regions * 131072, folder, print)
    changes = await find_changes(query, None, on_lost_tracking="fail")
    with changes.extents as found:
        assert found.count == regions and found.bytes_data == regions * 65536
        assert sum(len(window) for window in found.windows()) == regions

asyncio.run(main())
print(int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024)
"""


@pytest.mark.parametrize("order", ["ascending", "shuffled"])
def test_memory_is_bounded_for_two_million_regions(order: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(REGIONS), order, str(tmp_path)],
        env={"PYTHONPATH": ":".join(sys.path)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )

    assert int(done.stdout) < LIMIT

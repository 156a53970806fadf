"""Does a copy cost more CPU than it did, held against a bare C loop that does the same work in the same run?

Both bring the same file from the page cache to the same NBD server over a unix socket, zero test and digest on, with
as many connections and as large requests.  They take turns, and which begins takes turns too: a machine that gets
slower, or busier, gets so for both.  The median ratio of the pairs is what check.py compares with the baseline.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.regression import programs
from ntxengine.dataplane.about import engine_info
from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.units import MIB
from tests.support.servers import nbdkit

SIZE = 512 * MIB
PAIRS = 61

# Of the reference: what the engine's defaults were when it was chosen.  It does not follow them.
CONNECTIONS, REQUEST_KIB, IN_FLIGHT, SCAN_KIB = 4, 1024, 8, 64


@dataclass(frozen=True)
class Cost:
    """Seconds that one copy took."""

    cpu: float
    wall: float


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A dense disk of random bytes, in the page cache."""
    path = tmp_path_factory.mktemp("regression") / "disk"
    with open(path, "wb") as file:
        for _ in range(SIZE // MIB):
            file.write(os.urandom(MIB))
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with nbdkit("null", str(SIZE)) as uri:
        yield uri


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return programs.build(tmp_path_factory.mktemp("regression") / "paths", programs.REFERENCE)


def way() -> str:
    """Return how the reference sends: as the engine does on this machine."""
    return "vmsplice" if engine_info().send_by_reference else "send"


def maker() -> str:
    """Return who made the processor: what the parts of a copy cost beside each other differs from one to the other."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "unknown")


async def copy_by_engine(disk: Path, uri: str) -> Cost:
    async with open_source(str(disk)) as source, open_target(uri, source=source) as target:
        with Manifest.temporary(size=source.size) as manifest:
            report = await copy(
                source,
                target.device,
                [whole(source.size)],
                options=CopyOptions(),
                manifest=manifest,
                bytes_expected=SIZE,
            )
    assert report.bytes_sent == SIZE
    return Cost(cpu=report.cpu_seconds, wall=report.seconds)


def copy_by_reference(program: Path, disk: Path, uri: str) -> Cost:
    place = f"unix:{uri.partition('socket=')[2]}"
    numbers = [str(number) for number in (CONNECTIONS, REQUEST_KIB, IN_FLIGHT, SCAN_KIB)]
    said = json.loads(programs.run([program, way(), disk, place, *numbers]))
    assert said["bytes"] == SIZE
    return Cost(cpu=said["cpu_seconds"], wall=said["seconds"])


def bench_copy_cost(benchmark: BenchmarkFixture, disk: Path, server: str, reference: Path) -> None:
    """CPU seconds of the engine's threads over those of the reference."""
    pairs: list[tuple[Cost, Cost]] = []

    def one_pair() -> None:
        if len(pairs) % 2 == 0:
            ours = asyncio.run(copy_by_engine(disk, server))
            pairs.append((ours, copy_by_reference(reference, disk, server)))
        else:
            theirs = copy_by_reference(reference, disk, server)
            pairs.append((asyncio.run(copy_by_engine(disk, server)), theirs))

    one_pair()  # warms the server, the buffers and the file
    pairs.clear()
    benchmark.pedantic(one_pair, rounds=PAIRS)

    benchmark.extra_info["measured"] = [
        {
            "quantity": "copy-cpu",
            "key": f"{way()} {maker()}",
            "value": round(median(a.cpu / b.cpu for a, b in pairs), 4),
        },
    ]
    benchmark.extra_info["pairs"] = [
        {"cpu": [round(a.cpu, 4), round(b.cpu, 4)], "wall": [round(a.wall, 4), round(b.wall, 4)]} for a, b in pairs
    ]

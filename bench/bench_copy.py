"""How fast is a digested copy into an NBD server that drops everything, and what does nbdcopy need for the same?

    python -m pytest bench -o python_files='bench_*.py' -o python_functions='bench_*' --benchmark-json=out.json

Both read the same file from the page cache and write to the same kind of server over a unix socket.  nbdcopy digests
nothing.  Figures of shared machines are ratios of one run: compare the two medians, not the numbers of two days.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ntxengine.dataplane.copy import CopyOptions, CopyReport, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.units import GIB, MIB
from tests.support.servers import nbdkit, require

SIZE = int(os.environ.get("NTX_BENCH_MIB", "256")) * MIB


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense disk of random bytes, in the page cache."""
    path = tmp_path_factory.mktemp("bench") / "disk"
    with open(path, "wb") as file:
        for _ in range(SIZE // MIB):
            file.write(os.urandom(MIB))
    return path


@pytest.fixture
def server() -> Iterator[str]:
    with nbdkit("null", str(SIZE)) as uri:
        yield uri


async def copy_once(source: str, target: str) -> tuple[CopyReport, str]:
    async with open_source(source) as device, open_target(target, source=device) as to:
        with Manifest.temporary(size=device.size) as manifest:
            report = await copy(device, to.device, [whole(device.size)], options=CopyOptions(), manifest=manifest)
            return report, manifest.seal()


def bench_copy_with_digests(benchmark: BenchmarkFixture, disk: Path, server: str) -> None:
    """Throughput of ntxengine with zero test and digest on."""
    report, digest = benchmark(lambda: asyncio.run(copy_once(str(disk), server)))

    assert report.bytes_sent == SIZE
    assert digest == asyncio.run(copy_once(str(disk), "null:"))[1]
    note(benchmark)
    benchmark.extra_info["cpu_seconds_per_gib"] = report.cpu_seconds / SIZE * GIB


def bench_nbdcopy_without_digests(benchmark: BenchmarkFixture, disk: Path, server: str) -> None:
    """Throughput of nbdcopy, which is what we compare with, into the same server."""
    require("nbdcopy")
    benchmark(lambda: subprocess.run(["nbdcopy", str(disk), server], check=True))

    note(benchmark)


def note(benchmark: BenchmarkFixture) -> None:
    if benchmark.stats is not None:  # None when only the code is checked (--benchmark-disable)
        benchmark.extra_info["bytes"] = SIZE
        benchmark.extra_info["gib_per_s_median"] = SIZE / GIB / benchmark.stats.stats.median

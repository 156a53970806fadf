"""How full is the pipe to a server that takes 20 ms for each request, with how many in flight?

    python bench/scale/in_flight.py [--size 1G] [--rounds N] [--save NAME]

Dense data from the page cache to nbdkit null behind its delay filter, eight connections, requests of 1 MiB.  `chosen`:
the engine, as the pace chooses it; `pinned`: with that many from the first byte on.  `bare`: bench/reference/paths.c,
the same way without an engine, and `sendfile`, where nobody looks at the data.  `share` is the rate by what is in
flight at the end / 20 ms.  Free memory is touched before each run, as `ntx bench` does.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from measure import parser, report

from ntxengine.bench.disks import DiskFile, make_disk
from ntxengine.bench.measure import Engine
from ntxengine.bench.memory import touch_free
from ntxengine.bench.reference import build_limit
from ntxengine.bench.suite import Bytes, Disk
from ntxengine.bench.wire import Request
from ntxengine.errors import ChecksumMismatch, ToolError
from ntxengine.units import GIB, KIB, MIB, parse_size
from tests.support.servers import nbdkit

CONNECTIONS = 8
DELAY_S = 0.020


class Run(NamedTuple):
    """One copy of the whole disk."""

    size: int
    seconds: float
    cpu_seconds: float
    in_flight: int  # requests of 1 MiB, all connections, at the end

    @property
    def share(self) -> float:
        return self.size / self.seconds * DELAY_S / (self.in_flight * MIB)


def measured(engine: Engine, disk: DiskFile, target: str, in_flight: int | None) -> Run:
    options: dict[str, int | bool] = {"connections": CONNECTIONS, "request_size": MIB}
    if in_flight is not None:
        options["in_flight"] = in_flight
    used, digests = engine.run(Request(mode="copy", sources=(str(disk.path),), targets=(target,), options=options))
    if digests != (disk.digest,):
        raise ChecksumMismatch(f"{disk.path}: read as {digests}, and is {disk.digest}")
    (done,) = used.reports
    return Run(done.bytes_total, done.seconds, done.cpu_seconds, done.connections * done.in_flight)


def bare(program: Path, way: str, disk: DiskFile, target: str, in_flight: int) -> Run:
    place = "unix:" + parse_qs(urlsplit(target).query)["socket"][0]
    numbers = [CONNECTIONS, MIB // KIB, in_flight, 256, 2 * MIB // KIB]
    command = [program, way, disk.path, place, *map(str, numbers)]
    done = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return Run(done["bytes"], done["seconds"], done["cpu_seconds"], CONNECTIONS * in_flight)


@contextmanager
def ways(size: int) -> Iterator[dict[str, Callable[[], Run]]]:
    """Yield what is compared, by name, while the server runs."""
    delay = [f"{what}delay={round(DELAY_S * 1000)}ms" for what in "rw"]
    with (
        tempfile.TemporaryDirectory() as name,
        nbdkit("--filter=delay", "null", str(size), *delay) as server,
        Engine() as engine,
    ):
        folder = Path(name)
        disk = make_disk(folder / "disk", Disk(size=Bytes(size)), seed="window")
        built = build_limit(folder)
        if built.program is None:
            raise ToolError(built.why_not or "the reference cannot be built")
        pinned = {f"pinned 8 x {each}": partial(measured, engine, disk, server, each) for each in (1, 2, 4)}
        bare_ways = ("vmsplice", "sendfile")
        without = {f"bare {how} 8 x 4": partial(bare, built.program, how, disk, server, 4) for how in bare_ways}
        yield {"chosen": partial(measured, engine, disk, server, None), **pinned, **without}


def summary(runs: list[Run]) -> dict[str, Any]:
    return {
        "mib_per_s": round(statistics.median(run.size / run.seconds for run in runs) / MIB),
        "in_flight_at_the_end": sorted({run.in_flight for run in runs}),
        "share": round(statistics.median(run.share for run in runs), 3),
        "shares": [round(run.share, 3) for run in runs],
        "cpu_s_per_gib": round(statistics.median(run.cpu_seconds / run.size for run in runs) * GIB, 3),
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=parse_size, default=parse_size("1G"))
    arguments.add_argument("--rounds", type=int, default=9)
    given = arguments.parse_args()
    with ways(given.size) as compared:
        runs: dict[str, list[Run]] = {name: [] for name in compared}
        for number in range(given.rounds + 1):
            for name, way in compared.items():
                touch_free(256 * MIB)
                run = way()
                if number:  # the first one warms up
                    runs[name].append(run)
    report(__doc__, given.save, {name: summary(several) for name, several in runs.items()})


if __name__ == "__main__":
    main()

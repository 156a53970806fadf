"""From how many connections should a copy begin whose source is a server?

    python bench/scale/from_server.py [--size 2G] [--rounds N] [--save NAME]

qemu-nbd of a qcow2 file with an overlay of 20 % to nbdkit memory, as the case chain-memory of `ntx bench` has it, in
turn with 1, 2 and 4 connections at first, as the engine chooses, and by nbdcopy.  `idle`: share of the processors that
had nothing to do; `ended`: the connections and requests of each that the last round ended with.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from measure import parser, report

from ntxengine.bench.measure import Engine, run_clients
from ntxengine.bench.rounds import rotated
from ntxengine.bench.servers import Sockets
from ntxengine.bench.stage import DiskShelf, Stage
from ntxengine.bench.suite import Bytes, Case, Disk, Source, Target
from ntxengine.bench.wire import Request
from ntxengine.errors import ChecksumMismatch
from ntxengine.units import GIB, parse_size

CASE = Case(
    name="chain-memory",
    title="from a server",
    source=Source(disk="dense", via="chain", changed=20),
    target=Target(server="nbdkit-memory"),
    who=("engine", "nbdcopy"),
)
WAYS: dict[str, dict[str, int | bool]] = {
    "1 connection": {"connections": 1},
    "2 connections": {"connections": 2},
    "4 connections": {"connections": 4},
    "as the engine chooses": {},
}
PEER = "nbdcopy"


class Run(NamedTuple):
    """One copy."""

    gib_per_s: float
    client_cpu_s: float  # per GiB
    source_cpu_s: float  # per GiB
    target_cpu_s: float  # per GiB
    idle: float
    ended: str


def processor_ticks() -> tuple[int, int]:
    """Return ticks of all processors: idle ones, and all."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def run_way(stage: Stage, engine: Engine, way: str) -> Run:
    stage.make_ready()
    (source,) = stage.sources
    with stage.targets(fresh=False) as (target,):
        assert source.server is not None
        servers = (source.server, target)
        before_s, ticks = [server.cpu_seconds() for server in servers], processor_ticks()
        ended = ""
        if way == PEER:
            used = run_clients([["nbdcopy", source.uri, target.uri]])
        else:
            request = Request(mode="copy", sources=(source.uri,), targets=(target.uri,), options=WAYS[way])
            used, digests = engine.run(request)
            if digests != (source.disk.digest,):
                raise ChecksumMismatch(f"{source.uri}: not read as what it is")
            (done,) = used.reports
            ended = f"{done.connections} x {done.in_flight}"
        idle, passed = (now - then for now, then in zip(processor_ticks(), ticks, strict=True))
        cpu_s = [server.cpu_seconds() - before for server, before in zip(servers, before_s, strict=True)]
    gib = stage.size / GIB
    return Run(gib / used.seconds, used.cpu_seconds / gib, cpu_s[0] / gib, cpu_s[1] / gib, idle / passed, ended)


def summary(runs: list[Run], peer: list[Run]) -> dict[str, Any]:
    """Return medians, and the quartiles of the rate against that of the peer in the same round."""
    *columns, ended = zip(*runs, strict=True)
    figures: dict[str, Any] = {
        name: round(statistics.median(column), 3) for name, column in zip(Run._fields[:-1], columns, strict=True)
    }
    ratios = [run.gib_per_s / other.gib_per_s for run, other in zip(runs, peer, strict=True)]
    figures["against_nbdcopy"] = [round(quartile, 3) for quartile in statistics.quantiles(ratios, n=4)]
    return figures | {"ended": ended[-1]}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=parse_size, default=parse_size("2G"))
    arguments.add_argument("--rounds", type=int, default=15)
    given = arguments.parse_args()
    runs: dict[str, list[Run]] = {way: [] for way in (*WAYS, PEER)}
    with tempfile.TemporaryDirectory() as name, Engine() as engine:
        folder = Path(name)
        with Stage(CASE, Disk(size=Bytes(given.size)), DiskShelf(folder), folder, Sockets(folder)) as stage:
            for number in range(given.rounds + 1):
                for way in rotated(list(runs), number):
                    run = run_way(stage, engine, way)
                    if number:  # the first round warms up
                        runs[way].append(run)
    report(__doc__, given.save, {way: summary(each, runs[PEER]) for way, each in runs.items()})


if __name__ == "__main__":
    main()

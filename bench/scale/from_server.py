"""From how many connections should a copy begin whose source is a server?

    python bench/scale/from_server.py [--against CHECKOUT] [--size 2G] [--rounds N] [--save NAME]

qemu-nbd of a qcow2 file with an overlay of 20 % to nbdkit memory, as the case chain-memory of `ntx bench` has it, in
turn by nbdcopy, by the engine as it chooses, and either with 1, 2 and 4 connections pinned, or as the engine of another
built CHECKOUT chooses.  `idle`: share of the processors that neither the client nor a server took; `ended`:
connections and requests of each in the last round.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from measure import parser, report

from ntxengine.bench.measure import Engine, run_clients
from ntxengine.bench.rounds import rotated
from ntxengine.bench.servers import Sockets
from ntxengine.bench.stage import DiskShelf, Stage
from ntxengine.bench.stats import spread
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
PINNED: dict[str, dict[str, int | bool]] = {
    "1 connection": {"connections": 1},
    "2 connections": {"connections": 2},
    "4 connections": {"connections": 4},
}
CHOSEN = "as the engine chooses"
BEFORE = "as the engine it is held against chooses"
PEER = "nbdcopy"


class Run(NamedTuple):
    """One copy."""

    gib_per_s: float
    client_cpu_s: float  # per GiB
    source_cpu_s: float  # per GiB
    target_cpu_s: float  # per GiB
    idle: float
    ended: str


def run_way(stage: Stage, engine: Engine | None, options: dict[str, int | bool]) -> Run:
    """Copy once; without an engine nbdcopy does."""
    stage.make_ready()
    (source,) = stage.sources
    with stage.targets(fresh=False) as (target,):
        assert source.server is not None
        servers = (source.server, target)
        before_s = [server.cpu_seconds() for server in servers]
        ended = ""
        if engine is None:
            used = run_clients([["nbdcopy", source.uri, target.uri]])
        else:
            used, digests = engine.run(
                Request(mode="copy", sources=(source.uri,), targets=(target.uri,), options=options)
            )
            if digests != (source.disk.digest,):
                raise ChecksumMismatch(f"{source.uri}: not read as what it is")
            (done,) = used.reports
            ended = f"{done.connections} x {done.in_flight}"
        from_s, to_s = (server.cpu_seconds() - before for server, before in zip(servers, before_s, strict=True))
    gib = stage.size / GIB
    busy = (used.cpu_seconds + from_s + to_s) / used.seconds / len(os.sched_getaffinity(0))
    return Run(gib / used.seconds, used.cpu_seconds / gib, from_s / gib, to_s / gib, 1 - busy, ended)


def quartiles(runs: list[Run], others: list[Run]) -> list[float]:
    found = spread([run.gib_per_s / other.gib_per_s for run, other in zip(runs, others, strict=True)])
    assert found is not None
    return [round(value, 3) for value in (found.q1, found.median, found.q3)]


def summary(runs: dict[str, list[Run]], way: str) -> dict[str, Any]:
    """Return medians, and the quartiles of the rate against that of others in the same round."""
    *columns, ended = zip(*runs[way], strict=True)
    figures: dict[str, Any] = {
        name: round(statistics.median(column), 3) for name, column in zip(Run._fields[:-1], columns, strict=True)
    }
    figures["rates"] = [round(run.gib_per_s, 3) for run in runs[way]]
    figures["against_nbdcopy"] = quartiles(runs[way], runs[PEER])
    if way == CHOSEN and BEFORE in runs:
        figures["against_before"] = quartiles(runs[way], runs[BEFORE])
    return figures | {"ended": ended[-1]}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--against", type=Path, metavar="CHECKOUT")
    arguments.add_argument("--size", type=parse_size, default=parse_size("2G"))
    arguments.add_argument("--rounds", type=int, default=15)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        engine = stack.enter_context(Engine())
        ways: dict[str, tuple[Engine | None, dict[str, int | bool]]] = {PEER: (None, {}), CHOSEN: (engine, {})}
        if given.against is None:
            ways |= {way: (engine, options) for way, options in PINNED.items()}
        else:
            os.environ["PYTHONPATH"] = str(given.against.resolve() / "src")
            ways[BEFORE] = stack.enter_context(Engine()), {}
        folder = Path(name)
        stage = stack.enter_context(
            Stage(CASE, Disk(size=Bytes(given.size)), DiskShelf(folder), folder, Sockets(folder))
        )
        runs: dict[str, list[Run]] = {way: [] for way in ways}
        for number in range(given.rounds + 1):
            for way in rotated(list(ways), number):
                run = run_way(stage, *ways[way])
                if number:  # the first round warms up
                    runs[way].append(run)
    report(__doc__, given.save, {way: summary(runs, way) for way in runs})


if __name__ == "__main__":
    main()

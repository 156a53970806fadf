"""What does it cost when the server is in another session than the client?

    python bench/scale/sessions.py [--size 2G] [--rounds N] [--save NAME]

Linux shares the processors by session where kernel.sched_autogroup_enabled is 1 (the default of most distributions,
where no cgroup says otherwise).  Dense data from the page cache to nbdkit null over a unix socket, in turn to a server
in our session and to one in its own.  `switches`: of threads, of the whole machine, per MiB.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from measure import parser, report

from ntxengine.bench.disks import make_disk
from ntxengine.bench.measure import Engine, Used, run_clients
from ntxengine.bench.memory import touch_free
from ntxengine.bench.suite import Bytes, Disk
from ntxengine.bench.wire import Request
from ntxengine.errors import ToolError
from ntxengine.units import GIB, MIB, parse_size

AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")


class Run(NamedTuple):
    """One copy, per GiB."""

    gib_per_s: float
    client_cpu_s: float
    server_cpu_s: float
    switches: float  # per MiB


@contextmanager
def server(folder: Path, size: int, *, own_session: bool) -> Iterator[tuple[str, int]]:
    """Yield the URI of an nbdkit null and its process."""
    path = folder / ("other.sock" if own_session else "ours.sock")
    command = ["nbdkit", "--foreground", f"--unix={path}", "null", str(size)]
    with subprocess.Popen(command, start_new_session=own_session) as process:
        try:
            while not path.exists():
                if process.poll() is not None:
                    raise ToolError(f"nbdkit ended with {process.returncode} before it served {path}")
                time.sleep(0.01)
            yield f"nbd+unix:///?socket={path}", process.pid
        finally:
            process.terminate()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def switches() -> int:
    found = re.search(r"^ctxt (\d+)", Path("/proc/stat").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def copied(engine: Engine, request: Request) -> Used:
    return engine.run(request)[0]


def measured(work: Callable[[], Used], pid: int, size: int) -> Run:
    touch_free(256 * MIB)
    served_s, switched = cpu_seconds(pid), switches()
    used = work()
    served_s, switched = cpu_seconds(pid) - served_s, switches() - switched
    gib = size / GIB
    return Run(gib / used.seconds, used.cpu_seconds / gib, served_s / gib, switched / (size / MIB))


def summary(runs: list[Run]) -> dict[str, Any]:
    columns = zip(Run._fields, zip(*runs, strict=True), strict=True)
    return {name: round(statistics.median(column), 3) for name, column in columns}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=parse_size, default=parse_size("2G"))
    arguments.add_argument("--rounds", type=int, default=11)
    given = arguments.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        server(Path(name), given.size, own_session=False) as ours,
        server(Path(name), given.size, own_session=True) as other,
        Engine() as engine,
    ):
        file = str(make_disk(Path(name) / "disk", Disk(size=Bytes(given.size)), seed="sessions").path)
        ways: dict[str, tuple[Callable[[], Used], int]] = {}
        for where, (uri, pid) in (("our session", ours), ("another session", other)):
            request = Request(mode="copy", sources=(file,), targets=(uri,), options={})
            ways[f"engine, server in {where}"] = partial(copied, engine, request), pid
            ways[f"nbdcopy, server in {where}"] = partial(run_clients, [["nbdcopy", file, uri]]), pid
        runs: dict[str, list[Run]] = {way: [] for way in ways}
        for number in range(given.rounds + 1):
            for way, (work, pid) in ways.items():
                run = measured(work, pid, given.size)
                if number:  # the first one warms up
                    runs[way].append(run)
    figures: dict[str, Any] = {way: summary(each) for way, each in runs.items()}
    figures["sched_autogroup_enabled"] = AUTOGROUP.read_text().strip() if AUTOGROUP.exists() else None
    report(__doc__, given.save, figures)


if __name__ == "__main__":
    main()

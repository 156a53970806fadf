"""What does it cost when the server is in another session than the client?

    python bench/scale/sessions.py [--only TEXT] [--size 2G] [--rounds N] [--save NAME]

Linux shares the processors by session where kernel.sched_autogroup_enabled is 1 (the default of most distributions,
where no cgroup says otherwise).  Dense data from the page cache over a unix socket to nbdkit null, and to qemu-nbd that
writes a new qcow2 file, each in turn in our session and in its own.  `switches`: of threads, of the whole machine, per
MiB.  `rate_against_our_session`: quartiles of the ratio, round by round.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from measure import parser, report

from ntxengine.bench import tools
from ntxengine.bench.disks import DiskFile, make_disk
from ntxengine.bench.measure import Engine, run_clients
from ntxengine.bench.memory import touch_free
from ntxengine.bench.rounds import rotated
from ntxengine.bench.servers import NBDKIT, QEMU_NBD, Server
from ntxengine.bench.stats import spread
from ntxengine.bench.suite import Bytes, Disk
from ntxengine.bench.wire import Request
from ntxengine.errors import ChecksumMismatch, ToolError
from ntxengine.images.process import KEPT_BUFFERS
from ntxengine.units import GIB, MIB, parse_size

AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")


class Run(NamedTuple):
    """One copy, per GiB."""

    gib_per_s: float
    client_cpu_s: float
    server_cpu_s: float
    switches: float  # per MiB


class Way(NamedTuple):
    """Who copies to which server, and where that is."""

    who: str
    server: str
    own_session: bool

    def __str__(self) -> str:
        return f"{self.who} to {self.server} in {'another' if self.own_session else 'our'} session"


WAYS = [
    Way(who, server, own)
    for server in ("nbdkit null", "qcow2")
    for who in ("engine", "nbdcopy")
    for own in (False, True)
]


def command_of(server: str, folder: Path, size: int) -> list[str]:
    """Return how to start a server at `folder`/socket.  An image is a new one each time."""
    if server == "nbdkit null":
        return [*NBDKIT, f"--unix={folder / 'socket'}", "null", str(size)]
    image = folder / "image.qcow2"
    image.unlink(missing_ok=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), str(size)], check=True)
    # Unsafe: the engine's flush would wait for the disk, which is another question.
    return [*QEMU_NBD, "--cache=unsafe", f"--socket={folder / 'socket'}", "--format=qcow2", str(image)]


@contextmanager
def serving(way: Way, folder: Path, size: int) -> Iterator[Server]:
    path = folder / "socket"
    path.unlink(missing_ok=True)
    with subprocess.Popen(
        tools.tied(*command_of(way.server, folder, size)),
        start_new_session=way.own_session,
        process_group=None if way.own_session else 0,
        env=os.environ | KEPT_BUFFERS,
    ) as process:
        try:
            while not path.exists():
                if process.poll() is not None:
                    raise ToolError(f"{way.server}: ended with {process.returncode} before it served {path}")
                time.sleep(0.01)
            yield Server(f"nbd+unix:///?socket={path}", f"unix:{path}", process.pid)
        finally:
            process.terminate()


def switches() -> int:
    found = re.search(r"^ctxt (\d+)", Path("/proc/stat").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def measured(way: Way, engine: Engine, disk: DiskFile, folder: Path) -> Run:
    file = str(disk.path)
    with serving(way, folder, disk.size) as server:
        touch_free(256 * MIB + (disk.size if way.server == "qcow2" else 0))
        served_s, switched = server.cpu_seconds(), switches()
        if way.who == "engine":
            used, digests = engine.run(Request(mode="copy", sources=(file,), targets=(server.uri,), options={}))
            if digests != (disk.digest,):
                raise ChecksumMismatch(f"{file}: read as {digests}, and is {disk.digest}")
        else:
            used = run_clients([["nbdcopy", file, server.uri]])
        served_s, switched = server.cpu_seconds() - served_s, switches() - switched
    gib = disk.size / GIB
    return Run(gib / used.seconds, used.cpu_seconds / gib, served_s / gib, switched / (disk.size / MIB))


def summary(runs: list[Run], in_ours: list[Run] | None) -> dict[str, Any]:
    columns = zip(Run._fields, zip(*runs, strict=True), strict=True)
    figures: dict[str, Any] = {name: round(statistics.median(column), 3) for name, column in columns}
    if in_ours is not None and in_ours is not runs:
        ratios = [run.gib_per_s / other.gib_per_s for run, other in zip(runs, in_ours, strict=True)]
        found = spread(ratios)
        assert found is not None
        figures["better_rounds"] = sum(ratio > 1 for ratio in ratios)
        figures["rate_against_our_session"] = [round(value, 3) for value in (found.q1, found.median, found.q3)]
    return figures


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=parse_size, default=parse_size("2G"))
    arguments.add_argument("--rounds", type=int, default=11)
    arguments.add_argument("--only", default="", metavar="TEXT", help="only ways with this in their name")
    given = arguments.parse_args()
    runs: dict[Way, list[Run]] = {way: [] for way in WAYS if given.only in str(way)}
    if not runs:
        arguments.error(f"--only {given.only!r}: none of {', '.join(map(str, WAYS))}")
    with tempfile.TemporaryDirectory() as name, Engine() as engine:
        folder = Path(name)
        disk = make_disk(folder / "disk", Disk(size=Bytes(given.size)), seed="sessions")
        for number in range(given.rounds + 1):
            for way in rotated(list(runs), number):
                run = measured(way, engine, disk, folder)
                if number:  # the first one warms up
                    runs[way].append(run)
    figures: dict[str, Any] = {
        str(way): summary(each, runs.get(way._replace(own_session=False))) for way, each in runs.items()
    }
    figures["sched_autogroup_enabled"] = AUTOGROUP.read_text().strip() if AUTOGROUP.exists() else None
    report(__doc__, given.save, figures)


if __name__ == "__main__":
    main()

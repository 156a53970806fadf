"""Which bare way brings a disk's bytes to an NBD server, or from a block device, at the least cost?

    .venv/bin/python bench/paths.py [--rounds N] [--size 2G] [--out bench/results/paths.json]

Builds bench/reference/{paths,direct}.c and runs every way once a round, in turn, on a file in the page cache, on a
block device past the cache, and nbdcopy beside them.  What came of it is in bench/notes/paths.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from record import provenance

from ntxengine.bench import measure, stats
from ntxengine.bench.disks import make_disk
from ntxengine.bench.servers import Sockets, loop_device, target_server
from ntxengine.bench.suite import Bytes, Disk, Target
from ntxengine.units import GIB, parse_size

ROOT = Path(__file__).parent.parent
CORE = ROOT / "csrc"

# connections, request KiB, in flight, scan KiB, send buffer KiB
UNIX = ["2 256 4 256 2048", "2 1024 2 1024 2048", "2 1024 4 256 2048", "1 1024 4 1024 2048"]
TCP = ["2 256 4 256", "2 512 4 512", "4 256 2 256"]
UNIX_WAYS = ["send", "mapsend", "scanfile", "mapfile", "vmsplice", "sendfile"]
TCP_WAYS = [*UNIX_WAYS, "zerocopy"]
DIRECT = ["pread 2", "pread 4", "pread 8", "uring 2", "uring 4", "uring 8"]


def build(name: str, folder: Path, *libraries: str) -> Path:
    program = folder / name
    files = [ROOT / "bench" / "reference" / f"{name}.c", CORE / "digest.c", CORE / "zero.c"]
    command: list[str | Path] = [
        "gcc",
        "-std=gnu11",
        "-O3",
        f"-I{CORE}",
        "-o",
        program,
        *files,
        "-lxxhash",
        "-pthread",
        *libraries,
    ]
    subprocess.run(command, check=True)
    return program


@contextmanager
def contestants(folder: Path, source: Path) -> Iterator[dict[str, list[str]]]:
    """Yield every command, under the name that the result has for it, while its server runs."""
    paths, direct = build("paths", folder), build("direct", folder, "-luring")
    size, sockets = source.stat().st_size, Sockets(folder)
    with (
        target_server(Target(server="nbdkit-null"), size, None, sockets) as unix,
        target_server(Target(server="nbdkit-null", transport="tcp"), size, None, sockets) as tcp,
        loop_device(source) as device,
    ):
        commands = {f"unix {way} {how}": [str(paths), way, str(source), unix.place, *how.split()]
                    for way in UNIX_WAYS for how in UNIX}  # fmt: skip
        commands |= {f"tcp {way} {how}": [str(paths), way, str(source), tcp.place, *how.split()]
                     for way in TCP_WAYS for how in TCP}  # fmt: skip
        commands |= {f"device {how}": [str(direct), how.split()[0], device, how.split()[1]] for how in DIRECT}
        commands["unix nbdcopy"] = ["nbdcopy", str(source), unix.uri]
        commands["tcp nbdcopy"] = ["nbdcopy", str(source), tcp.uri]
        yield commands


def run(rounds: int, size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ntx-paths-") as folder:
        source = make_disk(Path(folder) / "disk", Disk(size=Bytes(size)), seed="paths").path
        with contestants(Path(folder), source) as commands:
            samples: dict[str, list[measure.Used]] = {name: [] for name in commands}
            for number in range(rounds + 1):
                for name, command in commands.items():
                    used = measure.run_clients([command])
                    if number:  # the first one warms up
                        samples[name].append(used)
    gib = size / GIB
    return {
        **provenance(__doc__, ROOT),
        "bytes": size,
        "ways": {
            name: {
                "gib_per_s": msgspec.to_builtins(stats.spread([gib / used.seconds for used in several])),
                "cpu_s_per_gib": msgspec.to_builtins(stats.spread([used.cpu_seconds / gib for used in several])),
            }
            for name, several in samples.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=parse_size, default=2 * GIB)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result = run(arguments.rounds, arguments.size)
    for name, row in result["ways"].items():
        rate, cpu = row["gib_per_s"], row["cpu_s_per_gib"]["median"]
        spread = f"({rate['q1']:.2f} to {rate['q3']:.2f})"
        sys.stdout.write(f"{name:34} {rate['median']:5.2f} GiB/s {spread}  {cpu:.3f} s/GiB\n")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

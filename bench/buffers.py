"""What does it save that qemu-nbd keeps the buffers of its requests, by request size?

    .venv/bin/python bench/buffers.py [--rounds N] [--size 2G] [--out bench/results/buffers.json]

The engine and nbdcopy write a dense disk into a qcow2, with qemu-nbd started plainly and as ntx starts it.  The image
is written over each time: allocating it anew costs memory of the machine, which varies more than what is asked.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
from record import provenance

from ntxengine.bench import measure, servers, stats, tools
from ntxengine.bench.disks import DiskFile, make_disk
from ntxengine.bench.suite import Bytes, Disk, Target
from ntxengine.bench.wire import Request
from ntxengine.units import GIB, KIB, MIB, parse_size

REQUEST_SIZES = (256 * KIB, MIB, 2 * MIB, 4 * MIB)
QUESTION = (__doc__ or "").partition("\n")[0]


def run_once(request_size: int, *, ours: bool, keeps: bool, disk: DiskFile, image: Path) -> tuple[float, float, float]:
    """Write `disk` over `image`; returns GiB/s, and CPU seconds per GiB of the client and of qemu-nbd."""
    gib = disk.size / GIB
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ntx-buffers-")))
        if not keeps:
            stack.enter_context(mock.patch.dict(servers.KEPT_BUFFERS, clear=True))
        target = Target(server="qemu-nbd")
        server = stack.enter_context(servers.target_server(target, disk.size, image, servers.Sockets(folder)))
        engine = stack.enter_context(measure.Engine())
        before = server.cpu_seconds()
        if ours:
            request = Request(
                mode="copy",
                sources=(str(disk.path),),
                targets=(server.uri,),
                options={"request_size": request_size, "connections": 2, "in_flight": 2},
            )
            used, _ = engine.run(request)
        else:
            used = measure.run_clients([["nbdcopy", f"--request-size={request_size}", str(disk.path), server.uri]])
        return gib / used.seconds, used.cpu_seconds / gib, (server.cpu_seconds() - before) / gib


def run(rounds: int, size: int) -> dict[str, Any]:
    ways = {
        f"{'engine' if ours else 'nbdcopy'} {request_size // KIB} KiB, {'kept' if keeps else 'plain'}":
            {"request_size": request_size, "ours": ours, "keeps": keeps}
        for ours in (True, False) for request_size in REQUEST_SIZES for keeps in (False, True)
    }  # fmt: skip
    samples: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory(prefix="ntx-buffers-") as folder:
        disk = make_disk(Path(folder) / "disk", Disk(size=Bytes(size)), seed="buffers")
        image = Path(folder) / "image.qcow2"
        tools.run_tool("qemu-img", "create", "-q", "-f", "qcow2", str(image), str(size))
        for number in range(rounds + 1):
            for name, way in ways.items():
                sample = run_once(disk=disk, image=image, **way)
                if number:  # the first one warms up, and allocates the image
                    samples[name].append(sample)
    return {
        **provenance(__doc__, Path(tempfile.gettempdir())),
        "bytes": size,
        "ways": {
            name: {
                quantity: msgspec.to_builtins(stats.spread(list(values)))
                for quantity, values in zip(
                    ("gib_per_s", "client_s_per_gib", "server_s_per_gib"), zip(*several, strict=True), strict=True
                )
            }
            for name, several in samples.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=parse_size, default=2 * GIB)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result = run(arguments.rounds, arguments.size)
    for name, row in result["ways"].items():
        client, server = row["client_s_per_gib"]["median"], row["server_s_per_gib"]["median"]
        sys.stdout.write(f"{name:26} {row['gib_per_s']['median']:5.2f} GiB/s  {client:.3f} + {server:.3f} s/GiB\n")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

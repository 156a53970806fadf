"""What do 64 disks at once take in one process: memory, threads, descriptors, CPU; and is every byte right?

    python bench/scale/many.py [--disks 64] [--data 32] [--size 1G] [--save NAME]

Each disk is a sparse file of --size with --data MiB of random bytes, and is copied with digests to an export of its own
of one nbdkit server that all share.  Options are those of a capture: split_buffers() divides the buffers, and with
`undivided` every copy has its own 32 MiB.  Peaks are sampled every 20 ms.  A copy is right if the file behind its
export has the digest.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from measure import KIB, in_child, parser, peak_bytes, report, spending, status

from ntxengine.concurrency.parallel import map_limited
from ntxengine.dataplane.buffers import split_buffers
from ntxengine.dataplane.copy import CopyOptions, CopyReport, copy, digest
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.mapping import map_device
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.units import MIB, parse_size
from tests.support.servers import nbdkit

SAMPLE_S = 0.02


class Sampler(threading.Thread):
    """Keeps the highest numbers of threads and descriptors, and of anonymous memory."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.peak = {"threads": 0, "descriptors": 0, "anonymous_bytes": 0}

    def run(self) -> None:
        while not self.ended.wait(SAMPLE_S):
            now = {
                "threads": status("Threads") - 1,  # without this one
                "descriptors": len(os.listdir("/proc/self/fd")),
                "anonymous_bytes": status("RssAnon") * KIB,
            }
            self.peak = {name: max(value, now[name]) for name, value in self.peak.items()}


def make(folder: Path, disks: int, size: int, data_mib: int) -> list[Path]:
    paths = []
    for number in range(disks):
        for side in ("source", "target"):
            path = folder / side / f"disk{number}"
            path.parent.mkdir(exist_ok=True)
            with open(path, "wb") as file:
                file.truncate(size)
                for part in range(data_mib if side == "source" else 0):
                    file.seek(size // data_mib * part)
                    file.write(os.urandom(MIB))
        paths.append(folder / "source" / f"disk{number}")
    return paths


async def copy_one(path: Path, server: str, options: CopyOptions) -> tuple[str, CopyReport]:
    uri = server.replace("nbd+unix:///", f"nbd+unix:///{path.name}")
    async with open_source(str(path)) as source, open_target(uri, source=source) as target:
        with Manifest.temporary(size=source.size) as manifest, await map_device(source) as extents:
            done = await copy(
                source,
                target.device,
                extents.windows(),
                options=options,
                manifest=manifest,
                bytes_expected=source.size,
            )
            return manifest.seal(), done


async def digest_of(path: Path) -> str:
    async with open_source(str(path)) as source:
        with Manifest.temporary(size=source.size) as manifest, await map_device(source) as extents:
            await digest(source, manifest, options=CopyOptions(), extents=extents.windows())
            return manifest.seal()


async def copy_all(paths: list[Path], server: str, options: CopyOptions) -> dict[str, Any]:
    sampler = Sampler()
    sampler.start()
    with spending() as spent:
        done = await map_limited(paths, lambda path: copy_one(path, server, options), at_once=len(paths))
    sampler.ended.set()
    sampler.join()
    peak = peak_bytes()
    for path, (found, _) in zip(paths, done, strict=True):
        assert found == await digest_of(path.parent.parent / "target" / path.name), path
    cores = sum(one.cpu_seconds for _, one in done)
    return {
        **spent.as_dict(),
        "python_cpu_s": round(spent.cpu_s - cores, 3),
        "peak_bytes": peak,
        **{f"peak_{name}": value for name, value in sampler.peak.items()},
        "connections": sum(one.connections for _, one in done),
        "buffer_bytes_at_most": sum(one.connections * one.in_flight * one.request_size for _, one in done),
        "bytes_read": sum(one.bytes_read for _, one in done),
    }


def measure(disks: int, size: int, data_mib: int, is_divided: bool) -> dict[str, Any]:
    options = split_buffers(CopyOptions(), disks) if is_divided else CopyOptions()
    with tempfile.TemporaryDirectory() as name:
        paths = make(Path(name), disks, size, data_mib)
        with nbdkit("file", f"dir={name}/target") as server:
            return asyncio.run(copy_all(paths, server, options))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--disks", type=int, default=64)
    arguments.add_argument("--data", type=int, default=32, metavar="MIB")
    arguments.add_argument("--size", type=parse_size, default=parse_size("1G"))
    arguments.add_argument("--one", choices=("divided", "undivided"), help="used by itself")
    given = arguments.parse_args()
    if given.one:
        figures = measure(given.disks, given.size, given.data, given.one == "divided")
        sys.stdout.write(json.dumps(figures))
        return
    same = ["--disks", str(given.disks), "--data", str(given.data), "--size", str(given.size)]
    report(
        __doc__,
        given.save,
        {"disks": given.disks}
        | {kind: in_child(__file__, *same, "--one", kind) for kind in ("divided", "undivided")}
        | {"one disk": in_child(__file__, *same[2:], "--disks", "1", "--one", "divided")},
    )


if __name__ == "__main__":
    main()

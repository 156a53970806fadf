"""Does a limit of the memory hold, and what does it cost: several disks at once, each into an image of its own?

    python bench/memory_limit.py [--disks 8] [--mib 256] [--rounds 3] [--work DIR] [--out FILE]

Each run is a process of its own.  `peak` is the most memory that it had, in bytes, `base` that of a process which has
copied next to nothing; `above_base` is what is to be compared with the limit.  `speed` is the rate in parts of that of
the run without a limit in the same round; the medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from record import provenance

from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.dataplane.buffers import split_buffers
from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source
from ntxengine.images.choice import ImageOptions
from ntxengine.images.create import NewImage, create_image
from ntxengine.units import MIB

LIMITS_MIB = (0, 512, 128, 64, 32)
KINDS = {"plain": 0, "zstd": 1}


def peak_bytes() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


async def one(disk: Path, options: CopyOptions, level: int) -> None:
    image_path = disk.with_suffix(".qcow2")
    with ExitStack() as stack:
        manifest = stack.enter_context(Manifest.temporary(size=disk.stat().st_size, directory=disk.parent))
        async with open_source(str(disk)) as source:
            new = NewImage(image_path, source.size, options=ImageOptions("own", level))
            async with create_image(new, "qcow2", options) as image:
                extents = [whole(source.size)]
                await copy(
                    source, image.device, extents, options=options, manifest=manifest, bytes_expected=source.size
                )
                await image.finish()
    image_path.unlink()


async def copied(disks: list[Path], limit: int, level: int) -> None:
    options = split_buffers(CopyOptions(bandwidth=Bandwidth(0, memory_limit=limit)), len(disks))
    await asyncio.gather(*(one(disk, options, level) for disk in disks))


def child(disks: list[Path], limit: int, level: int) -> None:
    tiny = disks[0].with_name("tiny")
    tiny.write_bytes(bytes(MIB))
    asyncio.run(copied([tiny], 0, 0))
    base, began = peak_bytes(), time.monotonic()
    asyncio.run(copied(disks, limit, level))
    found = {"seconds": time.monotonic() - began, "base": base, "peak": peak_bytes()}
    sys.stdout.write(json.dumps(found))


def run(disks: list[Path], limit_mib: int, kind: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", json.dumps([limit_mib * MIB, KINDS[kind], *map(str, disks)])]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def make(folder: Path, count: int, mib: int) -> list[Path]:
    """Bytes of which half can be compressed."""
    disks = [folder / f"disk{number}" for number in range(count)]
    for disk in disks:
        block = os.urandom(MIB) + os.urandom(1024) * 1024
        with open(disk, "wb") as file:
            for _ in range(mib // 2):
                file.write(block)
    return disks


def measure(disks: list[Path], rounds: int) -> list[dict[str, float | str]]:
    rows: list[dict[str, float | str]] = []
    for kind in KINDS:
        taken = {limit: [] for limit in LIMITS_MIB}  # type: dict[int, list[dict[str, float]]]
        run(disks, 0, kind)  # the page cache is warm, the file system has room
        for _ in range(rounds):
            for limit in LIMITS_MIB:
                taken[limit].append(run(disks, limit, kind))
        for limit in LIMITS_MIB:
            pairs = zip(taken[0], taken[limit], strict=True)
            above = max(each["peak"] - each["base"] for each in taken[limit])
            rows.append(
                {
                    "images": kind,
                    "limit_mib": limit,
                    "base_mib": round(statistics.median(each["base"] for each in taken[limit]) / MIB, 1),
                    "peak_mib": round(max(each["peak"] for each in taken[limit]) / MIB, 1),
                    "above_base_mib": round(above / MIB, 1),
                    "speed": round(statistics.median(free["seconds"] / kept["seconds"] for free, kept in pairs), 3),
                }
            )
            line = (
                "{images:6} limit {limit_mib:4} MiB: peak {peak_mib} MiB, {above_base_mib} above base, speed {speed}\n"
            )
            sys.stdout.write(line.format(**rows[-1]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--disks", type=int, default=8)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        limit, level, *disks = json.loads(arguments.child)
        child([Path(disk) for disk in disks], limit, level)
        return
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        rows = measure(make(Path(folder), arguments.disks, arguments.mib), arguments.rounds)
    if arguments.out is not None:
        size = {"disks": arguments.disks, "disk_mib": arguments.mib, "rounds": arguments.rounds}
        record = {**provenance(__doc__, arguments.work), **size, "runs": rows}
        arguments.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""What do the checkpoints of a copy cost, on a target that is a disk?

    .venv/bin/python bench/checkpoints.py [--rounds N] [--size 1G] [--out bench/results/checkpoints.json] FOLDER

A dense disk is copied into a new QCOW2 by qemu-nbd, and into a new file, in turn with checkpoints and without.
Each copy ends with its flush.  CPU is of this process and of qemu-nbd.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from record import provenance

from ntxengine.bench import stats
from ntxengine.bench.disks import make_disk
from ntxengine.bench.suite import Bytes, Disk
from ntxengine.dataplane.copy import Checkpoints, CopyOptions, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source
from ntxengine.images.create import NewImage, create_image
from ntxengine.units import GIB, parse_size

FORMATS = ("qcow2", "raw")
QUESTION = (__doc__ or "").partition("\n")[0]


async def run_once(disk: Path, folder: Path, format: str, *, checkpoints: Checkpoints | None) -> None:
    async with open_source(str(disk)) as source:
        new = NewImage(folder / f"image.{format}", source.size)
        async with create_image(new, format, CopyOptions()) as image:
            with Manifest.temporary(size=source.size, directory=folder) as manifest:
                await copy(
                    source,
                    image.device,
                    [whole(source.size)],
                    options=CopyOptions(target_is_zero=True),
                    manifest=manifest,
                    bytes_expected=source.size,
                    checkpoints=checkpoints,
                )
            await image.abandon()


def cpu_s() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def measured(disk: Path, folder: Path, format: str, *, with_checkpoints: bool) -> tuple[float, float, float, float]:
    """Return GiB/s, CPU seconds per GiB, how many checkpoints were made, and the share of the time that they took."""
    gib = disk.stat().st_size / GIB
    checkpoints = Checkpoints() if with_checkpoints else None
    os.sync()
    began, cpu = time.monotonic(), cpu_s()
    asyncio.run(run_once(disk, folder, format, checkpoints=checkpoints))
    seconds = time.monotonic() - began
    made, share = (checkpoints.made, checkpoints.seconds / seconds) if checkpoints else (0, 0.0)
    return gib / seconds, (cpu_s() - cpu) / gib, float(made), share


def run(rounds: int, size: int, folder: Path) -> dict[str, Any]:
    ways = [(format, with_checkpoints) for format in FORMATS for with_checkpoints in (False, True)]
    samples: dict[str, list[tuple[float, float, float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="ntx-checkpoints-", dir=folder) as name:
        disk = make_disk(Path(name) / "disk", Disk(size=Bytes(size)), seed="checkpoints")
        for number in range(rounds + 1):
            for format, with_checkpoints in ways:
                sample = measured(disk.path, Path(name), format, with_checkpoints=with_checkpoints)
                if number:  # the first one warms up
                    samples.setdefault(f"{format}, {'with' if with_checkpoints else 'without'}", []).append(sample)
    return {
        **provenance(__doc__, folder),
        "bytes": size,
        "ways": {
            name: {
                quantity: msgspec.to_builtins(stats.spread(list(values)))
                for quantity, values in zip(
                    ("gib_per_s", "cpu_s_per_gib", "made", "share_of_time"), zip(*several, strict=True), strict=True
                )
            }
            for name, several in samples.items()
        },
        "paired_rate": {
            format: msgspec.to_builtins(
                stats.spread(
                    [
                        after[0] / before[0]
                        for before, after in zip(samples[f"{format}, without"], samples[f"{format}, with"], strict=True)
                    ]
                )
            )
            for format in FORMATS
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=parse_size, default=GIB)
    parser.add_argument("--out", type=Path)
    parser.add_argument("folder", type=Path, help="on the disk that is asked about")
    arguments = parser.parse_args()
    result = run(arguments.rounds, arguments.size, arguments.folder)
    for name, row in result["ways"].items():
        median = {quantity: values["median"] for quantity, values in row.items()}
        sys.stdout.write(
            f"{name:16} {median['gib_per_s']:5.2f} GiB/s  {median['cpu_s_per_gib']:.3f} s/GiB  "
            f"{median['made']:.0f} checkpoints, {100 * median['share_of_time']:.1f} % of the time\n"
        )
    for format, ratio in result["paired_rate"].items():
        sys.stdout.write(f"{format}: {ratio['median']:.3f} of the rate without\n")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

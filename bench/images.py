"""What do images cost: written by the core, by a qemu-nbd and by qemu-img, and read from a chain?

    .venv/bin/python bench/images.py [--rounds N] [--size 1G] [--only CASE]... [--first] [--out FILE] FOLDER

    dense   a dense disk from the page cache into a new QCOW2, synced: the core; a qemu-nbd; a loop of direct writes
    point   the same, then read back and compared, as a capture does
    block   the same disk from a loop device past every page cache; with the CPU of all kernel threads (root)
    two     two of them at once: the core; two qemu-img convert -W -m 16 -t none; two loops
    zstd-1  a disk that becomes smaller, compressed: the core, unpacked again and compared; qemu-img convert -c
    zstd-3  the same, at that level
    read    a chain of 10, digested: found by our tables; by a map of qemu-img
    packed  an image compressed by zstd, digested: found by our tables; through a qemu-nbd
    chains  two chains of 10 at once into two files: the core, digested; two qemu-img convert -W -m 16

FOLDER is on the disk that is asked about.  Everybody takes a turn in each round; CPU is of all processes, where it is
said also of the kernel's threads, whomever they work for: on a machine that is not idle it is too much.  With --first
(root) whoever is measured runs before all else, for a machine that has other work.  The core runs in this process,
which is started before, as an agent is.  What becomes smaller is the programs and texts of this machine.  A bar is met
where the median of the ratios, or of CPU-s/GiB, keeps to it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import mmap
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from image_bars import gib_of, judged
from record import provenance

from ntxengine.bench import stats
from ntxengine.bench.disks import make_disk
from ntxengine.bench.servers import loop_device
from ntxengine.bench.suite import Bytes, Disk
from ntxengine.concurrency.parallel import map_limited
from ntxengine.dataplane.copy import CopyOptions, copy, digest, verify
from ntxengine.dataplane.extents import make, whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source
from ntxengine.images import open as opening
from ntxengine.images.choice import ImageOptions
from ntxengine.images.create import NewImage, create_image
from ntxengine.units import BLOCK_SIZE, GIB, MIB, parse_size

QUESTION = (__doc__ or "").partition("\n")[0]
CHAIN = 10
OPTIONS = CopyOptions()


@dataclass
class Place:
    """What is copied, and where to: `disks` are dense, `smaller` is not; chains are nearest image first."""

    folder: Path
    disks: list[Path] = field(default_factory=list)
    smaller: Path = Path()
    chains: list[list[Path]] = field(default_factory=list)
    packed: Path = Path()
    block: Path = Path()

    def new(self, number: int) -> Path:
        """Return a name at which nothing is."""
        path = self.folder / f"new-{number}"
        path.unlink(missing_ok=True)
        return path


Way = Callable[[Place], None]
Scheduled = Callable[[], AbstractContextManager[None]]


# ------------------------------------------------------------------------------------------------------- writing


async def write(disk: Path, new: NewImage, extents: Iterable[Any] | None = None, *, reads_back: bool = False) -> None:
    """Copy a disk, or the extents of it, into a new image; and read it back."""
    async with open_source(str(disk)) as source, create_image(new, new.options.format, OPTIONS) as image:
        with Manifest.temporary(size=source.size, directory=new.path.parent) as manifest:
            options = dataclasses.replace(OPTIONS, target_is_zero=not new.backing)
            await copy(source, image.device, extents or [whole(source.size)], options=options, manifest=manifest)
            await image.finish()
            if reads_back:
                async with opening.open_image([new.path], connections=OPTIONS.most_connections) as written:
                    await verify(written, manifest, options=OPTIONS, trusts_zeros=True)


def written(disks: Callable[[Place], list[Path]], image: ImageOptions, *, reads_back: bool = False) -> Way:
    """Return the way of the core, or of a qemu-nbd: all disks at once."""

    async def write_all(place: Place) -> None:
        news = [NewImage(place.new(number), size_of(disk), options=image) for number, disk in enumerate(disks(place))]
        pairs = list(zip(disks(place), news, strict=True))
        await map_limited(pairs, lambda pair: write(*pair, reads_back=reads_back), at_once=len(pairs))
        for new in news:
            sync(new.path)

    return lambda place: asyncio.run(write_all(place))


def converted(disks: Callable[[Place], list[Path]], *options: str) -> Way:
    """Return the way of qemu-img: one for each disk, all at once."""

    def convert(place: Place) -> None:
        pairs = [(disk, place.new(number)) for number, disk in enumerate(disks(place))]
        command = ("qemu-img", "convert", "-W", "-m", "16", *options)
        in_format = ("-f", "qcow2" if pairs[0][0].suffix == ".qcow2" else "raw")
        running = [subprocess.Popen([*command, *in_format, disk, new]) for disk, new in pairs]
        if any(each.wait() for each in running):
            raise SystemExit("qemu-img convert failed")
        for _, new in pairs:
            sync(new)

    return convert


def looped(disks: Callable[[Place], list[Path]]) -> Way:
    """Return a loop of reads and direct writes, and nothing else: what the disk takes."""

    def loop(disk: Path, new: Path) -> None:
        source = os.open(disk, os.O_RDONLY)
        target = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o600)
        with mmap.mmap(-1, MIB) as buffer:
            at = 0
            while got := os.preadv(source, [buffer], at):
                at += os.pwritev(target, [buffer], at) if got == MIB else got
        os.close(source)
        os.close(target)
        sync(new)

    def run(place: Place) -> None:
        pairs = [(disk, place.new(number)) for number, disk in enumerate(disks(place))]
        with ThreadPoolExecutor(len(pairs)) as pool:
            list(pool.map(lambda pair: loop(*pair), pairs))

    return run


def size_of(disk: Path) -> int:
    with disk.open("rb") as file:
        return file.seek(0, os.SEEK_END)


def sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


# ------------------------------------------------------------------------------------------------------- reading


def digested(chain: Callable[[Place], list[Path]], first_way: int) -> Way:
    """Return the way to read a chain as a verification does, by the ways of open.py from `first_way` on."""

    async def read(place: Place) -> None:
        ways, opening.WAYS = opening.WAYS, opening.WAYS[first_way:]
        try:
            async with opening.open_image(chain(place), connections=4) as device:
                with Manifest.temporary(size=device.size, directory=place.folder) as manifest:
                    await digest(device, manifest, options=OPTIONS, reads_all=False)
        finally:
            opening.WAYS = ways

    return lambda place: asyncio.run(read(place))


async def restore(place: Place) -> None:
    async def one(pair: tuple[int, list[Path]]) -> None:
        number, chain = pair
        path = place.new(number)
        size = os.stat(place.disks[number]).st_size
        reading = opening.open_image(chain, connections=4)
        async with reading as source, create_image(NewImage(path, size), "raw", OPTIONS) as image:
            with Manifest.temporary(size=source.size, directory=place.folder) as manifest:
                options = dataclasses.replace(OPTIONS, target_is_zero=True)
                await copy(source, image.device, [whole(source.size)], options=options, manifest=manifest)
            await image.finish()
        sync(path)

    pairs = list(enumerate(place.chains))
    await map_limited(pairs, one, at_once=len(pairs))


def one_disk(place: Place) -> list[Path]:
    return place.disks[:1]


def smaller(place: Place) -> list[Path]:
    return [place.smaller]


ZSTD = ("-O", "qcow2", "-c", "-o", "compression_type=zstd")
CASES: dict[str, dict[str, Way]] = {
    "dense": {
        "core": written(one_disk, ImageOptions()),
        "qemu-nbd": written(one_disk, ImageOptions(writer="qemu")),
        "loop": looped(one_disk),
    },
    "point": {"core": written(one_disk, ImageOptions(), reads_back=True)},
    "block": {"core": written(lambda place: [place.block], ImageOptions())},
    "two": {
        "core": written(lambda place: place.disks, ImageOptions()),
        "qemu-img": converted(lambda place: place.disks, "-O", "qcow2", "-t", "none"),
        "loop": looped(lambda place: place.disks),
    },
    "zstd-1": {"core": written(smaller, ImageOptions(zstd_level=1)), "qemu-img": converted(smaller, *ZSTD)},
    "zstd-3": {"core": written(smaller, ImageOptions(zstd_level=3)), "qemu-img": converted(smaller, *ZSTD)},
    "read": {"core": digested(lambda place: place.chains[0], 0), "map": digested(lambda place: place.chains[0], 1)},
    "packed": {
        "core": digested(lambda place: [place.packed], 0),
        "qemu-nbd": digested(lambda place: [place.packed], 2),
    },
    "chains": {
        "core": lambda place: asyncio.run(restore(place)),
        "qemu-img": converted(lambda place: [chain[0] for chain in place.chains], "-O", "raw"),
    },
}


# ----------------------------------------------------------------------------------------------------- measuring


def make_place(folder: Path, size: int) -> Place:
    place = Place(folder)
    for number in range(2):
        disk = make_disk(folder / f"disk-{number}", Disk(size=Bytes(size)), seed=f"images-{number}")
        place.disks.append(disk.path)
        place.chains.append(asyncio.run(make_chain(folder, disk.path, number)))
    place.smaller = folder / "smaller"
    make_smaller(place.smaller, size)
    place.packed = folder / "packed.qcow2"
    asyncio.run(write(place.smaller, NewImage(place.packed, size, options=ImageOptions(zstd_level=1))))
    return place


def make_smaller(path: Path, size: int) -> None:
    """What a disk of a system holds, in the order of the names."""
    with path.open("wb") as file:
        for top in ("/usr/bin", "/usr/lib", "/usr/share"):
            for found in sorted(Path(top).rglob("*")):
                if file.tell() < size and found.is_file() and not found.is_symlink():
                    file.write(found.read_bytes()[: size - file.tell()])
        if file.tell() < size:
            raise SystemExit(f"{path}: this machine has only {file.tell()} bytes of programs and texts: give --size")


async def make_chain(folder: Path, disk: Path, number: int) -> list[Path]:
    """A full image, and on top of it nine of a twentieth of the blocks each."""
    size, chance = disk.stat().st_size, random.Random(number)
    chain: list[Path] = []
    for depth in range(CHAIN):
        path = folder / f"chain-{number}-{depth}.qcow2"
        below = chain[0].name if chain else ""
        blocks = sorted(chance.sample(range(size // BLOCK_SIZE), size // BLOCK_SIZE // 20))
        extents = [make([(block * BLOCK_SIZE, BLOCK_SIZE, 0) for block in blocks])] if chain else None
        await write(disk, NewImage(path, size, below, tuple(chain)), extents)
        chain.insert(0, path)
    return chain


def cpu_s() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def kernel_threads() -> dict[str, float]:
    """CPU seconds of each thread of the kernel: who copies past the page cache works in some of them, too."""
    spent = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if fields[1] == "2":  # its parent
                spent[path.parent.name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return spent


@contextlib.contextmanager
def scheduled_first() -> Iterator[None]:
    """Run this process, and what it starts, before all that has no fixed priority."""
    before = os.sched_getscheduler(0)
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, before, os.sched_param(0))


def measured(way: Way, place: Place, *, with_kernel: bool = False) -> dict[str, float]:
    os.sync()
    threads = kernel_threads() if with_kernel else {}
    began, cpu = time.monotonic(), cpu_s()
    way(place)
    seconds, spent = time.monotonic() - began, cpu_s() - cpu
    if with_kernel:
        spent += sum(now - threads.get(name, 0.0) for name, now in kernel_threads().items())
    news = [path for path in (place.folder / f"new-{number}" for number in range(2)) if path.exists()]
    made = sum(path.stat().st_blocks * 512 for path in news)
    for path in news:
        path.unlink()
    return {"seconds": seconds, "cpu_s": spent, "bytes": float(made)}


def run(rounds: int, names: list[str], place: Place, scheduled: Scheduled) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        samples: dict[str, list[dict[str, float]]] = {who: [] for who in CASES[name]}
        for number in range(rounds + 1):
            for who, way in CASES[name].items():
                with scheduled():
                    sample = measured(way, place, with_kernel=name == "block")
                if number:  # the first one warms up
                    samples[who].append(sample)
        ours = samples["core"]
        found[name] = {
            "samples": samples,
            "ratios": {
                who: {
                    quantity: msgspec.to_builtins(
                        stats.spread([them[quantity] / us[quantity] for us, them in zip(ours, theirs, strict=True)])
                    )
                    for quantity in ("seconds", "cpu_s", "bytes")
                    if ours[0][quantity]
                }
                for who, theirs in samples.items()
                if who != "core"
            },
        }
    return found


def show(case: str, result: dict[str, Any], gib: float) -> None:
    for who, samples in result["samples"].items():
        rate = stats.spread([gib / sample["seconds"] for sample in samples])
        cpu = stats.spread([sample["cpu_s"] / gib for sample in samples])
        assert rate is not None
        assert cpu is not None
        ratio = "".join(f"  {name} x{value['median']:.2f}" for name, value in result["ratios"].get(who, {}).items())
        sys.stdout.write(f"{case:8} {who:9} {rate.median:5.2f} GiB/s  {cpu.median:.2f} CPU-s/GiB{ratio}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=parse_size, default=GIB)
    parser.add_argument("--only", action="append", choices=CASES)
    parser.add_argument("--first", action="store_true", help="measure before all else that runs on this machine")
    parser.add_argument("--out", type=Path)
    parser.add_argument("folder", type=Path, help="on the disk that is asked about")
    arguments = parser.parse_args()
    names = arguments.only or [name for name in CASES if name != "block" or os.geteuid() == 0]
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="ntx-images-", dir=arguments.folder))
        place = make_place(Path(name), arguments.size)
        if "block" in names:
            place.block = Path(stack.enter_context(loop_device(place.disks[0])))
        found = run(arguments.rounds, names, place, scheduled_first if arguments.first else contextlib.nullcontext)
    for case, result in found.items():
        show(case, result, gib_of(case, arguments.size))
    bars = judged(found, arguments.size)
    for bar in bars:
        sys.stdout.write("{case:8} {quantity} {against:9} {limit:.2f}: {reached:.2f} {outcome}\n".format(**bar))
    if arguments.out:
        record = {**provenance(__doc__, arguments.folder), "bytes": arguments.size, "bars": bars, "cases": found}
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

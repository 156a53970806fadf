"""Where does the engine's CPU time go?

    python bench/scale/hot_spots.py [--size 1G] [--copies N] [--save NAME]

Dense data from the page cache to nbdkit null over a unix socket, under `perf record` (Debian: linux-perf), which needs
root or perf_event_paranoid <= 1, and which adds some CPU time itself.  Given are CPU seconds per GiB by what the code
does, and the symbols with the most.  Where the machine has no counters, perf samples by a timer: what runs with
interrupts off is counted where they are on again (`finish_task_switch`, `_raw_spin_unlock_irqrestore`).
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measure import parser, report

from ntxengine.bench.disks import make_disk
from ntxengine.bench.suite import Bytes, Disk
from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.units import GIB, parse_size
from tests.support.servers import nbdkit

ATTACHING_S = 1.0

# The first that matches "<file> <symbol>" has it.
KINDS = {
    "copying bytes": r"_copy_to_iter|_copy_from_iter|rep_movs|copy_user|memcpy|memmove",
    "finding pages of the file": r"filemap|xas_|folio|touch_atime|file_read|vfs_read|ext4|xfs|btrfs|copy_page_to_iter",
    "digest and zero test": r"libxxhash|ntx_digest|is_zero",
    "memory of its own": r"fault|clear_page|freelist|tlb|vma|anon|mm_|madvise",
    "switching and waking threads": r"task_switch|spin_|schedul|wake|poll|futex|timer|sleep|rq",
    "sending": r"splice|skb|unix_|sock|gup|iter|pipe|kmalloc|kmem|memcg|slab|stock|alloc|free|page|send|iov|syscall",
    "Python": r"^(libpython|python)|openblas|multiarray",
    "our own code": r"^engine\.",
}


def kind_of(place: str) -> str:
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, place)), "other")


async def copy_once(file: Path, server: str) -> None:
    async with open_source(str(file)) as source, open_target(server, source=source) as target:
        with Manifest.temporary(size=source.size) as manifest:
            await copy(
                source,
                target.device,
                [whole(source.size)],
                options=CopyOptions(),
                manifest=manifest,
                bytes_expected=source.size,
            )


@contextmanager
def recording(data: Path) -> Iterator[None]:
    """Sample this process, all its threads."""
    command = ["perf", "record", "--quiet", "--event=cpu-clock", "--freq=1999", "--inherit"]
    with subprocess.Popen([*command, f"--output={data}", f"--pid={os.getpid()}"]) as perf:
        try:
            time.sleep(ATTACHING_S)
            yield
        finally:
            perf.send_signal(signal.SIGINT)


def nanoseconds(data: Path) -> Counter[tuple[str, str]]:
    """Return the CPU time of each symbol of a recording, by file and name."""
    command = ["perf", "report", "--stdio", "--fields=period,dso,sym", "--field-separator=|", f"--input={data}"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spent: Counter[tuple[str, str]] = Counter()
    for line in text.splitlines():
        if line and not line.startswith("#"):
            period, file, symbol = line.split("|", 2)
            name = symbol.split("]", 1)[1].strip()  # behind [k] or [.]
            spent[file.strip(), "(no name)" if name.startswith("0x") else name] += int(period)
    return spent


def summary(spent: Counter[tuple[str, str]], gib: float) -> dict[str, object]:
    kinds: Counter[str] = Counter()
    for (file, name), ns in spent.items():
        kinds[kind_of(f"{file} {name}")] += ns

    def per_gib(ns: int) -> float:
        return round(ns / 1e9 / gib, 4)

    return {
        "cpu_s_per_gib": per_gib(spent.total()),
        "by_kind": {kind: per_gib(ns) for kind, ns in kinds.most_common()},
        "share": {kind: round(ns / spent.total(), 3) for kind, ns in kinds.most_common()},
        "by_symbol": {f"{file}: {name}": per_gib(ns) for (file, name), ns in spent.most_common(25)},
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=parse_size, default=parse_size("1G"))
    arguments.add_argument("--copies", type=int, default=20)
    given = arguments.parse_args()
    if shutil.which("perf") is None:
        sys.exit("hot_spots.py: perf is not installed (Debian: linux-perf)")
    with tempfile.TemporaryDirectory() as name, nbdkit("null", str(given.size)) as server, asyncio.Runner() as runner:
        data, file = Path(name) / "perf.data", Path(name) / "disk"
        make_disk(file, Disk(size=Bytes(given.size)), seed="hot spots")
        runner.run(copy_once(file, server))  # warms up
        with recording(data):
            for _ in range(given.copies):
                runner.run(copy_once(file, server))
        spent = nanoseconds(data)
    report(__doc__, given.save, summary(spent, given.size * given.copies / GIB))


if __name__ == "__main__":
    main()

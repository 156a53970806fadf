"""How much of the processor does Python take while the core copies 10 GiB?

    python bench/scale/python_share.py [--size 10G] [--save NAME]

Python's seconds are what the process used while copy() ran, without what the threads of the job used themselves
(report.cpu_seconds).  Its share is given of all CPU of the process, and of the wall time (how busy one core is).
With progress shown as the command line does it, once in 0.2 s; the starting of the process is not part of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import Spent, parser, report, spending

from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.units import MIB, format_rate, format_size, parse_size
from tests.support.servers import nbdkit


@contextlib.contextmanager
def cases(size: int, directory: str | None) -> Iterator[dict[str, tuple[str, str]]]:
    with tempfile.TemporaryDirectory(dir=directory) as folder, nbdkit("null", str(size)) as server:
        file = Path(folder) / "disk"
        with open(file, "wb") as disk:
            part = bytes(range(1, 256)) * (MIB // 255 + 1)
            for _ in range(size // MIB):
                disk.write(part[:MIB])
        yield {
            "pattern to null:": (f"pattern:{size}", "null:"),
            "file to nbdkit null": (str(file), server),
        }


async def measure(source: str, target: str) -> dict[str, Any]:
    shown: list[str] = []
    spent = Spent()
    async with open_source(source) as device, open_target(target, source=device) as to:
        with Manifest.temporary(size=device.size) as manifest, spending(spent):
            done = await copy(
                device,
                to.device,
                [whole(device.size)],
                options=CopyOptions(),
                manifest=manifest,
                bytes_expected=device.size,
                on_progress=lambda now: shown.append(f"{format_size(now.bytes_done)} {now.seconds:.1f}"),
            )
    assert done.bytes_read == done.bytes_sent == done.bytes_total
    python_s = spent.cpu_s - done.cpu_seconds
    return {
        **spent.as_dict(),
        "python_cpu_s": round(python_s, 4),
        "python_share_of_cpu": round(python_s / spent.cpu_s, 5),
        "python_share_of_wall": round(python_s / spent.wall_s, 5),
        "wakes": len(shown),
        "rate": format_rate(done.bytes_done / done.seconds),
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=parse_size, default=parse_size("10G"))
    arguments.add_argument("--directory", help="where the file is made (default: the temporary folder)")
    given = arguments.parse_args()
    figures: dict[str, Any] = {"size": given.size}
    with cases(given.size, given.directory) as ends:
        for name, (source, target) in ends.items():
            figures[name] = asyncio.run(measure(source, target))
    report(__doc__, given.save, figures)


if __name__ == "__main__":
    main()

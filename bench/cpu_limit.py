"""Does a limit of the processor time hold over a minute, whoever takes it: this process alone, or a server of its own?

    python bench/cpu_limit.py [--seconds 60] [--out FILE]

A copy that never ends: dense bytes to nowhere, and to a qemu-nbd that this process has started.  `taken` is the
processor time of both, as a part of all processors of the machine; `of_limit` is that in parts of the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from record import provenance

from ntxengine.dataplane import cpu
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.dataplane.copy import CopyOptions, Progress, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.open import open_source, open_target

SIZE = 1 << 44
LIMITS = (0.01, 0.05, 0.1)


@contextmanager
def a_server(folder: Path) -> Iterator[str]:
    socket = folder / "nbd"
    image = f"driver=null-co,size={SIZE}"
    server = subprocess.Popen(["qemu-nbd", "-t", "-e", "4", "-k", str(socket), "--image-opts", image])
    try:
        while not socket.exists():
            time.sleep(0.05)
        yield f"nbd+unix:///?socket={socket}"
    finally:
        server.terminate()
        server.wait()


@contextmanager
def nowhere(folder: Path) -> Iterator[str]:
    del folder
    yield "null:"


TARGETS = {"nowhere": nowhere, "a qemu-nbd": a_server}


def taken_s() -> float:
    return time.process_time() + cpu.children_ns() / 1e9


def measure(target: str, limit: float, seconds: float) -> dict[str, float | str]:
    with tempfile.TemporaryDirectory() as folder, TARGETS[target](Path(folder)) as uri:
        return {"target": target, "limit": limit, **asyncio.run(copied(uri, limit, seconds))}


async def copied(uri: str, limit: float, seconds: float) -> dict[str, float]:
    seen: list[Progress] = []
    options = CopyOptions(bandwidth=Bandwidth(0, cpu_limit=limit))
    async with open_source(f"pattern:{SIZE}") as source, open_target(uri, source=source) as opened:
        endless = copy(source, opened.device, [whole(SIZE)], options=options, on_progress=seen.append)
        task = asyncio.ensure_future(endless)
        began, before = time.monotonic(), taken_s()
        await asyncio.sleep(seconds)
        taken = (taken_s() - before) / (time.monotonic() - began) / (os.cpu_count() or 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    rate = seen[-1].bytes_read / seen[-1].seconds / (1 << 30)
    return {"taken": taken, "of_limit": taken / limit, "gib_per_s": rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = []
    for target in TARGETS:
        for limit in LIMITS:
            found.append(measure(target, limit, arguments.seconds))
            line = "{target:12} limit {limit:.0%}: {of_limit:.3f} of it, {gib_per_s:.3f} GiB/s\n"
            sys.stdout.write(line.format(**found[-1]))
    if arguments.out is not None:
        record = {**provenance(__doc__, Path(tempfile.gettempdir())), "seconds": arguments.seconds, "runs": found}
        arguments.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

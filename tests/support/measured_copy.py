"""A program: copies at the same time, and how much more memory they took than they had reserved.

    python -m tests.support.measured_copy JSON

`copies` is pairs of source and target, as `ntx copy` has them, or `image:PATH` and `image:PATH:zstd:LEVEL`; `options`
are of CopyOptions, `memory_limit` is that of all, `tls` a file with a pre-shared key.  Prints JSON: the bytes that each
had reserved, the most that all had, and by how many bytes memory grew at most.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ntxengine._core.device import Device
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.dataplane.buffers import split_buffers
from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.dataplane.security import ConnectionOptions, TlsOptions
from ntxengine.images.choice import ImageOptions
from ntxengine.images.create import NewImage, create_image
from ntxengine.images.open import open_image
from ntxengine.units import BLOCK_SIZE, KIB


def resident() -> tuple[int, int]:
    """Return what this process has in memory of its own, and the most that it had since it was reset, in bytes."""
    status = Path("/proc/self/status").read_text()
    now, most = (re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "VmHWM"))
    assert now is not None
    assert most is not None
    return int(now[1]) * KIB, int(most[1]) * KIB


@asynccontextmanager
async def opened_source(text: str, connection: ConnectionOptions) -> AsyncIterator[Device]:
    opening = open_image([Path(text.removeprefix("image:"))]) if text.startswith("image:") else None
    async with opening or open_source(text, connection=connection) as device:
        yield device


@asynccontextmanager
async def opened_target(
    text: str, source: Device, options: CopyOptions, connection: ConnectionOptions
) -> AsyncIterator[Device]:
    if not text.startswith("image:"):
        async with open_target(text, source=source, connection=connection) as target:
            yield target.device
        return
    _, path, _, level = text.split(":")
    new = NewImage(Path(path), source.size, options=ImageOptions("own", int(level)))
    async with create_image(new, "qcow2", options) as image:
        yield image.device
        await image.finish()


async def copied(source: str, target: str, options: CopyOptions, connection: ConnectionOptions) -> int:
    async with (
        opened_source(source, connection) as device,
        opened_target(target, device, options, connection) as to,
        AsyncManifest(device.size) as manifest,
    ):
        report = await copy(device, to, [whole(device.size)], options=options, manifest=manifest, reads_all=True)
    return report.memory_bytes


class AsyncManifest:
    """Digests in a file that nobody else sees."""

    def __init__(self, size: int) -> None:
        self._manifest = Manifest.temporary(size=size)

    async def __aenter__(self) -> Manifest:
        return self._manifest.__enter__()

    async def __aexit__(self, *error: Any) -> None:
        self._manifest.__exit__(*error)


async def copied_at_once(
    copies: list[tuple[str, str]], options: CopyOptions, connection: ConnectionOptions
) -> list[int]:
    return list(await asyncio.gather(*(copied(*each, options, connection) for each in copies)))


def main() -> None:
    said = json.loads(sys.argv[1])
    tls, limit = said.get("tls"), Bandwidth(0, memory_limit=said.get("memory_limit", 0))
    connection = ConnectionOptions() if tls is None else ConnectionOptions(tls=TlsOptions(psk=Path(tls)))
    options = split_buffers(CopyOptions(**said["options"], bandwidth=limit), len(said["copies"]))
    asyncio.run(copied(f"pattern:{BLOCK_SIZE}", "null:", options, ConnectionOptions()))  # what is loaded once is there
    Path("/proc/self/clear_refs").write_text("5")
    before, _ = resident()
    reserved = asyncio.run(copied_at_once(said["copies"], options, connection))
    taken = resident()[1] - before
    sys.stdout.write(json.dumps({"reserved": reserved, "peak_reserved": limit.memory.peak, "taken": taken}))


if __name__ == "__main__":
    main()

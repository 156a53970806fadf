"""The engine as an agent embeds it: a process that has everything imported and opens nothing until it is asked.

    python -m ntxengine.bench.client

One request per line on stdin (wire.py).  Copies of one request run at the same time, in one event loop for all
requests, as an agent has it.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from contextlib import ExitStack
from pathlib import Path

import msgspec

from ntxengine.bench.wire import Done, Proof, Report, Request
from ntxengine.concurrency.parallel import map_limited
from ntxengine.dataplane.copy import CopyOptions, CopyReport, copy, digest
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.mapping import map_device
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.dataplane.security import ConnectionOptions, SshOptions, TlsOptions
from ntxengine.errors import NtxError
from ntxengine.images.open import open_image
from ntxengine.units import KIB


def main() -> None:
    """Answer requests until stdin ends."""
    with asyncio.Runner() as runner:
        for line in sys.stdin.buffer:
            _answer(msgspec.json.decode(line, type=Request), runner)


def _answer(request: Request, runner: asyncio.Runner) -> None:
    with ExitStack() as stack:
        before = _cpu_seconds()
        try:
            done = runner.run(_work(request, stack))
        except (NtxError, OSError) as exc:
            _say(Done(error=f"{type(exc).__name__}: {exc}"))
            return
        reports, manifests = zip(*done, strict=True)
        _say(Done(cpu_seconds=_cpu_seconds() - before, peak_memory=_peak_memory(), reports=reports))
        # Sealing syncs the manifest to the disk, which is no part of a copy between two other places.
        _say(Proof(digests=tuple(manifest.seal() for manifest in manifests)))


async def _work(request: Request, stack: ExitStack) -> list[tuple[Report, Manifest]]:
    options = CopyOptions(**request.options)  # type: ignore[arg-type]
    if request.mode == "verify":
        return await map_limited(
            request.sources, lambda source: _digest(source, options, stack), at_once=len(request.sources)
        )
    pairs = list(zip(request.sources, request.targets, strict=True))
    tls = TlsOptions(ca=Path(request.tls_ca)) if request.tls_ca else None
    ssh = SshOptions(Path(request.ssh_key), Path(request.ssh_known_hosts)) if request.ssh_key else None
    connection = ConnectionOptions(tls, ssh)
    return await map_limited(pairs, lambda pair: _copy(*pair, options, connection, stack), at_once=len(pairs))


async def _copy(
    source: str, target: str, options: CopyOptions, connection: ConnectionOptions, stack: ExitStack
) -> tuple[Report, Manifest]:
    async with open_source(source) as device:
        manifest = stack.enter_context(Manifest.temporary(size=device.size))
        with await map_device(device) as extents:
            async with open_target(target, source=device, connection=connection) as to:
                report = await copy(
                    device,
                    to.device,
                    extents.windows(),
                    options=options,
                    manifest=manifest,
                    bytes_expected=extents.bytes_data + extents.bytes_zero,
                )
    return _report(report), manifest


async def _digest(image: str, options: CopyOptions, stack: ExitStack) -> tuple[Report, Manifest]:
    """Read an image back as `ntx verify` does."""
    async with open_image([Path(image)], connections=options.most_connections) as device:
        manifest = stack.enter_context(Manifest.temporary(size=device.size))
        with await map_device(device) as extents:
            expected = extents.bytes_data + extents.bytes_zero
            report = await digest(device, manifest, options=options, extents=extents.windows(), bytes_expected=expected)
    return _report(report), manifest


def _report(report: CopyReport) -> Report:
    known = {name: getattr(report, name) for name in Report.__struct_fields__ if name != "digest"}
    return Report(**known)


def _cpu_seconds() -> float:
    """Of this process, and of those that it started and has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _peak_memory() -> int:
    """Return the most memory that this process ever had, in bytes.

    Not ru_maxrss: Linux counts in it what the process was a copy of before it became this program.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * KIB
    return 0


def _say(message: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

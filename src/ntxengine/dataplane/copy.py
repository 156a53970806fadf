"""One device copied to another: the awaitable side of the C core's job.

asyncio feeds extents and waits on the job's descriptor; C threads do the rest.  Whatever happens, a coroutine of this
module returns only when every thread of its job has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext

from ntxengine._core.device import Device
from ntxengine._core.engine import Job
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.buffers import limits_of, reserved
from ntxengine.dataplane.checkpoints import Checkpoints as Checkpoints
from ntxengine.dataplane.differing import require_same
from ntxengine.dataplane.extents import Extents, as_data, beginning_at, total, whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.options import CopyOptions as CopyOptions
from ntxengine.dataplane.progress import CopyReport as CopyReport
from ntxengine.dataplane.progress import Pace as Pace
from ntxengine.dataplane.progress import Progress as Progress
from ntxengine.dataplane.transfer import OnProgress as OnProgress
from ntxengine.dataplane.transfer import Transfer
from ntxengine.errors import ChecksumMismatch
from ntxengine.files import free_space
from ntxengine.units import BLOCK_SIZE


async def copy(
    source: Device,
    target: Device,
    extents: Iterable[Extents],
    *,
    options: CopyOptions,
    manifest: Manifest | None = None,
    reference: Manifest | None = None,
    disk_size: int | None = None,
    bytes_expected: int = 0,
    reads_all: bool = False,
    checkpoints: Checkpoints | None = None,
    on_progress: OnProgress | None = None,
) -> CopyReport:
    """Copy `extents` from `source` to the same offsets of `target` and flush.

    Shape:  `extents` are windows, ascending and not overlapping over all of them.
    Units:  bytes; `bytes_expected` is their sum, for progress and for the size of work ranges.
    Digests of every block touched go to `manifest`, whose size is the disk's: a device may be padded behind it.
    Only a stream may end anywhere below `disk_size`: then the source's size is the disk's once it is copied.
    Blocks that have the same digest in `reference` are not sent.
    `reads_all`: what the source says of itself is not believed, as otherwise it is where it says that it is zero.
    `checkpoints`: the copy begins where they say that it got to, and says there how far it got, however it ends; then
    `is_resumed` is set.  What an earlier one has left behind that is written again, zeros too.
    Errors: SourceError, TargetError, NbdError, TransferTimeout, OptionsError.
    """
    size = disk_size or (source.size if manifest is None else manifest.size)
    is_resumed = checkpoints is not None and checkpoints.is_resumed
    options = options.into(target.preferred_block)
    windows = iter(extents if checkpoints is None else beginning_at(checkpoints.stored_to, extents))
    needs = reserved(source, target, options, disk_size=size, bytes_expected=bytes_expected)
    async with needs as (options, memory_bytes):
        job = Job(
            source,
            target,
            limits_of(source, target, options),
            disk_size=size,
            target_is_zero=options.target_is_zero and not is_resumed,
            reads_all=reads_all,
            bytes_expected=bytes_expected,
            makes_checkpoints=checkpoints is not None,
            digest_fd=manifest.fd if manifest else -1,
            digest_offset=Manifest.digest_offset,
            digests_are_zero=manifest.is_fresh and not is_resumed if manifest else False,
            reference_fd=reference.fd if reference else -1,
            reference_offset=Manifest.digest_offset,
            reference_blocks=_comparable_blocks(reference, size),
            limiter=options.limiter,
            keep=(manifest, reference),
        )
        try:
            transfer = Transfer(job, windows, options, bytes_expected, memory_bytes, on_progress, checkpoints, manifest)
            with nullcontext() if manifest is None else free_space.naming(manifest.path, "writing digests"):
                return await transfer.run()
        finally:
            job.close()


def _comparable_blocks(reference: Manifest | None, size: int) -> int:
    """Blocks that mean the same bytes in both: a short last block does only when the sizes are equal."""
    if reference is None:
        return 0
    if reference.size == size:
        return reference.blocks
    return min(reference.size, size) // BLOCK_SIZE


async def digest(
    source: Device,
    manifest: Manifest,
    *,
    options: CopyOptions,
    extents: Iterable[Extents] | None = None,
    bytes_expected: int = 0,
    reads_all: bool = False,
    checkpoints: Checkpoints | None = None,
    on_progress: OnProgress | None = None,
) -> CopyReport:
    """Read `extents` (default: the whole disk) and put the digests of their blocks into `manifest`.

    Errors: as `copy`.
    """
    target = Device.open_null(source.size)
    try:
        return await copy(
            source,
            target,
            [whole(manifest.size)] if extents is None else extents,
            options=options,
            manifest=manifest,
            bytes_expected=manifest.size if extents is None else bytes_expected,
            reads_all=reads_all,
            checkpoints=checkpoints,
            on_progress=on_progress,
        )
    finally:
        target.close()


async def verify(
    source: Device,
    manifest: Manifest,
    *,
    options: CopyOptions,
    extents: Callable[[], Iterable[Extents]] | None = None,
    trusts_zeros: bool = False,
    checkpoints: Checkpoints | None = None,
    found: Manifest | None = None,
    on_progress: OnProgress | None = None,
) -> CopyReport:
    """Read back and compare with `manifest`: the whole source, or only the blocks that `extents()` touches.

    Everything is read, zeros too: a server that did not store them may still say that they are there.  `trusts_zeros`:
    what `source` and `extents` say is zero is not read.  Only for images, where that is what the image holds.
    `found` gets the digests of what was read; with it and `checkpoints` it is gone on with as a copy is.
    Errors: ChecksumMismatch with the offsets of the first differing blocks; else as `copy`.
    """
    if source.size < manifest.size:
        raise ChecksumMismatch(f"{source.name}: has {source.size} bytes, its manifest {manifest.size}")
    with nullcontext(found) if found is not None else Manifest.temporary(size=manifest.size) as found:
        windows = None if extents is None else extents() if trusts_zeros else map(as_data, extents())
        expected = 0 if extents is None else await to_thread_joined(_total, extents())
        report = await digest(
            source,
            found,
            options=options,
            extents=windows,
            bytes_expected=expected,
            reads_all=not trusts_zeros,
            checkpoints=checkpoints,
            on_progress=on_progress,
        )
        touched = None if extents is None else extents()
        await to_thread_joined(require_same, manifest, found, touched, source.name)
    return report


def _total(windows: Iterable[Extents]) -> int:
    return sum(total(window) for window in windows)

"""A copy from standard input or to standard output: once, in order, and whole or not at all.

                      its size is known              nobody knows it
a new file            has it at once                 grows
a new image           has it at once                 refused: --size
a file that exists    has to have it                 refused: --size
a device, a server    has room for it                the stream ends where it ends, with room for it
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.copying.kept import Kept, keeping_nothing
from ntxengine.copying.request import CopyRequest, CopyResult, DiskCopyReport
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane import standard
from ntxengine.dataplane.copy import CopyReport, OnProgress, Progress
from ntxengine.dataplane.extents import ExtentFile, whole
from ntxengine.dataplane.location import parse
from ntxengine.dataplane.open import closing, new_file, open_existing, open_made
from ntxengine.errors import OptionsError, TargetError

Opened = AbstractAsyncContextManager[Device]


@dataclass(frozen=True)
class _Target:
    """An open target.  `reader` opens what can read it back."""

    device: Device
    is_zero: bool
    reader: Callable[[], Opened] | None = None


async def copy_streamed(
    request: CopyRequest,
    tell: Callable[[str, Progress], None],
    map_source: Callable[[Device], Awaitable[ExtentFile]],
    open_source: Callable[[], Opened],
) -> CopyResult:
    """Copy all that comes.  A connection that is lost is not tried again: what was read cannot be read once more.

    Errors: as copy_disk; SourceError (it ended early, or goes on past its size), TargetError (its reader is gone).
    """
    async with AsyncExitStack() as stack:
        source = None
        size = await to_thread_joined(known_size, request)
        if not request.is_from_stream:
            source = await stack.enter_async_context(open_source())
            size = source.size
        elif size is not None:
            source = await stack.enter_async_context(closing(standard.open_stdin(size, may_end=False)))
        kept = await stack.enter_async_context(keeping_nothing(request, size or 0))
        target = await stack.enter_async_context(_target(request, kept, source))
        if source is None:
            stream = standard.open_stdin(target.device.size, may_end=True)
            source = await stack.enter_async_context(closing(stream))
        report = await _copy(request, kept, source, target, is_known=size is not None, tell=tell, map_source=map_source)
        if size is None and kept.manifest is not None:
            await to_thread_joined(kept.manifest.set_size, source.size)
        verified = await _verify(request, kept, target, lambda progress: tell("verify", progress))
        digest = None if kept.manifest is None else await to_thread_joined(kept.manifest.seal)
        is_larger = not request.is_to_stream and target.device.size < standard.UNBOUNDED
        return CopyResult(
            size=source.size,
            target_size=target.device.size if is_larger else source.size,
            report=DiskCopyReport(
                **vars(report), reconnects=0, bytes_repeated=0, resumed_from=0, checkpoints=0, checkpoint_seconds=0.0
            ),
            digest=digest,
            verified=verified,
        )


def known_size(request: CopyRequest) -> int | None:
    """Return what is known of a copy from standard input before it begins.  Errors: OptionsError (it must be known)."""
    if not request.is_from_stream:
        return None
    location = parse(request.target)
    if location.kind == "file":
        standard.check_other(Path(location.path), standard.STDIN)
    size = standard.size_of_stdin() if request.size is None else request.size
    if size == 0:
        raise OptionsError("-: standard input is an empty file, or stands at its end")
    is_file = location.kind == "file" and os.path.lexists(location.path) and not Path(location.path).is_block_device()
    if size is None and (request.target_format == "qcow2" or is_file):
        what = "exists already" if is_file else "an image has a size from its beginning on"
        raise OptionsError(f"{request.target}: {what}: say with --size how many bytes come from standard input")
    return size


# -------------------------------------------------------------------------------------------------- both ends


@asynccontextmanager
async def _target(request: CopyRequest, kept: Kept, source: Device | None) -> AsyncIterator[_Target]:
    location = parse(request.target)
    if request.is_to_stream:
        if source is not None and source.path is not None:
            standard.check_other(Path(os.fsdecode(source.path)), standard.STDOUT)
        async with closing(standard.open_stdout()) as device:
            yield _Target(device, is_zero=False)
    elif source is not None:
        async with kept.target() as opening, opening(source) as made:
            yield _Target(made.device, made.is_zero, lambda: nullcontext(made.device))
    elif location.kind == "file" and not os.path.lexists(location.path):
        with new_file(Path(location.path)) as unfinished:
            try:
                device = standard.open_growing(unfinished)
            except OSError as exc:
                raise TargetError(f"{location.path}: cannot be opened: {exc.strerror}", errno=exc.errno or 0) from exc
            async with closing(device):
                yield _Target(device, is_zero=False, reader=lambda: open_made(unfinished))
    elif location.kind == "null":
        async with closing(Device.open_null(standard.UNBOUNDED)) as device:
            yield _Target(device, is_zero=True)
    elif location.kind == "pattern":
        raise OptionsError(f"{location.text}: can only be a source; to drop the bytes use null:")
    else:
        timeout_s = request.options.timeout_s
        opening_it = open_existing(location, size=1, timeout_s=timeout_s, connection=request.connection)
        async with opening_it as device:
            yield _Target(device, is_zero=False, reader=lambda: nullcontext(device))


# -------------------------------------------------------------------------------------------------- the copy


async def _copy(
    request: CopyRequest,
    kept: Kept,
    source: Device,
    target: _Target,
    *,
    is_known: bool,
    tell: Callable[[str, Progress], None],
    map_source: Callable[[Device], Awaitable[ExtentFile]],
) -> CopyReport:
    size = source.size
    options = dataclasses.replace(request.options, target_is_zero=request.options.target_is_zero or target.is_zero)

    def told(progress: Progress) -> None:
        tell("copy", progress if is_known else dataclasses.replace(progress, bytes_total=0))

    with nullcontext() if request.is_from_stream else await map_source(source) as extents:
        return await dataplane.copy(
            source,
            target.device,
            [whole(size)] if extents is None else extents.windows(),
            options=options,
            manifest=kept.manifest,
            disk_size=size,
            bytes_expected=size if is_known else 0,
            on_progress=told,
        )


async def _verify(request: CopyRequest, kept: Kept, target: _Target, tell: OnProgress) -> CopyReport | None:
    if not request.verify or target.reader is None:
        return None
    assert kept.manifest is not None
    async with target.reader() as device:
        return await dataplane.verify(device, kept.manifest, options=request.options, on_progress=tell)

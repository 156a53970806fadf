"""Copying a disk by the names of both ends, from the first look to the last rename.

source -> its size -> manifest, journal -> map -> target -> [ copy -> verify -> digest the rest ] -> its name
                                                             again, with both ends opened again, where it was,
                                                             after a lost connection
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, nullcontext
from dataclasses import dataclass

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.copying.journaled import keeping_journal
from ntxengine.copying.kept import Kept, keeping_nothing
from ntxengine.copying.passes import Pass, total_below
from ntxengine.copying.request import CopyRequest, CopyResult, DiskCopyReport
from ntxengine.copying.streamed import copy_streamed
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.blocks import untouched
from ntxengine.dataplane.copy import Checkpoints, CopyReport, OnProgress, Progress
from ntxengine.dataplane.extents import ExtentFile, Extents, whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import Target
from ntxengine.dataplane.recognise import holds_what_was_copied
from ntxengine.dataplane.retry import Patience, retrying
from ntxengine.errors import (
    ChecksumMismatch,
    MachineError,
    OptionsError,
    PlaceError,
    SourceError,
    TargetError,
    ToolError,
)
from ntxengine.images.endpoints import open_named_source, size_of_new
from ntxengine.images.targets import Opening
from ntxengine.units import format_size

log = logging.getLogger(__name__)

_KEEPS_NO_BYTES = ("null", "pattern")


@dataclass(frozen=True)
class Telling:
    """Whom to tell, in the event loop: of a pass ("copy", "verify", "manifest") how far it is; that it goes on where an
    earlier run was; that a connection was lost.  `map` maps a source."""

    progress: Callable[[str, Progress], None]
    map: Callable[[Device], Awaitable[ExtentFile]]
    resumed: Callable[[str], None] = log.info
    lost: Callable[[str], None] = log.warning


async def copy_disk(request: CopyRequest, telling: Telling) -> CopyResult:
    """Copy a disk, and flush.

    Errors: OptionsError, LockedError (another run uses the journal), RepositoryError (journal or manifest are damaged),
            SourceError, TargetError, NbdError, TransferTimeout, ToolError, MachineError, ChecksumMismatch.
    """
    await to_thread_joined(request.check)
    if request.is_from_stream or request.is_to_stream:
        return await copy_streamed(request, telling.progress, telling.map, lambda: open_source_of(request))
    async with AsyncExitStack() as first:
        source = await first.enter_async_context(open_source_of(request))
        size = source.size
        async with AsyncExitStack() as made:
            extents = None
            if request.extents_file is not None:
                from ntxengine.dataplane.extents_json import read_json

                extents = made.enter_context(read_json(request.extents_file, size=size))
            # Before the map, which may take long: what there is no room for is known at once.
            kept = await made.enter_async_context(_keeping(request, size, extents))
            made.enter_context(_saying_how_far(request, kept))
            if extents is None:
                extents = made.enter_context(await telling.map(source))
            opening = await made.enter_async_context(kept.target())
            found = made.enter_context(Manifest.temporary(size=size)) if request.verify else None
            work = _Work(request, telling, kept, extents, opening, found)
            return await work.run(first.pop_all(), source)


def open_source_of(request: CopyRequest) -> AbstractAsyncContextManager[Device]:
    """Open the source.  Errors: as open_named_source."""
    return open_named_source(
        request.source,
        request.said,
        timeout_s=request.options.timeout_s,
        connections=request.options.most_connections,
        connection=request.connection,
    )


def _keeping(request: CopyRequest, size: int, extents: ExtentFile | None) -> AbstractAsyncContextManager[Kept]:
    if request.journal_file is None:
        return keeping_nothing(request, size)
    return keeping_journal(request, request.journal_file, size, extents)


@contextmanager
def _saying_how_far(request: CopyRequest, kept: Kept) -> Iterator[None]:
    """Let the line about a failure say what is stored, if the next run goes on there."""
    try:
        yield
    except (PlaceError, MachineError, ToolError) as error:
        if text := _how_far(kept):
            error.args = (f"{error}; {text}",)
        raise
    except asyncio.CancelledError:
        if text := _how_far(kept):
            log.warning("%s: %s", request.target, text)
        raise


def _how_far(kept: Kept) -> str:
    if not kept.can_go_on():
        return ""
    stored = format_size(kept.checkpoints.stored_to)
    return f"{stored} of {format_size(kept.size)} are stored: the same command goes on there"


class _Work:
    """What is done with both ends open, as often as it takes.  `found` gets the digests of what is read back."""

    def __init__(
        self,
        request: CopyRequest,
        telling: Telling,
        kept: Kept,
        extents: ExtentFile,
        opening: Opening,
        found: Manifest | None,
    ) -> None:
        self.retries = 0
        self._request = request
        self._telling = telling
        self._kept = kept
        self._windows = extents.windows
        self._opening = opening
        self._found = found
        self._size = size = kept.size
        self._target_size: int | None = None
        expected = extents.bytes_data + extents.bytes_zero
        self._is_whole = expected == size
        self._copying = Pass(
            self._windows,
            expected,
            self._teller("copy"),
            checkpoints=kept.checkpoints,
            is_kept=request.is_checkpointed,
        )
        self._verifying = self._digesting = None
        if request.verify:
            self._verifying = self._further_pass(self._touched, expected, "verify")
        if not self._is_whole and request.manifest_file is not None:
            rest = total_below(self._untouched, size)
            self._digesting = self._further_pass(self._untouched, rest, "manifest")
        self._first: AsyncExitStack | None = None
        self._source: Device | None = None

    def _further_pass(self, windows: Callable[[], Iterable[Extents]], expected: int, label: str) -> Pass:
        return Pass(windows, expected, self._teller(label), is_kept=self._request.is_checkpointed)

    def _teller(self, label: str) -> OnProgress:
        return lambda progress: self._telling.progress(label, progress)

    def _touched(self) -> Iterable[Extents]:
        return [whole(self._size)] if self._is_whole else self._windows()

    def _untouched(self) -> Iterable[Extents]:
        return untouched(self._windows(), size=self._size)

    @property
    def has_begun(self) -> bool:
        """As Going."""
        return self._copying.checkpoints.has_begun

    @property
    def stored_to(self) -> int:
        """As Going: of all passes."""
        passes = (self._copying, self._verifying, self._digesting)
        return sum(each.checkpoints.stored_to for each in passes if each is not None)

    async def run(self, first: AsyncExitStack, source: Device) -> CopyResult:
        """Do it; `first` closes the `source`, which is open for the first attempt."""
        self._first, self._source = first, source
        before, repeated = self._copying.before, self._kept.bytes_repeated
        if self._kept.checkpoints.stored_to > 0:
            done = f"{format_size(before)} of {format_size(before + self._copying.left)} are stored"
            self._telling.resumed(f"{done}, {format_size(repeated)} of data behind that are copied again")
        name = f"{self._request.source} to {self._request.target}"
        patience = Patience(self._request.retry_for_s)
        await retrying(self._once, self, patience, name=name, tell=self._telling.lost)
        return await self._result()

    async def _once(self) -> None:
        stack, self._first = self._first or AsyncExitStack(), None
        source, self._source = self._source, None
        async with stack:
            if source is None:
                source = await stack.enter_async_context(open_source_of(self._request))
            target = await stack.enter_async_context(self._opening(source))
            await self._check_same(source, target.device)
            await self._copy(source, target)
            if self._verifying is not None:
                await self._verify(self._verifying, target)
            if self._digesting is not None:
                await self._digest_rest(self._digesting, source)

    async def _copy(self, source: Device, target: Target) -> None:
        options = self._request.options
        options = dataclasses.replace(options, target_is_zero=options.target_is_zero or target.is_zero)

        async def once(expected: int, checkpoints: Checkpoints | None, tell: OnProgress) -> CopyReport:
            return await dataplane.copy(
                source,
                target.device,
                self._windows(),
                options=options,
                manifest=self._kept.manifest,
                bytes_expected=expected,
                checkpoints=checkpoints,
                on_progress=tell,
            )

        await self._copying.run(once)

    async def _verify(self, verifying: Pass, target: Target) -> None:
        async def once(_expected: int, checkpoints: Checkpoints | None, tell: OnProgress) -> CopyReport:
            assert self._kept.manifest is not None
            return await dataplane.verify(
                target.device,
                self._kept.manifest,
                options=self._request.options,
                extents=None if self._is_whole else self._windows,
                checkpoints=checkpoints,
                found=self._found,
                on_progress=tell,
            )

        with nullcontext() if self._is_whole else _naming_edges():
            await verifying.run(once)

    async def _digest_rest(self, digesting: Pass, source: Device) -> None:
        """Put the digests of all blocks that the extents left out into the manifest."""
        await to_thread_joined(self._kept.let_digests_change)

        async def once(expected: int, checkpoints: Checkpoints | None, tell: OnProgress) -> CopyReport:
            assert self._kept.manifest is not None
            return await dataplane.digest(
                source,
                self._kept.manifest,
                options=self._request.options,
                extents=self._untouched(),
                bytes_expected=expected,
                checkpoints=checkpoints,
                on_progress=tell,
            )

        await digesting.run(once)

    # -------------------------------------------------------------------------------------------- the same ends

    async def _check_same(self, source: Device, target: Device) -> None:
        """Refuse to go on from or to something else.  Errors: OptionsError, SourceError, TargetError."""
        if self._target_size is None:
            await to_thread_joined(self._kept.check_target, target)
            self._target_size = target.size
        for name, kind, was, now in (
            (self._request.source, SourceError, self._size, source.size),
            (self._request.target, TargetError, self._target_size, target.size),
        ):
            if was != now:
                raise kind(f"{name}: had {was} bytes when the copy began, and has {now} now: it is another one")
        checkpoints, manifest = self._kept.checkpoints, self._kept.manifest
        if manifest is None or not checkpoints.is_resumed or checkpoints.stored_to == 0:
            return
        await self._recognise(source, manifest, f"{self._request.source}: does not hold what was copied from it")
        await self._recognise(target, manifest, f"{self._request.target}: does not hold what was copied to it")

    async def _recognise(self, device: Device, manifest: Manifest, otherwise: str) -> None:
        if device.kind in _KEEPS_NO_BYTES:
            return
        is_same = await holds_what_was_copied(
            device,
            manifest,
            stored_to=self._kept.checkpoints.stored_to,
            # What is read for this is a MiB: a limit of the copy would only delay it.
            options=dataclasses.replace(self._request.options, connections=1, bandwidth=0),
            chance=random.Random(),
            extents=None if self._is_whole else self._windows,
        )
        if not is_same:
            journal = self._request.journal_file
            remedy = "begin again" if journal is None else f"remove {journal} to begin again"
            raise OptionsError(f"{otherwise} before: it was changed meanwhile, or is another one: {remedy}")

    # ------------------------------------------------------------------------------------------------ the result

    async def _result(self) -> CopyResult:
        report, repeated = self._copying.report()
        checkpoints, manifest = self._kept.checkpoints, self._kept.manifest
        digest = None
        if manifest is not None and (self._is_whole or self._digesting is not None):
            digest = await to_thread_joined(manifest.seal)
        assert self._target_size is not None
        return CopyResult(
            size=self._size,
            target_size=size_of_new(self._target_size, self._request.target_format),
            report=DiskCopyReport(
                **vars(report),
                reconnects=self.retries,
                bytes_repeated=repeated + self._kept.bytes_repeated,
                resumed_from=self._copying.before,
                checkpoints=checkpoints.made,
                checkpoint_seconds=checkpoints.seconds,
            ),
            digest=digest,
            verified=None if self._verifying is None else self._verifying.report()[0],
        )


@contextmanager
def _naming_edges() -> Iterator[None]:
    """Say of a mismatch that it may lie beside the extents: a digest is that of a whole block."""
    try:
        yield
    except ChecksumMismatch as error:
        raise ChecksumMismatch(
            f"{error}; whole blocks are compared: where an extent fills only a part of one, the rest has to be the "
            f"source's too; if the target has another there, give extents of whole blocks, or leave out --verify",
            offsets=error.offsets,
            blocks=error.blocks,
        ) from error

"""One device copied to another: the awaitable side of the C core's job.

asyncio feeds extents and waits on the job's descriptor; C threads do the rest.  Whatever happens, a coroutine of this
module returns only when every thread of its job has ended.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass

from ntxengine._core.engine import MAX_IN_FLIGHT, MAX_REQUEST_SIZE, PACE_REASONS, Device, Job
from ntxengine._core.limits import Limits
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.extents import Extents, as_data, total, whole
from ntxengine.dataplane.manifest import Manifest, require_same
from ntxengine.dataplane.progress import CopyReport as CopyReport
from ntxengine.dataplane.progress import Pace as Pace
from ntxengine.dataplane.progress import Progress as Progress
from ntxengine.dataplane.tier import Preset, Tier
from ntxengine.errors import ChecksumMismatch, OptionsError, TransferTimeout
from ntxengine.files import free_space
from ntxengine.units import BLOCK_SIZE, MIB

log = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 0.2
MOST_CONNECTIONS = 8
"""Where nobody says otherwise.  Eight with eight requests each hide a latency of 20 ms at 3 GiB/s."""

FLUSH_TIMEOUT_S = 1800.0
"""A server of 256 GiB that lets 40 % of them be dirty and writes them to a disk at 60 MB/s takes that long.  It is no
loss to wait: progress says so, and a cancel does not."""

_MOST_AT_FIRST = 4
_AT_FIRST_FROM_A_SERVER = 2
"""Connections for each processor.  A server's socket holds a part of one answer (208 KiB of 1 MiB, by the default of
Linux); then it waits for us, and with others it has something else to do (bench/notes/paths.md)."""

_WARM_REQUESTS = 2
_WARM_REQUESTS_OVER_TCP = 1
"""Of one connection at first: what is in flight should still be in the cache when the other end copies it
(bench/notes/paths.md)."""

_DEPTH = 8
"""Requests of one connection before another is used.  Servers (qemu-nbd, nbdkit) work on 16 of one connection at a
time: half of that leaves none of theirs waiting for ours."""

_STAGES = ("source", "digest", "target", "limit")
_MAX_TIMEOUT_S = 24 * 3600
_MAX_BYTES = 2**62


@dataclass(frozen=True)
class CopyOptions:
    """How to copy.  Sizes in bytes, `bandwidth` in bytes per second read from the source (0: no limit).

    `connections` (threads) and `in_flight` (requests per connection) follow latency and throughput where they are
    None, and stay as they are where they are not.  `begin_in_flight` is requests over all connections at first; where
    that or `request_size` is None, it is as from an SSD.
    `max_buffer_bytes` bounds the payload of all connections together.  `timeout_s` is the longest wait for any one
    answer, but for the closing flush: that takes as long as the target writes back what it holds, `flush_timeout_s`
    at most.
    """

    connections: int | None = None
    request_size: int | None = None
    in_flight: int | None = None
    begin_in_flight: int | None = None
    max_buffer_bytes: int = 32 * MIB
    bandwidth: int = 0
    timeout_s: float = 60.0
    flush_timeout_s: float = FLUSH_TIMEOUT_S
    target_is_zero: bool = False

    def __post_init__(self) -> None:
        begin = self.begin
        if begin.request_size % BLOCK_SIZE or not BLOCK_SIZE <= begin.request_size <= MAX_REQUEST_SIZE:
            raise OptionsError(
                f"request size {begin.request_size} is not a multiple of 64 KiB, at most {MAX_REQUEST_SIZE // MIB} MiB"
            )
        if begin.begin_in_flight < 1:
            raise OptionsError(f"{begin.begin_in_flight} requests in flight at first are not one at least")
        for limit, count in (("connections", self.connections), ("requests in flight", self.in_flight)):
            if count is not None and count < 1:
                raise OptionsError(f"{limit} {count}: at least one, or None for as many as it takes")
        for limit, count in (("bytes of buffers", self.max_buffer_bytes), ("bandwidth", self.bandwidth)):
            if not 0 <= count <= _MAX_BYTES:
                raise OptionsError(f"{limit} {count} is not from 0 to {_MAX_BYTES}")
        for limit, timeout_s in (("time limit", self.timeout_s), ("time limit of the flush", self.flush_timeout_s)):
            if not 0 < timeout_s <= _MAX_TIMEOUT_S:
                raise OptionsError(f"{limit} {timeout_s} s is not above 0 and at most {_MAX_TIMEOUT_S} s")

    @property
    def begin(self) -> Preset:
        """How it begins."""
        return self._begin_on(Tier.SSD)

    def on(self, tier: Tier | None) -> CopyOptions:
        """Return them for bytes that lie on `tier`: what was chosen stays."""
        if tier is None:
            return self
        begin = self._begin_on(tier)
        return dataclasses.replace(self, begin_in_flight=begin.begin_in_flight, request_size=begin.request_size)

    def _begin_on(self, tier: Tier) -> Preset:
        return Preset(
            tier.value.begin_in_flight if self.begin_in_flight is None else self.begin_in_flight,
            tier.value.request_size if self.request_size is None else self.request_size,
        )

    @property
    def most_connections(self) -> int:
        """As many as there may ever be: what a server has to permit."""
        return self.connections or MOST_CONNECTIONS

    def limits(self, *, from_server: bool, over_tcp: bool) -> Limits:
        """Return what the core's job keeps to: the bounds of connections and requests in flight, and where to begin.

        `from_server`: the source is an NBD server.  `over_tcp`: the target is reached so.
        """
        at_first = len(os.sched_getaffinity(0)) * (_AT_FIRST_FROM_A_SERVER if from_server else 1)
        begin = self.begin
        first = self.connections or min(begin.begin_in_flight, at_first, _MOST_AT_FIRST)
        warm = first * (_WARM_REQUESTS_OVER_TCP if over_tcp else _WARM_REQUESTS)
        return Limits(
            connections=self.most_connections,
            in_flight=self.in_flight or MAX_IN_FLIGHT,
            first_connections=first,
            first_requests=first * self.in_flight if self.in_flight else min(begin.begin_in_flight, warm),
            depth=self.in_flight or _DEPTH,
            request_size=begin.request_size,
            max_buffer_bytes=self.max_buffer_bytes,
            rate_bytes_per_s=self.bandwidth,
            timeout_ms=max(1, int(self.timeout_s * 1000)),
            flush_timeout_ms=max(1, int(self.flush_timeout_s * 1000)),
        )


OnProgress = Callable[[Progress], None]


async def copy(
    source: Device,
    target: Device,
    extents: Iterable[Extents],
    *,
    options: CopyOptions,
    manifest: Manifest | None = None,
    reference: Manifest | None = None,
    bytes_expected: int = 0,
    reads_all: bool = False,
    on_progress: OnProgress | None = None,
) -> CopyReport:
    """Copy `extents` from `source` to the same offsets of `target` and flush.

    Shape:  `extents` are windows, ascending and not overlapping over all of them.
    Units:  bytes; `bytes_expected` is their sum, for progress and for the size of work ranges.
    Digests of every block touched go to `manifest`, whose size is the disk's: a device may be padded behind it.
    Blocks that have the same digest in `reference` are not sent.
    `reads_all`: what the source says of itself is not believed, as otherwise it is where it says that it is zero.
    Errors: SourceError, TargetError, NbdError, TransferTimeout, OptionsError.
    """
    size = source.size if manifest is None else manifest.size
    job = Job(
        source,
        target,
        options.limits(from_server=source.kind == "nbd", over_tcp=target.is_tcp),
        disk_size=size,
        target_is_zero=options.target_is_zero,
        reads_all=reads_all,
        bytes_expected=bytes_expected,
        digest_fd=manifest.fd if manifest else -1,
        digest_offset=Manifest.digest_offset,
        digests_are_zero=manifest.is_fresh if manifest else False,
        reference_fd=reference.fd if reference else -1,
        reference_offset=Manifest.digest_offset,
        reference_blocks=_comparable_blocks(reference, size),
        keep=(manifest, reference),
    )
    transfer = _Transfer(job, iter(extents), options, bytes_expected, on_progress)
    try:
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


class _Transfer:
    """The asyncio half of one job."""

    def __init__(
        self,
        job: Job,
        windows: Iterator[Extents],
        options: CopyOptions,
        bytes_total: int,
        on_progress: OnProgress | None,
    ) -> None:
        self._job = job
        self._windows: Iterator[Extents] | None = windows
        self._rest: Extents | None = None
        self._options = options
        self._total = bytes_total
        self._on_progress = on_progress
        self._refused: str | None = None
        self._wake_up = asyncio.Event()
        self._began = time.monotonic()

    async def run(self) -> CopyReport:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._job.fileno(), self._on_event)
        try:
            self._job.start()
            try:
                await self._drive()
            except BaseException:
                self._job.cancel()
                await self._wait_for_end()
                raise
        finally:
            loop.remove_reader(self._job.fileno())
        self._join()
        return self._report()

    def _join(self) -> None:
        try:
            self._job.join()
        except TransferTimeout as exc:
            if not self._job.progress()["flushing"]:
                raise
            hint = "the target still writes back what it was sent: give it longer (--flush-timeout)"
            raise TransferTimeout(f"{exc}: {hint}", errno=exc.errno) from exc

    def _on_event(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._job.fileno())
        self._wake_up.set()

    async def _drive(self) -> None:
        while True:
            self._wake_up.clear()
            progress = self._job.progress()
            if progress["refused"] and self._refused is None:
                self._refused = self._job.refusal()
                log.warning("a connection could not be had; the copy goes on with fewer: %s", self._refused)
            if progress["finished"]:
                return
            if progress["wants_extents"]:
                self._feed()
            if self._on_progress is not None:
                self._on_progress(self._progress(progress))
            with suppress(TimeoutError):
                async with asyncio.timeout(PROGRESS_INTERVAL_S):
                    await self._wake_up.wait()

    def _feed(self) -> None:
        """Feed until the job has no more room, or there is no more to feed."""
        while self._windows is not None:
            if self._rest is None:
                self._rest = next(self._windows, None)
                if self._rest is None:
                    self._windows = None
                    self._job.feed_end()
                    return
            taken = self._job.feed(self._rest)
            if taken < len(self._rest):
                self._rest = self._rest[taken:]
                return
            self._rest = None

    async def _wait_for_end(self) -> None:
        """Wait for the threads whatever else is cancelled meanwhile: they use memory that is ours."""
        while not self._job.progress()["finished"]:
            self._wake_up.clear()
            with suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(PROGRESS_INTERVAL_S):
                    await self._wake_up.wait()

    def _progress(self, now: dict[str, int]) -> Progress:
        return Progress(
            bytes_total=self._total or now["bytes_done"],
            bytes_done=now["bytes_done"],
            bytes_read=now["bytes_read"],
            bytes_sent=now["bytes_sent"],
            bytes_stored=now["bytes_stored"],
            bytes_zeroed=now["bytes_zeroed"],
            bytes_skipped=now["bytes_skipped"],
            bytes_unchanged=now["bytes_unchanged"],
            seconds=time.monotonic() - self._began,
            stage_seconds={stage: now[f"{stage}_ns"] / 1e9 for stage in _STAGES},
            is_flushing=bool(now["flushing"]),
        )

    def _report(self) -> CopyReport:
        now = self._job.progress()
        progress = self._progress(now)
        if self._on_progress is not None:
            self._on_progress(progress)
        return CopyReport(
            **vars(progress),
            cpu_seconds=now["cpu_ns"] / 1e9,
            connections=now["connections"],
            connections_refused=now["refused"],
            refused=self._job.refusal(),
            request_size=self._options.begin.request_size,
            in_flight=now["in_flight"],
            pace=Pace[PACE_REASONS[now["why"]]],
            retries=now["retries"],
            is_flushed=bool(now["flushed"]),
        )


async def digest(
    source: Device,
    manifest: Manifest,
    *,
    options: CopyOptions,
    extents: Iterable[Extents] | None = None,
    bytes_expected: int = 0,
    reads_all: bool = False,
    on_progress: OnProgress | None = None,
) -> CopyReport:
    """Read `extents` (default: the whole disk) and put the digests of their blocks into `manifest`."""
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
    on_progress: OnProgress | None = None,
) -> CopyReport:
    """Read back and compare with `manifest`: the whole source, or only the blocks that `extents()` touches.

    Everything is read, zeros too: a server that did not store them may still say that they are there.  `trusts_zeros`:
    what `source` and `extents` say is zero is not read.  Only for images, where that is what the image holds.
    Errors: ChecksumMismatch with the offsets of the first differing blocks; else as `copy`.
    """
    if source.size < manifest.size:
        raise ChecksumMismatch(f"{source.name}: has {source.size} bytes, its manifest {manifest.size}")
    found = Manifest.temporary(size=manifest.size)
    try:
        windows = None if extents is None else extents() if trusts_zeros else map(as_data, extents())
        expected = 0 if extents is None else await to_thread_joined(_total, extents())
        report = await digest(
            source,
            found,
            options=options,
            extents=windows,
            bytes_expected=expected,
            reads_all=not trusts_zeros,
            on_progress=on_progress,
        )
        touched = None if extents is None else extents()
        await to_thread_joined(require_same, manifest, found, touched, source.name)
    finally:
        found.close()
    return report


def _total(windows: Iterable[Extents]) -> int:
    return sum(total(window) for window in windows)

"""The asyncio half of one job of the core: feeding it, telling its progress, and waiting for its end."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from ntxengine._core.engine import PACE_REASONS, Job
from ntxengine.concurrency.completion import run_to_completion, to_thread_joined
from ntxengine.dataplane.checkpoints import Checkpoints
from ntxengine.dataplane.extents import Extents
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.options import CopyOptions
from ntxengine.dataplane.progress import CopyReport, Pace, Progress
from ntxengine.errors import NtxError, TransferTimeout

log = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 0.2
_STAGES = ("source", "digest", "packing", "target", "limit")

OnProgress = Callable[[Progress], None]


class Transfer:
    """The asyncio half of one job."""

    def __init__(
        self,
        job: Job,
        windows: Iterator[Extents],
        options: CopyOptions,
        bytes_total: int,
        memory_bytes: int,
        on_progress: OnProgress | None,
        checkpoints: Checkpoints | None,
        manifest: Manifest | None,
    ) -> None:
        self._job = job
        self._windows: Iterator[Extents] | None = windows
        self._rest: Extents | None = None
        self._options = options
        self._total = bytes_total
        self._memory_bytes = memory_bytes
        self._on_progress = on_progress
        self._checkpoints = checkpoints
        self._manifest = manifest
        self._checkpoints_seen = self._flush_ns = 0
        self._refused: str | None = None
        self._wake_up = asyncio.Event()
        self._began = time.monotonic()

    async def run(self) -> CopyReport:
        """Start the job, and return when it has ended.  Its checkpoints say how far it got."""
        if self._checkpoints is not None:
            self._checkpoints.begin_copy()
        try:
            await self._run()
            if self._checkpoints is not None:
                await self._store(self._checkpoints)
        except BaseException as error:
            if self._checkpoints is not None:
                self._checkpoints.failed.append(self._report())
                await self._keep_how_far(self._checkpoints, error)
            raise
        report = self._report()
        if self._on_progress is not None:
            self._on_progress(report)
        return report

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        self._options.keep_bandwidth()
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

    async def _store(self, checkpoints: Checkpoints) -> None:
        now = self._job.progress()
        flush_s = (now["flush_ns"] - self._flush_ns) / 1e9
        self._flush_ns = now["flush_ns"]
        await to_thread_joined(checkpoints.store, now["stored_to"], self._manifest, flush_s=flush_s)

    async def _keep_how_far(self, checkpoints: Checkpoints, failure: BaseException) -> None:
        """The copy failed, for a reason that is on its way."""
        checkpoints.interrupt()
        try:
            await run_to_completion(self._store(checkpoints))
        except NtxError as error:
            if str(error) != str(failure):  # it may be for just that that the copy failed
                log.warning("how far the copy got was not kept: %s", error)

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
            self._options.keep_bandwidth()
            progress = self._job.progress()
            if progress["refused"] and self._refused is None:
                self._refused = self._job.refusal()
                log.warning("a connection could not be had; the copy goes on with fewer: %s", self._refused)
            if progress["finished"]:
                return
            if self._checkpoints is not None:
                await self._make_checkpoints(self._checkpoints, progress)
            if progress["wants_extents"]:
                self._feed()
            if self._on_progress is not None:
                self._on_progress(self._progress(progress))
            with suppress(TimeoutError):
                async with asyncio.timeout(PROGRESS_INTERVAL_S):
                    await self._wake_up.wait()

    async def _make_checkpoints(self, checkpoints: Checkpoints, progress: dict[str, int]) -> None:
        if progress["checkpoints"] != self._checkpoints_seen:
            self._checkpoints_seen = progress["checkpoints"]
            await self._store(checkpoints)
        if checkpoints.is_due(progress["bytes_done"]) and self._job.checkpoint():
            checkpoints.begin(progress["bytes_done"])

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
        return CopyReport(
            **vars(self._progress(now)),
            cpu_seconds=now["cpu_ns"] / 1e9,
            connections=now["connections"],
            connections_refused=now["refused"],
            refused=self._job.refusal(),
            request_size=self._options.begin.request_size,
            in_flight=now["in_flight"],
            pace=Pace[PACE_REASONS[now["why"]]],
            retries=now["retries"],
            is_flushed=bool(now["flushed"]),
            memory_bytes=self._memory_bytes,
        )

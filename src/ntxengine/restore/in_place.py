"""Only what differs: what is in the place of a disk is read, and blocks that are not those of the point are written.

    the place --read--> digests --compared with the manifest--> extents --copied from the images--> the place

Nothing but the bytes themselves says what is there: whoever goes on after a kill finds what is left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import Checkpoints, OnProgress
from ntxengine.dataplane.differing import differing_extents
from ntxengine.dataplane.extents import ExtentFile, Extents
from ntxengine.dataplane.manifest import Manifest
from ntxengine.events import Stage
from ntxengine.restore.disk_work import (
    DiskWork,
    going_on,
    of_the_whole,
    reading_images,
    temporary_manifest,
    writing_in_place,
)
from ntxengine.restore.losses import without
from ntxengine.restore.salvage import rescuing


@dataclass
class TwoPasses:
    """How far both passes are, as one copy that goes on after a lost connection (Going)."""

    comparing: Checkpoints
    writing: Checkpoints
    retries: int = 0

    @property
    def has_begun(self) -> bool:
        """As Going."""
        return self.comparing.has_begun

    @property
    def stored_to(self) -> int:
        """As Going: of both."""
        return self.comparing.stored_to + self.writing.stored_to


class InPlace:
    """One disk, whose place is compared with `stored`, and then written where it differs.

    With keep_going what cannot be read is left as it is, and is in `unreadable` then.  `found` gets the digests of what
    is written.  `differing` is what that was; closed by close().
    """

    def __init__(self, work: DiskWork, stored: Manifest, found: Manifest) -> None:
        self.differing = ExtentFile()
        self.unreadable = ExtentFile()
        self._work = work
        self._stored = stored
        self._found = found
        self._there = temporary_manifest(work)
        self._passes = TwoPasses(Checkpoints(), Checkpoints())
        self._is_compared = False
        self._unreadable_now = self.unreadable

    @property
    def bytes_written(self) -> int:
        """What differed, and could be read."""
        return self.differing.bytes_data + self.differing.bytes_zero - self.unreadable.bytes_data

    def close(self) -> None:
        """Close the temporary files."""
        self._there.close()
        self.differing.close()
        self.unreadable.close()

    async def run(self, chain: tuple[Path, ...], progress_of: Callable[[Stage], OnProgress]) -> None:
        """Compare and write.  The place is open all the time, so that a device stays ours.

        Errors: as write_disk.
        """

        on_compared, on_written = progress_of(Stage.COMPARE), None

        async def once() -> None:
            nonlocal on_written
            async with writing_in_place(self._work) as target:
                if not self._is_compared:
                    await self._compare(target, on_compared)
                    await to_thread_joined(self._find_differing)
                    self._is_compared = True
                if self.differing.count:
                    on_written = on_written or progress_of(Stage.RESTORE)
                    async with reading_images(self._work, chain) as source:
                        await self._write(source, target, on_written)

        async def attempt(unreadable: ExtentFile) -> None:
            self._unreadable_now = unreadable
            self._passes.writing = Checkpoints()
            await to_thread_joined(self._found.forget, 0)
            await going_on(self._work, once, self._passes)

        if not self._work.options.keep_going:
            await going_on(self._work, once, self._passes)
            return
        unreadable = await rescuing(self._work, chain, self.differing.windows, attempt)
        self.unreadable.close()
        self.unreadable = unreadable

    async def _compare(self, target: Device, on_progress: OnProgress) -> None:
        checkpoints = self._passes.comparing if self._work.is_retried else None
        await dataplane.digest(
            target,
            self._there,
            options=self._work.copying,
            reads_all=True,  # what it says of itself is not what it holds
            checkpoints=checkpoints,
            on_progress=of_the_whole(on_progress, self._work.disk.size, checkpoints),
        )

    def _find_differing(self) -> None:
        for window in differing_extents(self._there, self._stored):
            self.differing.append(window)
        self.differing.flush()

    def _windows(self) -> Iterable[Extents]:
        return without(self.differing.windows(), self._unreadable_now.windows(), zeroed=False)

    async def _write(self, source: Device, target: Device, on_progress: OnProgress) -> None:
        await dataplane.copy(
            source,
            target,
            self._windows(),
            options=self._work.copying,
            manifest=self._found,
            bytes_expected=self.bytes_written,
            checkpoints=self._passes.writing if self._work.is_retried else None,
            on_progress=on_progress,
        )

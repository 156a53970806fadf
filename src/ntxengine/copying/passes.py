"""One pass over a disk, copying it, reading it back or digesting it, that goes on after it was interrupted.

attempt 1   |=========x            bytes_done: up to x          stored_to: s
attempt 2        s|===========|    bytes_done: s to the end     s to x was done twice
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable

from ntxengine.dataplane.checkpoints import Checkpoints
from ntxengine.dataplane.copy import CopyReport, OnProgress, Progress
from ntxengine.dataplane.extents import Extents, clipped, total

Windows = Callable[[], Iterable[Extents]]


def total_below(windows: Windows, end: int) -> int:
    """Return the bytes of extents that lie below `end`."""
    return sum(total(clipped(window, end)) for window in windows())


class Pass:
    """A pass over the extents of `windows()`, `expected` bytes, that begins where `checkpoints` say.

    `tell` hears of all attempts as one.  Without `is_kept` nothing is known of an attempt that failed.
    """

    def __init__(
        self,
        windows: Windows,
        expected: int,
        tell: OnProgress,
        *,
        checkpoints: Checkpoints | None = None,
        is_kept: bool = True,
    ) -> None:
        self.windows = windows
        self.checkpoints = checkpoints or Checkpoints()
        self._is_kept = is_kept
        self._tell = tell
        self._total = expected
        self.before = self._below()
        """Bytes that were done before this run."""
        self._last: CopyReport | None = None

    def _below(self) -> int:
        return total_below(self.windows, self.checkpoints.stored_to) if self.checkpoints.stored_to else 0

    @property
    def left(self) -> int:
        """Bytes that this run had to do."""
        return self._total - self.before

    async def run(self, once: Callable[[int, Checkpoints | None, OnProgress], Awaitable[CopyReport]]) -> None:
        """Do what is left of it, if anything is: `once` is told how much that is."""
        if self._last is not None:
            return
        below = self._below()
        checkpoints = self.checkpoints if self._is_kept else None
        self._last = await once(self._total - below, checkpoints, lambda progress: self._shown(progress, below))

    def _shown(self, progress: Progress, below: int) -> None:
        failed = self.checkpoints.failed
        self._tell(
            dataclasses.replace(
                progress,
                bytes_total=self.left,
                bytes_done=below - self.before + progress.bytes_done,
                bytes_read=progress.bytes_read + sum(each.bytes_read for each in failed),
                seconds=progress.seconds + sum(each.seconds for each in failed),
            )
        )

    def report(self) -> tuple[CopyReport, int]:
        """Return what all attempts of this run did together, each byte counted once, and how many were done again."""
        assert self._last is not None
        report = self._last.after(self.checkpoints.failed)
        repeated = max(0, report.bytes_done - self.left)
        return dataclasses.replace(report, bytes_total=self._total, bytes_done=self.left), repeated

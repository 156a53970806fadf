"""What of a restored disk is not what was captured: ranges of whole blocks, all counted, the first of them kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from ntxengine.dataplane.differing import differences
from ntxengine.dataplane.extents import ZERO, ExtentFile, Extents, make
from ntxengine.dataplane.manifest import Manifest
from ntxengine.units import BLOCK_SIZE

Reason = Literal["unreadable", "differs"]

MOST_RANGES = 1000
"""That are kept for the report."""

_WINDOW = 4096

Run = tuple[int, int]
"""Where a run of bytes begins and ends."""


@dataclass(frozen=True)
class BadRange:
    """Bytes of a disk that are not what was captured.

    unreadable   its images gave nothing for them
    differs      what they gave has another digest
    """

    offset: int
    length: int
    reason: Reason


class Losses:
    """The bad ranges of one disk, in the order of their offsets: `ranges` are the first of `count`.

    On disk, so that their number does not matter; closed with the block that uses it.
    """

    def __init__(self) -> None:
        self.ranges: list[BadRange] = []
        self.count = 0
        self._file = ExtentFile()
        self._kept: list[tuple[int, int, int]] = []
        self._last: BadRange | None = None

    @property
    def bytes(self) -> int:
        """What is bad, in bytes, once end() was called."""
        return self._file.bytes_data

    def add(self, offset: int, length: int, reason: Reason) -> None:
        """Add a range behind all others."""
        last = self._last
        if last is not None and last.reason == reason and last.offset + last.length == offset:
            self._last = BadRange(last.offset, last.length + length, reason)
            return
        self._put()
        self._last = BadRange(offset, length, reason)

    def _put(self) -> None:
        if self._last is None:
            return
        self.count += 1
        if len(self.ranges) < MOST_RANGES:
            self.ranges.append(self._last)
        self._kept.append((self._last.offset, self._last.length, 0))
        if len(self._kept) >= _WINDOW:
            self._write()

    def _write(self) -> None:
        self._file.append(make(self._kept))
        self._kept = []

    def end(self) -> Losses:
        """All were added.  Returns itself."""
        self._put()
        self._last = None
        self._write()
        self._file.flush()
        return self

    def windows(self) -> Iterator[Extents]:
        """Yield them all as extents."""
        return self._file.windows()

    def __enter__(self) -> Losses:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def losses_of(
    stored: Manifest | None, found: Manifest, unreadable: ExtentFile, touched: Iterable[Extents] | None, size: int
) -> Losses:
    """Return what `found`, the digests of what was written, lacks of what is `stored`.  Blocks.

    Without `stored` nothing is known but what could not be read.
    """
    losses = Losses()
    runs = Runs(unreadable.windows())
    if stored is None:
        for begin, end in runs:
            losses.add(begin, end - begin, "unreadable")
        return losses.end()
    for block in differences(stored, found, touched):
        at = block * BLOCK_SIZE
        losses.add(at, min(BLOCK_SIZE, size - at), "unreadable" if runs.holds(at) else "differs")
    return losses.end()


class Runs:
    """Ascending extents, one after the other; asked for ascending places."""

    def __init__(self, windows: Iterable[Extents]) -> None:
        self._each = _runs(windows)
        self.next = next(self._each, None)

    def __iter__(self) -> Iterator[Run]:
        while self.next is not None:
            yield self.next
            self.next = next(self._each, None)

    def skip_to(self, at: int) -> Run | None:
        """Return the first that does not end before or at `at`, if there is one."""
        while self.next is not None and self.next[1] <= at:
            self.next = next(self._each, None)
        return self.next

    def holds(self, at: int) -> bool:
        """Say whether `at` lies in one."""
        run = self.skip_to(at)
        return run is not None and run[0] <= at


def _runs(windows: Iterable[Extents]) -> Iterator[Run]:
    for window in windows:
        for offset, length in zip(window["offset"].tolist(), window["length"].tolist(), strict=True):
            yield offset, offset + length


def without(windows: Iterable[Extents], unreadable: Iterable[Extents], *, zeroed: bool) -> Iterator[Extents]:
    """Yield `windows` of which data that is unreadable is left out, or zero."""
    runs = Runs(unreadable)
    for window in windows:
        if runs.next is None:
            yield window
            continue
        rows: list[tuple[int, int, int]] = []
        for offset, length, flags in window.tolist():
            _cut(rows, (offset, offset + length), flags, runs, zeroed)
        yield make(rows)


def _cut(rows: list[tuple[int, int, int]], run: Run, flags: int, runs: Runs, zeroed: bool) -> None:
    at, end = run
    while at < end:
        bad = None if flags & ZERO else runs.skip_to(at)
        if bad is None or bad[0] >= end:
            rows.append((at, end - at, flags))
            return
        if bad[0] > at:
            rows.append((at, bad[0] - at, flags))
        begin, at = max(at, bad[0]), min(end, bad[1])
        if zeroed:
            rows.append((begin, at - begin, ZERO))

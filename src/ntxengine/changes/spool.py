"""Changed regions on their way from Prism's pages to extents.

Prism promises no alignment, no order and no disjointness, so none is assumed:

    page 1 | page 2 | ...   --add-->   spool file   --windows-->   ascending, disjoint, merged
                                       24 bytes a region

Every page is sorted when it comes.  While no page starts before the last one ended in order, the spool is sorted
as a whole and is just streamed.  Otherwise it is cut into runs that fit in memory, which are sorted and merged.
Either way memory is bounded by RUN_REGIONS, not by the number of regions.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane import extents
from ntxengine.dataplane.extents import EXTENT, ExtentFile, Extents
from ntxengine.errors import PrismAnswerError
from ntxengine.files import durable

RUN_REGIONS = 250_000
"""Regions held in memory at a time: 6 MB, and REGION_BYTES for each while overlaps are resolved."""

REGION_BYTES = 14 * EXTENT.itemsize

_LEAST_REGIONS = 4096
"""With fewer at a time a disk of a million regions would be read in too many pieces."""


class RegionSpool:
    """Regions of one disk, on disk until all have come.

    `size` is the disk's, in bytes: what lies past it is refused.
    """

    def __init__(self, directory: Path, *, size: int, run_regions: int = RUN_REGIONS) -> None:
        self._directory = directory
        with _writing(directory):
            self._file = tempfile.TemporaryFile(dir=directory, prefix="regions-")  # noqa: SIM115  close() does
        self._size = size
        self._run_regions = run_regions
        self._count = 0
        self._is_ordered = True
        self._last_offset = 0

    @property
    def is_empty(self) -> bool:
        """Whether no region was added."""
        return not self._count

    @property
    def memory_sizes(self) -> list[int]:
        """Bytes of memory that `windows` may be given, the most that it has a use for first."""
        regions = [min(self._count, self._run_regions)]
        while regions[-1] > _LEAST_REGIONS:
            regions.append(max(_LEAST_REGIONS, regions[-1] // 2))
        return [max(1, count) * REGION_BYTES for count in regions]

    def keep_within(self, memory_bytes: int) -> None:
        """Hold fewer regions at a time, so that `windows` takes no more than one of `memory_sizes`."""
        self._run_regions = min(self._run_regions, max(1, memory_bytes // REGION_BYTES))

    def add(self, regions: Extents) -> None:
        """Take a page.

        Shape:  any order; may overlap each other and what came before.
        Errors: PrismAnswerError if a region ends past the disk; TargetError if there is no room for it.
        """
        if not regions["length"].all():
            regions = regions[regions["length"] > 0]
        if not len(regions):
            return
        self._refuse_past_end(regions)
        regions = extents.in_order(regions)
        self._is_ordered = self._is_ordered and int(regions["offset"][0]) >= self._last_offset
        self._last_offset = int(regions["offset"][-1])
        with _writing(self._directory):
            self._file.write(np.ascontiguousarray(regions).data)
        self._count += len(regions)

    def windows(self) -> Iterator[Extents]:
        """Yield everything that was added: ascending, disjoint, neighbours of one kind joined, data wins over zero."""
        held = np.empty(0, dtype=EXTENT)
        for run in self._in_order():
            merged = extents.normalise(extents.concatenate([held, run]), size=self._size, name="changed regions")
            # What ends before the last start of this run cannot be touched by a later one: those start there or after.
            ends = merged["offset"] + merged["length"]
            done = int(np.searchsorted(ends, run["offset"][-1]))
            held = merged[done:]
            if done:
                yield merged[:done]
        if len(held):
            yield held

    def close(self) -> None:
        """Forget everything, also what could not be written."""
        with suppress(OSError):
            self._file.close()

    def _refuse_past_end(self, regions: Extents) -> None:
        size = np.uint64(self._size)
        is_past = (regions["offset"] > size) | (regions["length"] > size - np.minimum(regions["offset"], size))
        if is_past.any():
            bad = regions[is_past][0]
            offset, length = int(bad["offset"]), int(bad["length"])
            raise PrismAnswerError(
                f"Prism reported a changed region at offset {offset} length {length}, which ends "
                f"{offset + length - self._size} bytes past the end of the disk ({self._size} bytes): nothing of this "
                f"answer can be trusted"
            )

    def _read(self, index: int, count: int) -> Extents:
        """Return up to `count` regions of the spool from `index` on."""
        count = min(count, self._count - index)
        self._file.seek(index * EXTENT.itemsize)
        return np.frombuffer(self._file.read(count * EXTENT.itemsize), dtype=EXTENT)

    def _in_order(self) -> Iterator[Extents]:
        """Yield runs of regions, not empty; no offset is smaller than one of an earlier run."""
        if not self._is_ordered and self._count > self._run_regions:
            yield from self._merge_runs(self._sort_runs())
            return
        for index in range(0, self._count, self._run_regions):
            run = self._read(index, self._run_regions)
            yield run if self._is_ordered else extents.in_order(run)

    def _sort_runs(self) -> list[tuple[int, int]]:
        """Sort the spool run by run, in place; return (first, last + 1) of each."""
        bounds = []
        for index in range(0, self._count, self._run_regions):
            run = extents.in_order(self._read(index, self._run_regions))
            self._file.seek(index * EXTENT.itemsize)
            self._file.write(run.tobytes())
            bounds.append((index, index + len(run)))
        return bounds

    def _merge_runs(self, bounds: list[tuple[int, int]]) -> Iterator[Extents]:
        """Merge sorted runs: look into each through a window, and take all up to where the nearest window ends.

        That empties at least one window a round.  Windows share RUN_REGIONS between them.
        """
        share = max(1, self._run_regions // len(bounds))
        windows = [(self._read(first, min(share, end - first)), first, end) for first, end in bounds]
        while windows:
            limit = min(int(window["offset"][-1]) for window, _, _ in windows)
            taken = []
            rest = []
            for window, first, end in windows:
                count = int(np.searchsorted(window["offset"], np.uint64(limit), side="right"))
                taken.append(window[:count])
                first += count
                if first == end:
                    continue
                left = window[count:]
                rest.append((left if len(left) else self._read(first, min(share, end - first)), first, end))
            windows = rest
            yield extents.in_order(extents.concatenate(taken))


async def spool_to_file(windows: Iterable[Extents], directory: Path) -> ExtentFile:
    """Write extents to a file in `directory` that nobody else sees; the caller closes it.

    In a thread, because millions of extents take a while; in that folder, because there is room for what a disk needs.
    """
    path = directory / f"extents-{secrets.token_hex(8)}"
    with _writing(directory):
        kept = ExtentFile(path)
        try:
            path.unlink()
            await to_thread_joined(_append_all, kept, windows)
        except BaseException:
            kept.close()
            raise
        return kept


def _append_all(kept: ExtentFile, windows: Iterable[Extents]) -> None:
    for window in windows:
        kept.append(window)
    kept.flush()


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Say of an error what was written, and what to do.  The file itself has no name any more."""
    try:
        yield
    except OSError as exc:
        raise durable.write_error(directory, "writing down which extents to read", exc) from exc

"""Which extents of a disk a cycle writes, and of which nobody knows what the target has there.

own changes     what the cluster says, or all
doubt           what a dead cycle may have written: its intent; or where the target is not what it was
united          both: what of them is in doubt is read, whatever the cluster says
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ntxengine.changes import RegionSpool, spool_to_file
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.blocks import block_runs
from ntxengine.dataplane.coverage import Blocks, Shuffled, blocks_of
from ntxengine.dataplane.extents import ZERO, ExtentFile, Extents, as_data, clipped, concatenate, make
from ntxengine.dataplane.manifest import Manifest


async def united(own: ExtentFile, doubt: Iterable[Extents], size: int, directory: Path) -> ExtentFile:
    """Return both in one: ascending and disjoint, what is in doubt as data.  The caller closes it.

    Errors: TargetError (no room for it in `directory`).
    """
    return await to_thread_joined(_unite, own, doubt, size, directory)


def _unite(own: ExtentFile, doubt: Iterable[Extents], size: int, directory: Path) -> ExtentFile:
    spool = RegionSpool(directory, size=size)
    try:
        for window in own.windows():
            spool.add(window)
        for window in doubt:
            spool.add(clipped(as_data(window), size))
        return _kept(spool.windows())
    finally:
        spool.close()


def _kept(windows: Iterable[Extents]) -> ExtentFile:
    kept = ExtentFile()
    try:
        for window in windows:
            kept.append(window)
        kept.flush()
    except BaseException:
        kept.close()
        raise
    return kept


async def with_zeros(own: ExtentFile, size: int, directory: Path) -> ExtentFile:
    """Return all of a disk of `size` bytes: what `own` does not have is zero.  The caller closes it.

    Errors: TargetError (no room for it in `directory`).
    """
    return await spool_to_file(_filled(own.windows(), size), directory)


def _filled(windows: Iterable[Extents], size: int) -> Iterator[Extents]:
    at = 0
    for window in windows:
        begins = window["offset"].astype(np.int64)
        ends = begins + window["length"].astype(np.int64)
        before = np.concatenate([[at], ends[:-1]])
        gap = before < begins
        rows = zip(before[gap].tolist(), (begins - before)[gap].tolist(), [ZERO] * int(gap.sum()), strict=True)
        both = concatenate([window, make(rows)]) if gap.any() else window
        yield both[np.argsort(both["offset"], kind="stable")]
        at = int(ends[-1])
    if at < size:
        yield make([(at, size - at, ZERO)])


def disown(manifest: Manifest, doubt: Iterable[Extents]) -> None:
    """Let the blocks of a manifest that are in doubt have a digest that none has, so that nothing is skipped there.

    Blocks.  Errors: TargetError.
    """
    for begins, ends in block_runs(doubt):
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            if begin < manifest.blocks:
                manifest.disown(begin, min(end, manifest.blocks) - begin)


# ------------------------------------------------------------------------------------------------ what is read back


def sample_of(touched: ExtentFile, size: int, most: int, cursor: Shuffled) -> tuple[Blocks, Shuffled]:
    """Return blocks to read back, ascending: at most `most` of those that were touched, and as many of all others,
    which go on from `cursor`; and where the next sample goes on.
    """
    blocks = blocks_of(size)
    count = sum(int((ends - begins).sum()) for begins, ends in block_runs(touched.windows()))
    ordinals = np.arange(count, dtype=np.int64) if count <= most else np.unique(Shuffled.begin(count).ahead(most))
    chosen = [_at(touched, ordinals), cursor.ahead(min(most, blocks))]
    return np.unique(np.concatenate(chosen)), cursor.passed(len(chosen[1]))


def _at(touched: ExtentFile, ordinals: Blocks) -> Blocks:
    """Return the blocks that are touched at these places in the order of all that are."""
    found = []
    before = 0
    for begins, ends in block_runs(touched.windows()):
        lengths = ends - begins
        starts = before + np.concatenate([[0], np.cumsum(lengths)[:-1]])
        behind = before + int(lengths.sum())
        here = ordinals[(ordinals >= before) & (ordinals < behind)]
        run = np.searchsorted(starts, here, side="right") - 1
        found.append(begins[run] + (here - starts[run]))
        before = behind
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)

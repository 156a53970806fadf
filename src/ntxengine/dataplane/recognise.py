"""Whether a device still holds what was copied before: by some of its bytes, never by its path."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.blocks import Runs, block_extents
from ntxengine.dataplane.copy import CopyOptions, digest
from ntxengine.dataplane.extents import ZERO, Extents
from ntxengine.dataplane.manifest import Manifest
from ntxengine.units import BLOCK_SIZE

SAMPLE = 16
"""Blocks, besides the last one: of a disk of which one half is another, one in 65,536 is taken for the same."""

_DRAWN = 4096
"""Blocks among which those are found that are not zero: an empty disk has all the others too."""


async def holds_what_was_copied(
    source: Device,
    manifest: Manifest,
    *,
    stored_to: int,
    options: CopyOptions,
    chance: random.Random,
    extents: Callable[[], Iterable[Extents]] | None = None,
) -> bool:
    """Tell whether `source` has the digests of `manifest` in blocks below `stored_to` (bytes): some and the last.

    Which ones `chance` decides.  `extents()`: only those that were copied; without it, the whole disk was.
    Errors: as copy.
    """
    drawn = _some(lambda: _copied(extents, stored_to, manifest.size), chance)
    if not len(drawn):
        return True
    blocks = await to_thread_joined(_telling, drawn, manifest, chance)
    sample = block_extents(blocks, blocks + 1, manifest.size)
    with Manifest.temporary(size=manifest.size) as found:
        await digest(
            source, found, options=options, extents=[sample], bytes_expected=len(blocks) * BLOCK_SIZE, reads_all=True
        )
        return bool((found.digests_at(blocks) == manifest.digests_at(blocks)).all())


def _copied(extents: Callable[[], Iterable[Extents]] | None, stored_to: int, size: int) -> Iterator[Runs]:
    """Yield the runs of blocks below `stored_to` that data extents fill: a block of which only a part was copied has
    not the digest of either end."""
    end = -(-min(stored_to, size) // BLOCK_SIZE)
    if extents is None:
        yield np.array([0]), np.array([end])
        return
    for window in extents():
        data = window[(window["flags"] & np.uint64(ZERO)) == 0]
        begins = -(-data["offset"].astype(np.int64) // BLOCK_SIZE)
        behind = (data["offset"] + data["length"]).astype(np.int64)
        ends = np.minimum(np.where(behind >= size, -(-behind // BLOCK_SIZE), behind // BLOCK_SIZE), end)
        yield begins[begins < ends], ends[begins < ends]


def _telling(drawn: NDArray[np.int64], manifest: Manifest, chance: random.Random) -> NDArray[np.int64]:
    """Return those of the blocks that are compared: the last one, and others, rather some that are not zero."""
    has_data = [bool(digest.any()) for digest in manifest.digests_at(drawn)]
    shuffled = chance.sample(range(len(drawn)), len(drawn))
    chosen = sorted(shuffled, key=lambda at: not has_data[at])[:SAMPLE]
    return drawn[sorted({*chosen, len(drawn) - 1})]


def _some(runs: Callable[[], Iterator[Runs]], chance: random.Random) -> NDArray[np.int64]:
    """Return some blocks of all that are in `runs()`, ascending, and the last of them."""
    count = sum(int((ends - begins).sum()) for begins, ends in runs())
    if count == 0:
        return np.empty(0, dtype=np.int64)
    chosen = np.array(sorted({*chance.sample(range(count), min(_DRAWN, count)), count - 1}), dtype=np.int64)
    found, before = [], 0
    for begins, ends in runs():
        behind = before + np.cumsum(ends - begins)
        if not len(behind):
            continue
        here = chosen[(chosen >= before) & (chosen < behind[-1])]
        run = np.searchsorted(behind, here, side="right")
        found.append(ends[run] - (behind[run] - here))
        before = int(behind[-1])
    return np.concatenate(found)

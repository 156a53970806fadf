"""Whether a source still holds what was copied of it before: by some of its bytes, never by its path."""

from __future__ import annotations

import random

import numpy as np

from ntxengine._core.engine import Device
from ntxengine.dataplane.blocks import block_extents
from ntxengine.dataplane.copy import CopyOptions, digest
from ntxengine.dataplane.manifest import Manifest
from ntxengine.units import BLOCK_SIZE

SAMPLE = 16
"""Blocks, besides the last one: of a disk of which one half is another, one in 65,536 is taken for the same."""


async def holds_what_was_copied(
    source: Device, manifest: Manifest, *, stored_to: int, options: CopyOptions, chance: random.Random
) -> bool:
    """Tell whether `source` has the digests of `manifest` in blocks below `stored_to` (bytes): some and the last.

    Which ones `chance` decides.
    Errors: as copy.
    """
    count = -(-stored_to // BLOCK_SIZE)
    if count == 0:
        return True
    blocks = np.array(sorted({*chance.sample(range(count), min(SAMPLE, count)), count - 1}), dtype=np.int64)
    extents = block_extents(blocks, blocks + 1, manifest.size)
    with Manifest.temporary(size=manifest.size) as found:
        await digest(
            source, found, options=options, extents=[extents], bytes_expected=len(blocks) * BLOCK_SIZE, reads_all=True
        )
        return bool((found.digests_at(blocks) == manifest.digests_at(blocks)).all())

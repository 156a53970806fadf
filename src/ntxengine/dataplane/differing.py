"""Where two disks differ, found out from their manifests: no byte of a disk is read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ntxengine.dataplane.extents import EXTENT, WINDOW, ZERO, Extents, join_neighbours
from ntxengine.dataplane.manifest import DIGEST_SIZE, Manifest
from ntxengine.units import BLOCK_SIZE

_Digests = NDArray[np.uint8]
"""A row of 16 bytes for each block; all zero for a block that is."""


def differing_extents(before: Manifest, after: Manifest) -> Iterator[Extents]:
    """Yield where the disk of `after` holds other bytes than that of `before`, by the digests of their blocks.

    Shape:  windows of at least one extent, ascending, apart from each other or of other flags; one that goes on in the
            next window is two.  ZERO in the flags: it reads as zero in `after`, there is nothing to read.
    Units:  bytes, whole blocks of 64 KiB; the last one ends with the disk of `after`.
    A disk that grew had zeros there before.  One that shrank: nothing is said of what it lost.
    Blocks: two reads of 1 MiB at most for each window; none where both manifests are holes.
    Errors: RepositoryError (a manifest was cut meanwhile).
    """
    for first in range(0, after.blocks, WINDOW):
        count = min(WINDOW, after.blocks - first)
        if _is_zero(before, first, count) and _is_zero(after, first, count):
            continue
        now = _digests(after, first, count)
        differ = np.flatnonzero((now != _digests(before, first, count)).any(axis=1))
        if len(differ):
            yield _extents(first + differ, np.where(now[differ].any(axis=1), 0, ZERO), size=after.size)


def _is_zero(manifest: Manifest, first: int, count: int) -> bool:
    return first >= manifest.blocks or manifest.is_hole(first, count)


def _digests(manifest: Manifest, first: int, count: int) -> _Digests:
    """Return the digests of `count` blocks, those behind the end of the disk as zero."""
    digests = np.zeros((count, DIGEST_SIZE), dtype=np.uint8)
    if first < manifest.blocks:
        found = manifest.digests(first, count)
        digests[: len(found)] = found
    return digests


def _extents(blocks: NDArray[np.intp], flags: NDArray[np.int_], *, size: int) -> Extents:
    extents = np.zeros(len(blocks), dtype=EXTENT)
    extents["offset"] = blocks * BLOCK_SIZE
    extents["length"] = np.minimum((blocks + 1) * BLOCK_SIZE, size) - blocks * BLOCK_SIZE
    extents["flags"] = flags
    return join_neighbours(extents)

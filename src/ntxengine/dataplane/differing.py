"""Where two disks differ, found out from their manifests: no byte of a disk is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ntxengine.dataplane.blocks import GROUP_BLOCKS, block_runs, groups_of_runs
from ntxengine.dataplane.extents import EXTENT, WINDOW, ZERO, Extents, join_neighbours
from ntxengine.dataplane.manifest import DIGEST_SIZE, Manifest
from ntxengine.errors import ChecksumMismatch
from ntxengine.units import BLOCK_SIZE

_NAMED_OFFSETS = 16

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


def differences(stored: Manifest, found: Manifest, touched: Iterable[Extents] | None = None) -> Iterator[int]:
    """Yield the numbers of the blocks whose digests differ, ascending; only of those that `touched` touches, if given.

    Errors: ChecksumMismatch if the two are of disks of different sizes.
    """
    if stored.size != found.size:
        raise ChecksumMismatch(f"the disk has {found.size} bytes, its manifest {stored.size}")
    everything = np.array([0]), np.array([stored.blocks])
    for begins, ends in [everything] if touched is None else groups_of_runs(block_runs(touched)):
        behind = int(ends[-1])
        for first in range(int(begins[0]), behind, GROUP_BLOCKS):
            count = min(GROUP_BLOCKS, behind - first)
            if stored.is_hole(first, count) and found.is_hole(first, count):
                continue
            differ = (stored.digests(first, count) != found.digests(first, count)).any(axis=1)
            blocks = first + np.flatnonzero(differ)
            run_of = np.searchsorted(begins, blocks, side="right") - 1
            yield from blocks[blocks < ends[run_of]].tolist()


def compare(stored: Manifest, found: Manifest, touched: Iterable[Extents] | None = None) -> tuple[tuple[int, ...], int]:
    """Return the offsets of the first of the `differences`, and how many there are."""
    offsets: list[int] = []
    count = 0
    for block in differences(stored, found, touched):
        count += 1
        if len(offsets) < _NAMED_OFFSETS:
            offsets.append(block * BLOCK_SIZE)
    return tuple(offsets), count


def require_same(stored: Manifest, found: Manifest, touched: Iterable[Extents] | None, name: str) -> None:
    """Compare what was `found` of the disk `name` with what is `stored` of it.

    Errors: ChecksumMismatch with the offsets of the first differing blocks.
    """
    offsets, count = compare(stored, found, touched)
    if count:
        places = ", ".join(str(offset) for offset in offsets)
        more = f" and {count - len(offsets)} more" if count > len(offsets) else ""
        raise ChecksumMismatch(
            f"{name}: {count} of {stored.blocks} blocks of 64 KiB are not what was captured: at offset {places}{more}",
            offsets=offsets,
            blocks=count,
        )

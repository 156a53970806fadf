"""One disk of a point, read back and compared.  What a point below holds, and was read before, is not read again.

    point    |own|........|own|.........|    its own clusters, and what is zero: read, and compared with its digests
    below    | .......... read before ..|    the rest: as right or wrong as there, where both have the same digest

So only the images on top of what was read are opened, and points on top of each other cost together what their images
do.  Where a disk says another digest than the one below and yet has no bytes of its own, it is read through its chain.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.blocks import block_extents
from ntxengine.dataplane.copy import CopyOptions, CopyReport, OnProgress
from ntxengine.dataplane.coverage import Blocks
from ntxengine.dataplane.differing import differences
from ntxengine.dataplane.extents import EXTENT, ZERO, Extents, clipped, concatenate, normalise, total, whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import NbdError, RepositoryError, SourceError
from ntxengine.images.open import OpenedImage, open_upper, open_with_clusters
from ntxengine.repository import Chains, Point, PointDisk, Repository
from ntxengine.units import BLOCK_SIZE
from ntxengine.verify.verdict import NAMED_OFFSETS, DiskVerdict


@dataclass(frozen=True)
class Below:
    """The same disk in a point below, which was read to its end.  `depth` images are on top of it."""

    point: Point
    disk: PointDisk
    depth: int
    wrong: Mapping[str, Blocks]


@dataclass(frozen=True)
class _Plan:
    """What is to be read: the blocks that `places` touch, which may be zero.

    `own` hold bytes of this point.  Among the blocks without, `others` have another digest than below, and the point
    itself does not say of all of them that they are zero if it `needs_below`.
    """

    places: Extents
    own: Extents
    others: Blocks
    needs_below: bool


async def verify_disk(
    repository: Repository,
    point: Point,
    disk: PointDisk,
    *,
    below: Below | None,
    chains: Chains,
    options: CopyOptions,
    on_progress: OnProgress,
) -> DiskVerdict:
    """Read back a disk: through its whole chain, or only what it has on top of `below`.

    Where the clusters cannot be looked up it is read whole.  What is wrong with it is in the verdict and not raised.
    Errors: ToolError, TransferTimeout.
    """
    try:
        async with AsyncExitStack() as stack:
            stored = stack.enter_context(await repository.manifest(point, disk))
            chain = await repository.images(point, disk, chains=chains)
            before = None
            if below is not None and below.disk.size == disk.size:
                before = stack.enter_context(await repository.manifest(below.point, below.disk))
            async with _opened(chain, stored, before, 0 if below is None else below.depth, options) as (opened, plan):
                if opened.device.size < stored.size:
                    return DiskVerdict(disk, f"has {opened.device.size} bytes, its manifest {stored.size}")
                found = stack.enter_context(Manifest.temporary(size=stored.size))
                places = _places(opened, plan, stored.size)
                report = await dataplane.digest(
                    opened.device,
                    found,
                    options=options,
                    extents=[places],
                    bytes_expected=total(places),
                    on_progress=on_progress,
                )
            wrong = await to_thread_joined(_wrong_blocks, stored, found, plan)
    except (RepositoryError, SourceError, NbdError) as exc:
        return DiskVerdict(disk, str(exc))
    if plan is None or below is None:
        return _verdict(disk, report, point.id, wrong, {})
    return _verdict(disk, report, point.id, *_attributed(wrong, plan, below))


@asynccontextmanager
async def _opened(
    chain: Sequence[Path], stored: Manifest, before: Manifest | None, depth: int, options: CopyOptions
) -> AsyncIterator[tuple[OpenedImage, _Plan | None]]:
    """Open what is to be read of a chain: the `depth` images on top of `before`, or all if that is not enough."""
    async with AsyncExitStack() as stack:
        if before is not None:
            upper = await stack.enter_async_context(open_upper(chain[:depth]))
            if upper is not None and upper.clusters is not None:
                plan = await to_thread_joined(_plan, stored, before, upper.clusters, depth)
                if not plan.needs_below:
                    yield upper, plan
                    return
            await stack.aclose()
        opened = await stack.enter_async_context(
            open_with_clusters(chain, timeout_s=options.timeout_s, connections=options.most_connections)
        )
        if before is None or opened.clusters is None:
            yield opened, None
        else:
            yield opened, await to_thread_joined(_plan, stored, before, opened.clusters, depth)


def _places(opened: OpenedImage, plan: _Plan | None, size: int) -> Extents:
    if plan is not None:
        return plan.places
    return whole(size) if opened.clusters is None else extents_of(opened.clusters, size)


def _plan(stored: Manifest, before: Manifest, clusters: Extents, depth: int) -> _Plan:
    """Return what is to be read of a disk with these clusters, of which `depth` files are on top of `before`."""
    is_zero = (clusters["flags"] & ZERO) != 0
    is_own = ~is_zero & (clusters["file"] < depth)
    # Which image says that a cluster is zero is not known, and it costs nothing.  Of what none says anything of nothing
    # is known if these are not all images, and it is as it is below if they are.
    to_read = extents_of(clusters[is_own | (clusters["flags"] == ZERO)], stored.size)
    elsewhere = extents_of(clusters[~is_own], stored.size)
    others = np.fromiter(differences(stored, before, [elsewhere]), dtype=np.int64)
    more = others[~_touches(to_read, others)]
    places = concatenate([to_read, block_extents(more, more + 1, stored.size)])
    return _Plan(
        places=normalise(places, size=stored.size, name="clusters"),
        own=extents_of(clusters[is_own], stored.size),
        others=others,
        needs_below=len(more) > 0,
    )


def extents_of(clusters: Extents, size: int) -> Extents:
    """Return clusters as extents of a disk of `size` bytes."""
    extents = np.empty(len(clusters), dtype=EXTENT)
    for name in ("offset", "length"):
        extents[name] = clusters[name]
    extents["flags"] = clusters["flags"] & ZERO
    return clipped(extents, size)


def _wrong_blocks(stored: Manifest, found: Manifest, plan: _Plan | None) -> Blocks:
    touched = None if plan is None else [plan.places]
    return np.fromiter(differences(stored, found, touched), dtype=np.int64)


def _attributed(wrong: Blocks, plan: _Plan, below: Below) -> tuple[Blocks, dict[str, Blocks]]:
    """Tell the blocks that are wrong in this point from those that it shows of a point below, by the id of that."""
    inherited: dict[str, Blocks] = {}
    for point_id, blocks in below.wrong.items():
        was_read = _touches(plan.places, blocks)
        is_shown = ~_touches(plan.own, blocks) & ~np.isin(blocks, plan.others) & np.isin(blocks, wrong)
        if len(shown := blocks[~was_read | is_shown]):
            inherited[point_id] = shown
    if inherited:
        wrong = wrong[~np.isin(wrong, np.concatenate(list(inherited.values())))]
    return wrong, inherited


def _touches(extents: Extents, blocks: Blocks) -> NDArray[np.bool_]:
    """Say of each block whether ascending extents touch it."""
    if not len(extents):
        return np.zeros(len(blocks), dtype=np.bool_)
    first = (extents["offset"] // BLOCK_SIZE).astype(np.int64)
    last = ((extents["offset"] + extents["length"] - 1) // BLOCK_SIZE).astype(np.int64)
    at = np.searchsorted(first, blocks, side="right") - 1
    touches: NDArray[np.bool_] = (at >= 0) & (blocks <= last[at])
    return touches


def _verdict(
    disk: PointDisk, report: CopyReport, own_id: str, wrong: Blocks, inherited: Mapping[str, Blocks]
) -> DiskVerdict:
    problems, all_blocks = [], -(-disk.size // BLOCK_SIZE)
    offsets = tuple((wrong[:NAMED_OFFSETS] * BLOCK_SIZE).tolist())
    if len(wrong):
        places = ", ".join(str(offset) for offset in offsets)
        more = f" and {len(wrong) - len(offsets)} more" if len(wrong) > len(offsets) else ""
        problems.append(
            f"{len(wrong)} of {all_blocks} blocks of 64 KiB are not what was captured: at offset {places}{more}"
        )
    problems += [
        f"wrong below, in point {point_id}: {len(blocks)} of {all_blocks} blocks"
        for point_id, blocks in inherited.items()
    ]
    return DiskVerdict(
        disk,
        "; ".join(problems),
        offsets,
        len(wrong),
        below_point_ids=tuple(inherited),
        report=report,
        wrong=({own_id: wrong} if len(wrong) else {}) | dict(inherited),
    )

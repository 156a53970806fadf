"""Samples: some blocks of a disk of a point, chosen at random, read back and compared.

    blocks with data   --order of Shuffled-->  the next ones, read and compared with their digests
    blocks without     --no read-->            all of them must be zero in the manifest
    blocks found wrong before  --read again--> a point that is known to be wrong does not look right

Each sample goes on where the last one ended, so that all of a disk is read in time.  How far they are is kept in the
repository (repository/sampled.py), for the files as they were.

LIMIT: what is read of a point may lie in any image of its chain, so that all of them are opened and their tables looked
up for each point: of 100 images at most 2.4 % of the size of the disk.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.blocks import block_extents, block_runs, untouched
from ntxengine.dataplane.copy import CopyOptions, CopyReport, OnProgress, Progress
from ntxengine.dataplane.coverage import (
    MAX_AHEAD,
    NONE,
    SEEDS,
    Blocks,
    Shuffled,
    blocks_of,
    count_in_time,
)
from ntxengine.dataplane.differing import differences
from ntxengine.dataplane.extents import ZERO, Extents, total, whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import NbdError, OptionsError, RepositoryError, SourceError
from ntxengine.images.open import OpenedImage, open_with_clusters
from ntxengine.repository import Chains, Point, PointDisk, Repository, StoredSample
from ntxengine.units import BLOCK_SIZE
from ntxengine.verify.disk import extents_of
from ntxengine.verify.verdict import NAMED_OFFSETS, DiskVerdict, Sampled


@dataclass(frozen=True)
class Sampling:
    """How much to read: a `share` (above 0, at most 1) of the blocks that have data, of each disk, or for so many
    `seconds`, of all disks together.

    `seed` is that of the order in which blocks are read; None for the one that there is, or any.
    """

    share: float | None = None
    seconds: float | None = None
    seed: int | None = None
    clock: Callable[[], float] = field(default=time.monotonic, compare=False)

    def __post_init__(self) -> None:
        if (self.share is None) == (self.seconds is None):
            raise OptionsError("a sample has a share, or seconds: one of them")
        if self.share is not None and not 0 < self.share <= 1:
            raise OptionsError(f"a sample of {self.share * 100:g}% is none: it is above 0 and at most 100%")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise OptionsError(f"a sample of {self.seconds:g} s is none: it must be above 0")
        if self.seed is not None and not 0 <= self.seed < SEEDS:
            raise OptionsError(f"seed {self.seed} is not from 0 to {SEEDS - 1}")


class DataBlocks:
    """The blocks of a disk that have data in its images, by their number among these."""

    def __init__(self, clusters: Extents | None, size: int) -> None:
        """`clusters` are those of its images; None if nobody knows: then all blocks may have data."""
        self.size = size
        self._is_known = clusters is not None
        self._data = whole(size) if clusters is None else extents_of(clusters[(clusters["flags"] & ZERO) == 0], size)
        begins, ends = next(block_runs([self._data]), (NONE, NONE))
        self._ends = ends
        self._behind = np.cumsum(ends - begins)  # the number behind the last block of each run
        self.count = int(self._behind[-1]) if len(self._behind) else 0

    def blocks(self, numbers: Blocks) -> Blocks:
        """Return the blocks with these numbers."""
        run = np.searchsorted(self._behind, numbers, side="right")
        return np.asarray(self._ends[run] - (self._behind[run] - numbers), dtype=np.int64)

    def not_zero(self, stored: Manifest) -> Blocks:
        """Return the blocks that have no data here, and had some when they were captured.  Blocks: reads digests."""
        if not self._is_known:
            return NONE
        with Manifest.temporary(size=self.size) as zeros:
            elsewhere = untouched([self._data], size=self.size)
            return np.fromiter(differences(stored, zeros, elsewhere), dtype=np.int64)


async def sample_disk(
    repository: Repository,
    point: Point,
    disk: PointDisk,
    sampling: Sampling,
    *,
    before: StoredSample | None,
    chains: Chains,
    options: CopyOptions,
    on_progress: OnProgress,
) -> DiskVerdict:
    """Read back some blocks of a disk through its whole chain, going on from `before`.

    What is wrong with it is in the verdict and not raised.
    Errors: ToolError, TransferTimeout.
    """
    try:
        with ExitStack() as stack:
            stored = stack.enter_context(await repository.manifest(point, disk))
            chain = await repository.images(point, disk, chains=chains)
            files = await repository.fingerprint(point, disk, chain)
            connections = options.most_connections
            async with open_with_clusters(chain, timeout_s=options.timeout_s, connections=connections) as opened:
                if opened.device.size < stored.size:
                    return DiskVerdict(disk, f"has {opened.device.size} bytes, its manifest {stored.size}")
                data = await to_thread_joined(DataBlocks, opened.clusters, stored.size)
                found = stack.enter_context(Manifest.temporary(size=stored.size))
                sampler = _Sampler(opened, data, stored, found, options, on_progress)
                cursor, again = _begin(before, files, data.count, sampling.seed)
                sampled = await sampler.run(sampling, cursor, again)
            without = await to_thread_joined(data.not_zero, stored)
    except (RepositoryError, SourceError, NbdError) as exc:
        return DiskVerdict(disk, str(exc))
    return _verdict(disk, replace(sampled, files=files), without, sampler.report)


def _begin(before: StoredSample | None, files: str, blocks: int, seed: int | None) -> tuple[Shuffled, Blocks]:
    """Return where to go on, and the blocks to read again; from the beginning where something is not as it was."""
    if before is not None and before.files == files and seed in (None, before.seed):
        cursor = Shuffled(before.seed, before.position, before.blocks)
        if cursor.fits(blocks):
            return cursor, np.array(before.wrong, dtype=np.int64) // BLOCK_SIZE
    return Shuffled.begin(blocks, seed=seed), NONE


class _Sampler:
    """Reads blocks of one disk, sweep by sweep, and compares them."""

    def __init__(
        self,
        opened: OpenedImage,
        data: DataBlocks,
        stored: Manifest,
        found: Manifest,
        options: CopyOptions,
        on_progress: OnProgress,
    ) -> None:
        self._device = opened.device
        self._data = data
        self._stored = stored
        self._found = found
        self._options = options
        self._on_progress = on_progress
        self._bytes_whole = 0
        self.report: CopyReport | None = None

    async def run(self, sampling: Sampling, cursor: Shuffled, again: Blocks) -> Sampled:
        """Read from where `cursor` is on, no block twice, and first those that were wrong before."""
        began_s, passed = sampling.clock(), 0
        blocks = self._data.count
        most = blocks if sampling.share is None else math.ceil(blocks * sampling.share)
        self._bytes_whole = 0 if sampling.share is None else most * BLOCK_SIZE
        wrong = await self._sweep(again[(again >= 0) & (again < blocks_of(self._data.size))])
        while True:
            count = min(most - passed, MAX_AHEAD)
            if sampling.seconds is not None:
                count = min(count, count_in_time(passed, sampling.clock() - began_s, sampling.seconds))
            if count <= 0:
                return Sampled(cursor.passed(passed), "", passed, wrong)
            numbers = cursor.passed(passed).ahead(count)
            wrong = np.union1d(wrong, await self._sweep(self._data.blocks(numbers)))
            passed += count

    async def _sweep(self, blocks: Blocks) -> Blocks:
        """Read ascending blocks; return the wrong ones."""
        if not len(blocks):
            return NONE
        places = block_extents(blocks, blocks + 1, self._data.size)
        report = await dataplane.digest(
            self._device,
            self._found,
            options=self._options,
            extents=[places],
            bytes_expected=total(places),
            on_progress=self._tell,
        )
        self.report = report if self.report is None else report.after([self.report])
        return await to_thread_joined(self._compare, blocks)

    def _compare(self, blocks: Blocks) -> Blocks:
        differs = (self._found.digests_at(blocks) != self._stored.digests_at(blocks)).any(axis=1)
        return np.asarray(blocks[differs], dtype=np.int64)

    def _tell(self, progress: Progress) -> None:
        """Tell of one sweep as a part of the whole sample."""
        done = progress.bytes_done + (0 if self.report is None else self.report.bytes_done)
        self._on_progress(replace(progress, bytes_total=max(done, self._bytes_whole), bytes_done=done))


def _verdict(disk: PointDisk, sampled: Sampled, without: Blocks, report: CopyReport | None) -> DiskVerdict:
    problems = []
    if len(sampled.wrong):
        problems.append(
            f"{len(sampled.wrong)} of the sampled blocks of 64 KiB are not what was captured: {_at(sampled.wrong)}"
        )
    if len(without):
        problems.append(f"{len(without)} blocks of 64 KiB have no data, and had some when captured: {_at(without)}")
    wrong = np.union1d(sampled.wrong, without)
    offsets = tuple((wrong[:NAMED_OFFSETS] * BLOCK_SIZE).tolist())
    return DiskVerdict(disk, "; ".join(problems), offsets, len(wrong), report=report, sampled=sampled)


def _at(blocks: Blocks) -> str:
    places = ", ".join(str(offset) for offset in (blocks[:NAMED_OFFSETS] * BLOCK_SIZE).tolist())
    more = f" and {len(blocks) - NAMED_OFFSETS} more" if len(blocks) > NAMED_OFFSETS else ""
    return f"at offset {places}{more}"

"""Auditing: whether the cluster told of all that changed, found out by reading blocks of which it said nothing.

    order of the blocks  --Cursor-->  those that the changes do not touch  --read-->  compared with the previous point's
                                      or are said to be zero               --read-->  compared with zero

Nothing else can find it: `ntx verify` compares a point with what was captured, and a block of which the cluster said
nothing was not captured.  How far the audits are is kept in the report of the disk, so that each goes on where the last
one ended; a capture that reads everything begins anew.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ntxengine._core.device import Device
from ntxengine.changes import Changes
from ntxengine.changes.sampling import Sample, sample
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.blocks import block_extents
from ntxengine.dataplane.copy import CopyOptions, OnProgress, Progress
from ntxengine.dataplane.coverage import MAX_AHEAD, NONE, Blocks, Cursor, blocks_of, count_in_time
from ntxengine.dataplane.extents import total
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import NbdError, NbdReplyError, OptionsError, SourceError, TransferTimeout
from ntxengine.repository import Point, StoredAudit
from ntxengine.units import BLOCK_SIZE, format_size, parse_size, seconds_of, share_of

log = logging.getLogger(__name__)

_NAMED_OFFSETS = 16

_MOST_FAILURES = 32
"""Reads that may fail in one audit, each perhaps after many seconds: enough to find two blocks in the largest sweep."""

Clock = Callable[[], float]


@dataclass(frozen=True)
class Audit:
    """How much to audit of a VM, in one of three ways: a share (above 0, at most 1) of each of its disks, bytes that
    are read, or seconds; the last two of all disks together, divided among them by size.
    """

    share: float | None = None
    bytes: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = [each for each in (self.share, self.bytes, self.seconds) if each is not None]
        if len(given) != 1:
            raise OptionsError("an audit has a share, bytes or seconds: one of them")
        if not 0 < given[0] < math.inf:
            raise OptionsError(f"an audit of {given[0]:g} is none: it must be above 0")
        if self.share is not None and self.share > 1:
            raise OptionsError(f"an audit of {self.share * 100:g}% is more than all")

    def of_disk(self, size: int, total_size: int) -> Audit:
        """Return what of it is for a disk of `size` bytes of a VM with `total_size`."""
        part = size / total_size if total_size else 1.0
        if self.bytes is not None:
            return Audit(bytes=max(1, math.ceil(self.bytes * part)))
        if self.seconds is not None:
            return Audit(seconds=max(1e-3, self.seconds * part))
        return self

    def most_blocks(self, blocks: int) -> int | None:
        """Return how many of the blocks of a disk it reads at most; None if only time tells."""
        if self.share is not None:
            return min(blocks, max(1, math.ceil(blocks * self.share)))
        return None if self.bytes is None else min(blocks, -(-self.bytes // BLOCK_SIZE))


def parse_audit(text: str) -> Audit:
    """Return what `2%`, `2GiB` or `10m` means: a small m is minutes.  Errors: OptionsError."""
    try:
        return _parsed(text.strip())
    except OptionsError as exc:
        raise OptionsError(f"{exc}; write a share of each disk (2%), bytes (2GiB) or a time (90s, 10m, 1h)") from exc


def _parsed(text: str) -> Audit:
    if (share := share_of(text)) is not None:
        return Audit(share=share)
    if (seconds := seconds_of(text)) is not None:
        return Audit(seconds=seconds)
    size = parse_size(text)
    if size < BLOCK_SIZE:
        # Most likely a number whose % was forgotten.
        raise OptionsError(f"{text!r} is less than one block ({format_size(BLOCK_SIZE)})")
    return Audit(bytes=size)


@dataclass(frozen=True)
class Audited:
    """What an audit of a disk found, and where the next one goes on.

    Of `blocks_sampled` those with the numbers `wrong` do not hold what the cluster said.  `problem` says what could
    not be read, "" if nothing.
    """

    cursor: Cursor
    blocks_sampled: int = 0
    bytes_read: int = 0
    wrong: Blocks = field(default_factory=lambda: NONE)
    problem: str = ""

    @property
    def offsets(self) -> tuple[int, ...]:
        """The first wrong blocks, in bytes: as many as are worth naming."""
        return tuple((self.wrong[:_NAMED_OFFSETS] * BLOCK_SIZE).tolist())

    def stored(self) -> StoredAudit:
        """Return what the point keeps of it.  Where something is wrong all is read after all, and audits begin anew."""
        cursor = Cursor.begin(self.cursor.blocks) if len(self.wrong) else self.cursor
        return StoredAudit(
            seed=cursor.seed,
            position=cursor.position,
            blocks=cursor.blocks,
            blocks_sampled=self.blocks_sampled,
            bytes_read=self.bytes_read,
            blocks_wrong=len(self.wrong),
            offsets=self.offsets,
            problem=self.problem,
        )


def cursor_after(point: Point | None, disk_id: str, size: int) -> Cursor | None:
    """Return where the audits of a disk are after a point; None if none was made since all of it was read."""
    report = None if point is None else point.report.disks.get(disk_id.lower())
    audit = None if report is None else report.audit
    if audit is None:
        return None
    cursor = Cursor(audit.seed, audit.position, audit.blocks)
    return cursor if cursor.fits(blocks_of(size)) else None


class Auditor:
    """Audits one disk, attached as `source`.  `before` is the previous point's manifest, None for a full one."""

    def __init__(
        self,
        source: Device,
        changes: Changes,
        before: Manifest | None,
        *,
        directory: Path,
        options: CopyOptions,
        on_progress: OnProgress | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._source = source
        self._changes = changes
        self._before = before
        self._directory = directory
        self._options = options
        self._on_progress = on_progress
        self._clock = clock
        self._passed = 0
        self._sampled = 0
        self._bytes_read = 0

    async def run(self, audit: Audit, cursor: Cursor) -> Audited:
        """Read blocks from where `cursor` is on, as many as `audit` allows, or until one is wrong.

        Where a read fails, fewer blocks are tried, down to the one that cannot be read: that is passed over, or the
        audits of a disk would not get past it.  Too many failures, and others, end the audit.  Whether the copy needs
        what cannot be read is not known here.
        """
        wrong, problem = NONE, ""
        most, failures = MAX_AHEAD, 0
        began_s = self._clock()
        with Manifest.temporary(size=self._changes.size, directory=self._directory) as found:
            while not len(wrong) and (count := self._next_count(audit, cursor.blocks, self._clock() - began_s)):
                here = cursor.passed(self._passed)
                count, chosen = await to_thread_joined(self._choose, here, min(count, most), audit)
                try:
                    wrong = await self._sweep(chosen, found, audit)
                    most = min(2 * most, MAX_AHEAD)
                except (SourceError, NbdError, TransferTimeout) as error:
                    problem = str(error)
                    failures += 1
                    if failures == _MOST_FAILURES or not isinstance(error, SourceError | NbdReplyError):
                        break
                    most = max(1, count // 2)
                    if count > 1:
                        continue
                self._passed += count
        return Audited(
            cursor=cursor.passed(self._passed),
            blocks_sampled=self._sampled,
            bytes_read=self._bytes_read,
            wrong=wrong,
            problem=problem,
        )

    def _next_count(self, audit: Audit, blocks: int, seconds: float) -> int:
        """Return how many blocks to pass over next, 0 at the end.  No block is looked at twice in one audit."""
        left = min(blocks - self._passed, MAX_AHEAD)
        if audit.seconds is not None:
            return min(left, count_in_time(self._passed, seconds, audit.seconds))
        most = audit.most_blocks(blocks) or 0
        # A share is of the disk: what of it has changed is read anyway, and passed over.  Bytes are what is read here.
        if audit.share is not None:
            return min(left, most - self._passed)
        return left if self._sampled < most else 0

    async def _sweep(self, chosen: Sample, found: Manifest, audit: Audit) -> Blocks:
        """Read some blocks; return the wrong ones."""
        both = np.sort(np.concatenate([chosen.unchanged, chosen.zero]))
        if not len(both):
            return both
        places = block_extents(both, both + 1, self._changes.size)
        report = await dataplane.digest(
            self._source,
            found,
            options=self._options,
            extents=[places],
            bytes_expected=total(places),
            reads_all=True,
            on_progress=None if self._on_progress is None else self._progress(audit),
        )
        self._sampled += len(both)
        self._bytes_read += report.bytes_read
        return await to_thread_joined(self._compare, chosen, found)

    def _choose(self, cursor: Cursor, count: int, audit: Audit) -> tuple[int, Sample]:
        """Return what can be compared of the next `count` blocks, or of fewer where that is more than is left."""
        changes = self._changes
        most = None if audit.bytes is None else audit.most_blocks(cursor.blocks)
        left = count if most is None else most - self._sampled
        while True:
            blocks = cursor.ahead(count)
            windows = changes.extents.windows()
            chosen = sample(blocks, windows, is_incremental=changes.is_incremental)
            if len(chosen) <= left:
                return len(blocks), chosen
            # Any run of them is spread evenly over the disk, so that this comes near it at once.
            count = max(1, len(blocks) * left // len(chosen))

    def _compare(self, chosen: Sample, found: Manifest) -> Blocks:
        zero = chosen.zero[found.digests_at(chosen.zero).any(axis=1)]
        if self._before is None or not len(chosen.unchanged):
            return zero
        expected = self._before.digests_at(chosen.unchanged)
        differs = (found.digests_at(chosen.unchanged) != expected).any(axis=1)
        return np.sort(np.concatenate([chosen.unchanged[differs], zero]))

    def _progress(self, audit: Audit) -> OnProgress:
        """Tell of one sweep as a part of the whole audit."""
        before = self._bytes_read
        most = audit.most_blocks(blocks_of(self._changes.size))

        def tell(progress: Progress) -> None:
            if self._on_progress is not None:
                done = before + progress.bytes_done
                whole = 0 if most is None else max(done, most * BLOCK_SIZE)
                self._on_progress(dataclasses.replace(progress, bytes_total=whole, bytes_done=done))

        return tell

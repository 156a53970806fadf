"""What verifying a disk of a point has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ntxengine.dataplane.copy import CopyReport
from ntxengine.dataplane.coverage import NONE, Blocks, Shuffled, least_excluded
from ntxengine.repository import Point, PointDisk, StoredSample
from ntxengine.units import BLOCK_SIZE

NAMED_OFFSETS = 16

_KEPT_WRONG = 64
"""Wrong blocks that are read again by each sample of a disk."""


@dataclass(frozen=True)
class Sampled:
    """What was read of a disk, by this sample and by those before, since its files are what they are.

    Of `blocks` that have data this sample has read `blocks_sampled`, and all of them together `blocks_covered`;
    `rounds` is how often all of the disk was covered.
    """

    cursor: Shuffled
    files: str
    blocks_sampled: int
    wrong: Blocks = field(default_factory=lambda: NONE, repr=False, compare=False)

    @property
    def blocks(self) -> int:
        return self.cursor.blocks

    @property
    def blocks_covered(self) -> int:
        return self.cursor.covered

    @property
    def rounds(self) -> int:
        return self.cursor.position // self.blocks if self.blocks else 0

    @property
    def excluded_share(self) -> float | None:
        """The share of its blocks that is not wrong, or even more, at 95 %; None where a wrong one was found."""
        least = None if len(self.wrong) else least_excluded(self.blocks, self.blocks_covered)
        return None if least is None else least / self.blocks

    def stored(self, point: Point, disk: PointDisk, now: datetime) -> StoredSample:
        """Return what the repository keeps of it."""
        return StoredSample(
            point_id=point.id,
            disk_id=disk.disk_id,
            files=self.files,
            seed=self.cursor.seed,
            position=self.cursor.position,
            blocks=self.cursor.blocks,
            sampled_at=now,
            wrong=tuple((self.wrong[:_KEPT_WRONG] * BLOCK_SIZE).tolist()),
        )


@dataclass(frozen=True)
class DiskVerdict:
    """What was found of one disk.

    `problem` is "" if it is as captured.  `offsets` are the first wrong blocks (bytes) and `wrong_blocks` how many
    there are, without those that `below_point_ids` have: they are wrong there already.  `report` is None if the disk
    could not be read to its end; if it could, `wrong` are all wrong blocks by the id of the point that holds them.
    `sampled` says how much of it was read, None of one that was read whole, or could not be read.
    """

    disk: PointDisk
    problem: str
    offsets: tuple[int, ...] = ()
    wrong_blocks: int = 0
    below_point_ids: tuple[str, ...] = ()
    report: CopyReport | None = None
    wrong: Mapping[str, Blocks] = field(default_factory=dict, repr=False, compare=False)
    sampled: Sampled | None = None

    @property
    def is_right(self) -> bool:
        """Whether nothing was found that is not what was captured."""
        return not self.problem

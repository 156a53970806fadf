"""Reading a disk in parts, block by block: in which order, how far it has got, and what that proves.

    order     0 1 2 3 ... blocks-1    --->    a permutation of the blocks
              |<- position ->|                 passed over before; the next part goes on behind it

All that has to be remembered is a seed and a position, however large the disk is.  There are two orders:

    Cursor      spread: neighbours lie a golden section apart, so that any part of the order meets every piece of the
                disk that is much longer than the blocks between
    Shuffled    random: any part of the order is a random sample, and says something of all blocks
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ntxengine.units import BLOCK_SIZE

Blocks = NDArray[np.int64]
"""Numbers of blocks."""

NONE: Blocks = np.empty(0, dtype=np.int64)

MAX_AHEAD = 16384
"""Blocks looked at in one go, 1 GiB: sorted, they are read in one sweep over the disk."""

CONFIDENCE = 0.95

_GOLDEN = (math.sqrt(5) - 1) / 2
SEEDS = 2**32
_MAX_POSITION = 2**60
_FIRST_TIMED = 64
"""Blocks of the first sweep where there is only so much time: 4 MiB."""

_ROUNDS = 6
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # of splitmix64


@dataclass(frozen=True)
class Cursor:
    """How far somebody is in the order of the blocks of a disk.

    `position` goes on past the last block: that is where the second time begins.
    """

    seed: int
    position: int
    blocks: int

    @classmethod
    def begin(cls, blocks: int, *, seed: int | None = None) -> Self:
        """Return one that has passed over nothing; without a seed, in an order that nobody has foreseen."""
        return cls(secrets.randbelow(SEEDS) if seed is None else seed % SEEDS, 0, blocks)

    def fits(self, blocks: int) -> bool:
        """Say whether it can be one of a disk with so many blocks: it was read from a file."""
        return self.blocks == blocks and 0 <= self.position < _MAX_POSITION and 0 <= self.seed < SEEDS

    @property
    def covered(self) -> int:
        """How many of the blocks were passed over at least once."""
        return min(self.position, self.blocks)

    def passed(self, count: int) -> Self:
        """Return one that has passed over so many more."""
        return replace(self, position=self.position + count)

    def ahead(self, count: int) -> Blocks:
        """Return the next `count` blocks in the order, at most all of them and MAX_AHEAD, ascending."""
        count = min(count, self.blocks, MAX_AHEAD)
        if count <= 0:
            return NONE
        return np.sort(self._ordered(self.position % self.blocks, count))

    def _ordered(self, first: int, count: int) -> Blocks:
        stride = _stride(self.blocks)
        start = (self.seed + first * stride) % self.blocks
        # No number is too large: a stride is below 2**46, the blocks of the largest disk.
        return (start + np.arange(count, dtype=np.int64) * stride) % self.blocks


def _stride(blocks: int) -> int:
    """Return a number near the golden section of `blocks` that has no factor in common with it."""
    stride = max(1, round(blocks * _GOLDEN))
    while math.gcd(stride, blocks) != 1:
        stride -= 1
    return stride


class Shuffled(Cursor):
    """A cursor whose order is random: a Feistel network permutes the numbers below the next power of four, and one that
    lands behind the last block is permuted again until it does not.
    """

    def _ordered(self, first: int, count: int) -> Blocks:
        half = np.uint64(max(1, (max(1, self.blocks - 1).bit_length() + 1) // 2))
        numbers = (np.arange(first, first + count, dtype=np.uint64) % np.uint64(self.blocks)).astype(np.uint64)
        numbers = _permuted(numbers, self.seed, half)
        while len(outside := np.flatnonzero(numbers >= np.uint64(self.blocks))):
            numbers[outside] = _permuted(numbers[outside], self.seed, half)
        return numbers.astype(np.int64)


def _permuted(numbers: NDArray[np.uint64], seed: int, half: np.uint64) -> NDArray[np.uint64]:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = numbers >> half, numbers & mask
    for number in range(_ROUNDS):
        key = np.uint64(seed * _ROUNDS + number + 1)
        left, right = right, left ^ (_mixed(right ^ (key << np.uint64(24))) & mask)
    return (left << half) | right


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    for factor in _MIX:
        values = (values ^ (values >> np.uint64(30))) * factor
    return values ^ (values >> np.uint64(31))


def count_in_time(passed: int, spent_s: float, limit_s: float) -> int:
    """Return how many blocks to read next so that the time limit is met, 0 at its end.

    `passed` were read in `spent_s`.  The first sweep is short, and a later one no more than four times as long as all
    before it.
    """
    if spent_s >= limit_s:
        return 0
    if not passed:
        return _FIRST_TIMED
    in_time = int(passed * (limit_s - spent_s) / max(spent_s, 1e-9))
    return min(max(1, in_time), 4 * passed)


def blocks_of(size: int) -> int:
    """Return how many blocks a disk has."""
    return -(-size // BLOCK_SIZE)


def least_excluded(blocks: int, covered: int) -> int | None:
    """Return the least number of wrong blocks that a random sample without one excludes; None if it says nothing.

    `covered` of `blocks` were looked at.  Were there so many wrong ones, or more, the sample would have met one with a
    probability of CONFIDENCE at least.  1: none is wrong.
    """
    if not 0 < covered <= blocks:
        return None
    low, high = 1, blocks - covered + 1  # one more than can have been missed
    while low < high:
        wrong = (low + high) // 2
        if _probability_of_none(blocks, covered, wrong) <= 1 - CONFIDENCE:
            high = wrong
        else:
            low = wrong + 1
    return low


def _probability_of_none(blocks: int, covered: int, wrong: int) -> float:
    """Return how probable it is that a sample meets none of so many wrong blocks: C(blocks-wrong, covered) / C(blocks,
    covered).
    """
    if wrong > blocks - covered:
        return 0.0
    return math.exp(
        math.lgamma(blocks - wrong + 1)
        - math.lgamma(blocks - wrong - covered + 1)
        - math.lgamma(blocks + 1)
        + math.lgamma(blocks - covered + 1)
    )

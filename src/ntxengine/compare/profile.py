"""How much of a disk differs, and where: counted while extents pass by, which may be more than memory should hold."""

from __future__ import annotations

import numpy as np

from ntxengine.dataplane.extents import ZERO, Extents


class Profile:
    """Counts the extents of a disk of `size` bytes, whose windows are given in ascending order.

    `regions` are extents that do not touch each other, or touch and have other flags.
    """

    def __init__(self, size: int, cells: int) -> None:
        self._edges = np.linspace(0, size, cells + 1).astype(np.int64) if cells else np.zeros(1, dtype=np.int64)
        self._bytes = np.zeros(cells, dtype=np.int64)
        self._end = (-1, -1)
        self.regions = 0
        self.bytes_differ = 0
        self.bytes_zero = 0

    def add(self, window: Extents) -> None:
        """Count the extents of a window, of which there is at least one."""
        begins, lengths = window["offset"].astype(np.int64), window["length"].astype(np.int64)
        self.regions += len(window) - ((int(begins[0]), int(window["flags"][0])) == self._end)
        self._end = (int(begins[-1] + lengths[-1]), int(window["flags"][-1]))
        self.bytes_differ += int(lengths.sum())
        self.bytes_zero += int(lengths[(window["flags"] & ZERO) != 0].sum())
        if len(self._bytes):
            below = np.concatenate([[0], np.cumsum(lengths)])
            last = np.searchsorted(begins, self._edges, side="right")  # the extent that an edge is in, or behind
            within = np.clip(self._edges - begins[last - 1], 0, lengths[last - 1])
            self._bytes += np.diff(np.where(last > 0, below[last - 1] + within, 0))

    def shares(self) -> tuple[float, ...]:
        """Return the share of each cell that differs, 0..1; all of one that has no byte counts as the same."""
        lengths = np.maximum(np.diff(self._edges), 1)
        return tuple((self._bytes / lengths).tolist())

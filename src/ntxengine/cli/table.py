"""Tables as lines of text.

Not on a terminal a row is one line with full values, however long: for grep, awk and a log.  On a terminal what is too
wide gives way: names are shortened, with a mark; messages are folded.  Ids and numbers are never cut nor folded: where
there is no room even for them, each cell has a line of its own.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from ntxengine.cli.text import printable, shortened, text_width

GAP = 2
MIN_WIDTH = 10
"""Of a name or a message: below it nobody can tell what it is."""


@dataclass(frozen=True)
class Column:
    """A column of a table; numbers go to the right."""

    title: str
    right: bool = False
    shrinks: bool = False
    """A name: shortened where there is no room."""
    fold: bool = False
    """A message: broken over several lines where there is no room."""
    wide: bool = False
    """Only with `-o wide`."""

    @property
    def gives_way(self) -> bool:
        return self.shrinks or self.fold


class GrowingTable:
    """A table whose rows come in parts.  Its columns are as wide as all parts so far need: later they may get wider.

    `width` is that of the terminal; None: as wide as it gets.
    """

    def __init__(self, columns: Sequence[Column], *, width: int | None) -> None:
        self._columns = columns
        self._width = width
        self._widths = [text_width(column.title) for column in columns]
        self._has_heading = False

    def lines(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """Return the lines of a part; those of the first one begin with the heading."""
        columns, width = self._columns, self._width
        cells = [[printable(cell) for cell in row] for row in rows]
        for row in cells:
            self._widths = [max(known, text_width(cell)) for known, cell in zip(self._widths, row, strict=True)]
        widths, gap = self._widths, GAP
        if width is not None:
            gap = GAP if _total(widths, GAP) <= width else 1
            widths = _narrowed(columns, widths, gap, width)
            if _total(widths, gap) > width:
                return _one_cell_a_line(columns, cells)
        return [*self._heading(widths, gap), *(line for row in cells for line in _row(columns, row, widths, gap))]

    def _heading(self, widths: Sequence[int], gap: int) -> list[str]:
        if self._has_heading:
            return []
        self._has_heading = True
        heading = _line(self._columns, [column.title for column in self._columns], widths, gap)
        return [heading] if self._width is None else [heading, "─" * min(_total(widths, gap), self._width)]


def _total(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _narrowed(columns: Sequence[Column], widths: list[int], gap: int, width: int) -> list[int]:
    """Take what is too much from the widest that give way, no more than needed."""
    narrowed = list(widths)
    least = [max(len(column.title), MIN_WIDTH) for column in columns]
    while _total(narrowed, gap) > width:
        candidates = [i for i, column in enumerate(columns) if column.gives_way and narrowed[i] > least[i]]
        if not candidates:
            break
        narrowed[max(candidates, key=lambda i: narrowed[i])] -= 1
    return narrowed


def _one_cell_a_line(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    width = max(len(column.title) for column in columns) + GAP
    records = [
        [f"{column.title:<{width}}{cell}".rstrip() for column, cell in zip(columns, row, strict=True)] for row in rows
    ]
    return [line for record in records for line in (*record, "")]


def _row(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int], gap: int) -> list[str]:
    cells = [_cell(column, text, width) for column, text, width in zip(columns, row, widths, strict=True)]
    height = max(map(len, cells))
    return [
        _line(columns, [cell[number] if number < len(cell) else "" for cell in cells], widths, gap)
        for number in range(height)
    ]


def _cell(column: Column, text: str, width: int) -> list[str]:
    if column.fold and text_width(text) > width:
        return textwrap.wrap(text, width)
    return [shortened(text, width) if column.shrinks else text]


def _line(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int], gap: int) -> str:
    parts = []
    for column, cell, width in zip(columns, cells, widths, strict=True):
        room = " " * (width - text_width(cell))
        parts.append(room + cell if column.right else cell + room)
    return (" " * gap).join(parts).rstrip()

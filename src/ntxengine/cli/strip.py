"""A strip chart of a disk: one line of cells from its beginning to its end, each as dark as the share that differs.

scsi.0  │  ░█   ▒                    │        in ASCII:  scsi.0  |  .#   +                    |
"""

from __future__ import annotations

from collections.abc import Sequence

SHADES = " ░▒▓█"
ASCII_SHADES = " .:+#"
_EDGE, _ASCII_EDGE = "│", "|"

MIN_CELLS, MAX_CELLS = 8, 400


def cells_for(width: int, name_width: int) -> int:
    """Return how many cells there is room for on a line of `width` columns, behind a name."""
    return max(MIN_CELLS, min(MAX_CELLS, width - name_width - 4))


def strip(shares: Sequence[float], encoding: str | None) -> str:
    """Return the chart of a disk, in letters that `encoding` has.  The least that differs is seen."""
    is_plain = not _has_shades(encoding)
    shades, edge = (ASCII_SHADES, _ASCII_EDGE) if is_plain else (SHADES, _EDGE)
    return edge + "".join(shades[_shade(share, len(shades))] for share in shares) + edge


def _shade(share: float, count: int) -> int:
    """Return the shade of a share: the first is for nothing, the last for all; what lies between has the others."""
    if share <= 0:
        return 0
    if share >= 1:
        return count - 1
    return 1 + min(count - 3, int(share * (count - 2)))


def _has_shades(encoding: str | None) -> bool:
    try:
        (SHADES + _EDGE).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True

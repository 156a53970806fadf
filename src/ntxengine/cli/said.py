"""What a list shows of what was said of points: tags, holds, and which are forgotten."""

from __future__ import annotations

from collections.abc import Sequence

from ntxengine.cli.table import Column
from ntxengine.repository import Health, Hold, Point, PointRetention, hold_text
from ntxengine.units import utc_now

COLUMNS = (Column("TAGS", shrinks=True), Column("HELD", shrinks=True))
"""Behind those of a list of points, where there is anything to show."""

FORGOTTEN = "forgotten"
"""The state of a point that is."""


def said_fields(said: PointRetention) -> dict[str, object]:
    """Return what was said of a point as `--json` has it."""
    return {"tags": said.tags, "hold": hold_fields(said.hold), "forgotten_at": said.forgotten_at}


def hold_fields(hold: Hold | None) -> dict[str, object] | None:
    """Return a hold as `--json` has it, also one that is over."""
    return None if hold is None else {"until": hold.until, "reason": hold.reason}


def with_said(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], health: Health, points: Sequence[Point]
) -> tuple[list[Column], list[list[str]]]:
    """Return the columns and rows of a list of points with tags and holds, where there are any: the first cell of a
    row is the id of its point.
    """
    now = utc_now()
    cells: dict[str, list[str]] = {}
    for point in points:
        said = health.said_of(point)
        held = hold_text(said.hold) if said.hold is not None and said.is_held(now) else ""
        cells[point.id] = [" ".join(said.tags), held]
    shown = [number for number in range(len(COLUMNS)) if any(found[number] for found in cells.values())]
    none = [""] * len(COLUMNS)
    return (
        [*columns, *(COLUMNS[number] for number in shown)],
        [[*row, *(cells.get(row[0], none)[number] for number in shown)] for row in rows],
    )

"""The table of what a capture took: per disk what there was, what changed, what was sent, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ntxengine.cli.figures import bottleneck_text, shown_rate
from ntxengine.cli.output import Screen
from ntxengine.cli.table import Column
from ntxengine.cli.text import printable
from ntxengine.repository import Point
from ntxengine.units import format_size, format_time

COLUMNS = [
    Column("DISK"),
    Column("SIZE", right=True),
    Column("ALLOCATED", right=True),
    Column("CHANGED", right=True),
    Column("SENT", right=True),
    Column("ZERO", right=True),
    Column("SAVED", right=True),
    Column("RATE", right=True),
]


def show_report(point: Point, screen: Screen) -> None:
    """Print what is to be said about a point: one heading, one row per disk."""
    screen.line(f"{point.id}  {point.kind} of {printable(point.vm_name)}, {format_time(point.created_at)}")
    screen.line(f"  consistency: {consistency(point)}")
    screen.line(f"  changes found by: {tracking(point)}")
    disks = disk_reports(point)
    rows = [_row(disk.label, disk.size, disks.get(disk.disk_id, {})) for disk in point.disks]
    screen.table(COLUMNS, rows)
    for disk in point.disks:
        if time := _time(disks.get(disk.disk_id, {})):
            screen.line(f"  {disk.label}: {time}")


def disk_reports(point: Point) -> Mapping[str, Mapping[str, Any]]:
    """Return the numbers per disk id that the capture left in the point; empty if it left none."""
    disks = point.report.get("disks")
    return disks if isinstance(disks, Mapping) else {}


def sent(point: Point) -> int | None:
    """Return the bytes that the capture sent, None if the point does not say."""
    numbers = [report.get("bytes_sent") for report in disk_reports(point).values()]
    known = [number for number in numbers if isinstance(number, int)]
    return sum(known) if known else None


def consistency(point: Point) -> str:
    """Return what was obtained, and why it is not application consistency."""
    reason = point.report.get("consistency_reason")
    return f"{point.consistency_obtained} ({reason})" if reason else point.consistency_obtained


def tracking(point: Point) -> str:
    """Return how changes were found, and why not better."""
    return f"{point.tracking} ({point.tracking_reason})" if point.tracking_reason else point.tracking


def _row(label: str, size: int, report: Mapping[str, Any]) -> list[str]:
    zero = [report.get(name) for name in ("bytes_skipped", "bytes_zeroed")]
    percent = report.get("reduction_percent")
    return [
        label,
        format_size(size),
        *(_size(report.get(name)) for name in ("bytes_allocated", "bytes_changed", "bytes_sent")),
        _size(sum(amount for amount in zero if isinstance(amount, int))) if report else "?",
        f"{percent:.1f}%" if isinstance(percent, int | float) else "?",
        shown_rate(report.get("bytes_read"), report.get("seconds")),
    ]


def _size(value: object) -> str:
    return format_size(value) if isinstance(value, int) else "?"


def _time(report: Mapping[str, Any]) -> str:
    """Return the stages that took time, longest first, and what the copy waited for; "" if nothing did."""
    stages = report.get("stages_s")
    if not isinstance(stages, Mapping):
        return ""
    longest = sorted(((float(value), str(name)) for name, value in stages.items()), reverse=True)
    shown = [f"{name} {seconds:.1f} s" for seconds, name in longest if seconds >= 0.05]
    text = ", ".join(shown)
    bottleneck = bottleneck_text(
        *(report.get(name) for name in ("bottleneck", "bottleneck_share")),
        bytes_read=report.get("bytes_read"),
        seconds=report.get("seconds"),
    )
    return "; ".join(filter(None, (text, bottleneck)))

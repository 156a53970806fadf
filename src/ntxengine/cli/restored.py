"""What `ntx restore` prints of what it did."""

from __future__ import annotations

from pathlib import Path

from ntxengine.cli.audited import distrust_fields
from ntxengine.cli.errors import SomeFailed
from ntxengine.cli.figures import UNKNOWN
from ntxengine.cli.output import Screen
from ntxengine.cli.table import Column
from ntxengine.cli.text import elapsed, plural, printable
from ntxengine.repository import Marks
from ntxengine.restore import MOST_RANGES, RestoredDisk, RestoreReport
from ntxengine.units import format_size

COLUMNS = [
    Column("DISK"),
    Column("TARGET", shrinks=True),
    Column("SIZE", right=True),
    Column("ALLOCATED", right=True),
    Column("COMPARED"),
    Column("TIME", right=True),
    Column("DISK UUID", wide=True),
]


COLUMNS_IN_PLACE = [
    *COLUMNS[:3],
    Column("WRITTEN", right=True),
    Column("LEFT", right=True),
    *COLUMNS[4:],
]
"""The same, where what was there was compared and mostly left."""


_SHOWN_RANGES = 16

_REASONS = {
    "unreadable": "cannot be read",
    "differs": "is not what was captured",
}


def show_restored(report: RestoreReport, screen: Screen) -> None:
    """Print what was restored."""
    if screen.as_json:
        screen.result(_fields(report))
        return
    is_in_place = any(each.bytes_written is not None for each in report.disks)
    screen.table(COLUMNS_IN_PLACE if is_in_place else COLUMNS, [_row(each) for each in report.disks])
    if report.config is not None:
        screen.note(f"the VM's configuration: {printable(from_here(report.config))}")
    _show_losses(report, screen)
    if report.left_out:
        labels = ", ".join(disk.label for disk in report.left_out)
        screen.note(f"not restored, as nobody asked for them: {printable(labels)}")


def _show_losses(report: RestoreReport, screen: Screen) -> None:
    """List what is not what was captured: the first ranges of each disk."""
    if report.problem:
        screen.warning(f"the record of the point is damaged: {report.problem}")
    for failed in report.failed:
        screen.warning(f"disk {failed.disk.label} is not restored: {failed.problem}")
    for each in report.disks:
        if each.problem:
            screen.warning(f"disk {each.disk.label}: {each.problem}")
        if not each.bad_ranges_total:
            continue
        screen.line(f"of disk {each.disk.label} {_amount(each)} not what was captured:")
        for bad in each.bad_ranges[:_SHOWN_RANGES]:
            screen.line(f"  offset {bad.offset} length {bad.length}: {_REASONS[bad.reason]}")
        if each.bad_ranges_total > _SHOWN_RANGES:
            screen.line(f"  and {each.bad_ranges_total - _SHOWN_RANGES} more: --json lists {MOST_RANGES} at most")


def _amount(each: RestoredDisk) -> str:
    ranges = plural(each.bad_ranges_total, "range")
    return f"{ranges}, {format_size(each.bad_bytes)}, {'is' if each.bad_ranges_total == 1 else 'are'}"


def raise_if_lossy(report: RestoreReport) -> None:
    """Say that not all of it is as captured, in one line.  Errors: SomeFailed."""
    if report.is_whole:
        return
    lacks = [f"disk {failed.disk.label} is not restored" for failed in report.failed]
    for each in report.disks:
        if each.bad_ranges_total:
            lacks.append(f"of disk {each.disk.label} {_amount(each)} bad")
        if not each.is_checked:
            lacks.append(f"of disk {each.disk.label} nothing could be compared")
    problems = [each.problem for each in report.disks if each.problem and each.is_checked]
    lacks += [report.problem] if report.problem else problems[:1]
    raise SomeFailed(
        f"point {report.point.id}: what is good is restored, the rest is not: {'; '.join(lacks)}; try another "
        f"point for that"
    )


def _row(each: RestoredDisk) -> list[str]:
    in_directory = each.path is not None and each.target == str(each.path)
    return [
        each.disk.label,
        from_here(each.path) if in_directory and each.path is not None else each.target,
        format_size(each.size),
        *_amounts(each),
        "read back" if each.is_verified else "as written" if each.is_checked else "no",
        elapsed(each.seconds),
        each.disk.disk_id,
    ]


def _amounts(each: RestoredDisk) -> list[str]:
    if each.bytes_written is not None and each.bytes_left is not None:
        return [format_size(each.bytes_written), format_size(each.bytes_left)]
    return [UNKNOWN if each.bytes_allocated is None else format_size(each.bytes_allocated)]


def from_here(path: Path) -> str:
    """Return the way to a file from where the person stands, if it is not far."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _fields(report: RestoreReport) -> dict[str, object]:
    return {
        "point_id": report.point.id,
        "vm_id": report.point.vm_id,
        "vm_name": report.point.vm_name,
        "format": report.format,
        "seconds": round(report.seconds, 3),
        "config": report.config,
        "config_problem": report.config_problem,
        **marks_fields(report.marks),
        "disks": [_disk_fields(each) for each in report.disks],
        "problem": report.problem,
        "failed": [
            {"disk_id": each.disk.disk_id, "label": each.disk.label, "target": each.target, "problem": each.problem}
            for each in report.failed
        ],
        "left_out": [{"disk_id": disk.disk_id, "label": disk.label} for disk in report.left_out],
    }


def _disk_fields(each: RestoredDisk) -> dict[str, object]:
    return {
        "disk_id": each.disk.disk_id,
        "label": each.disk.label,
        "target": each.target,
        "kind": each.kind,
        "format": each.format,
        "path": each.path,
        "size": each.size,
        "bytes_allocated": each.bytes_allocated,
        "bytes_written": each.bytes_written,
        "bytes_left": each.bytes_left,
        "checked": each.is_checked,
        "problem": each.problem,
        "bad_bytes": each.bad_bytes,
        "bad_ranges_total": each.bad_ranges_total,
        "bad_ranges": [vars(bad) for bad in each.bad_ranges],
        "verified": each.is_verified,
        "seconds": round(each.seconds, 3),
    }


def marks_fields(marks: Marks) -> dict[str, object]:
    """Return what is known of changes that these disks may lack."""
    return {"tracking_distrusted": marks.is_distrusted, "distrusted_disks": distrust_fields(marks.distrusted)}

"""The table of what a capture took: per disk what there was, what changed, what was sent, and where the time went."""

from __future__ import annotations

from collections.abc import Sequence

from ntxengine.attach import Locality, title_of
from ntxengine.cli.audited import report_text
from ntxengine.cli.figures import bottleneck_text, packed_text, shown_rate
from ntxengine.cli.output import Screen
from ntxengine.cli.table import Column
from ntxengine.cli.text import plural, printable
from ntxengine.repository import CaptureReport, DiskReport, Point
from ntxengine.units import format_size, format_time

LOCALITIES = {
    "local": "local: on the host of the VM",
    "remote": "remote: on another host,",
    "unknown": "local or remote: unknown",
}

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
    if point.report.resumed:
        times = plural(point.report.resumed, "interruption")
        screen.line(f"  after {times}: holds the VM as it was frozen at {format_time(point.created_at)}")
    if point.report.quiescing:
        screen.line(f"  made consistent by: {printable(point.report.quiescing)}")
    screen.line(f"  changes found by: {tracking(point)}")
    reports = [(disk, point.report.disks.get(disk.disk_id, DiskReport())) for disk in point.disks]
    if point.report.source:
        read = [Locality(each.locality, each.read_host or "") for _, each in reports if each.locality is not None]
        screen.line(f"  {read_text(point.report.source, read)}")
    screen.table(COLUMNS, [_row(disk.label, disk.size, report) for disk, report in reports])
    for disk, report in reports:
        if lies := storage_text(report.container_name, report.tier):
            screen.line(f"  {disk.label}: on {printable(lies)}")
        if time := _time(report):
            screen.line(f"  {disk.label}: {time}")
        if packed := packed_text(report.bytes_sent or 0, report.bytes_stored or 0, report.packing_seconds or 0.0):
            screen.line(f"  {disk.label}: stored {packed} ({report.compression})")
        if interruptions := _interruptions(report):
            screen.line(f"  {disk.label}: {interruptions}")
        if audit := report_text(report.audit):
            screen.line(f"  {disk.label}: {audit}")


def capture_report_fields(report: CaptureReport) -> dict[str, object]:
    """Return a report as `--json` has it: what is said, with the disks as a list."""
    disks = [{"disk_id": disk_id, **_said(disk)} for disk_id, disk in report.disks.items()]
    return {**_said(report), "disks": disks}


def _said(report: CaptureReport | DiskReport) -> dict[str, object]:
    return {name: value for name, value in vars(report).items() if value is not None or name == "trusted_point_id"}


def consistency(point: Point) -> str:
    """Return what was obtained, and why it is not application consistency."""
    reason = point.report.consistency_reason
    return f"{point.consistency_obtained} ({reason})" if reason else point.consistency_obtained


def tracking(point: Point) -> str:
    """Return how changes were found, and why not better."""
    return f"{point.tracking} ({point.tracking_reason})" if point.tracking_reason else point.tracking


def read_text(source: str, localities: Sequence[Locality]) -> str:
    """Return which way leads to the bytes, and whether it begins on the host of the VM."""
    where = ", ".join(sorted({f"{LOCALITIES[each.kind]}{f' {each.host}' if each.host else ''}" for each in localities}))
    return printable(f"read through: {title_of(source)}{f' ({where})' if where else ''}")


def storage_text(container: str | None, tier: str | None) -> str:
    """Return where a disk lies, "" if nothing is told."""
    return ", ".join([*([f"container {container}"] if container else []), *([f"tier {tier}"] if tier else [])])


def _row(label: str, size: int, report: DiskReport) -> list[str]:
    zero = None if report == DiskReport() else (report.bytes_skipped or 0) + (report.bytes_zeroed or 0)
    percent = report.reduction_percent
    return [
        label,
        format_size(size),
        *map(_size, (report.bytes_allocated, report.bytes_changed, report.bytes_sent, zero)),
        "?" if percent is None else f"{percent:.1f}%",
        shown_rate(report.bytes_read, report.seconds),
    ]


def _interruptions(report: DiskReport) -> str:
    """Return how the copy went on, and what that cost; "" of one that ran from its beginning to its end."""
    went_on = []
    if report.resumed_from:
        went_on.append(f"at {format_size(report.resumed_from)}, where the interrupted capture had got to")
    if report.reconnects:
        went_on.append(f"after {plural(report.reconnects, 'lost connection')}")
    if not went_on:
        return ""
    text = f"went on {' and '.join(went_on)}; {format_size(report.bytes_repeated or 0)} copied once more"
    if report.checkpoints:
        share = 100 * (report.checkpoint_share or 0)
        text += f"; {plural(report.checkpoints, 'checkpoint')} took {share:.1f} % of the time"
    return text


def _size(value: int | None) -> str:
    return "?" if value is None else format_size(value)


def _time(report: DiskReport) -> str:
    """Return the stages that took time, longest first, and what the copy waited for; "" if nothing did."""
    if report.stages_s is None:
        return ""
    longest = sorted(((seconds, name) for name, seconds in report.stages_s.items()), reverse=True)
    shown = [f"{name} {seconds:.1f} s" for seconds, name in longest if seconds >= 0.05]
    text = ", ".join(shown)
    bottleneck = bottleneck_text(
        report.bottleneck,
        report.bottleneck_share,
        bytes_read=report.bytes_read,
        seconds=report.seconds,
    )
    return "; ".join(filter(None, (text, bottleneck)))

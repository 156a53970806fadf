"""What an export would do, and what it did: for a person, and for a program."""

from __future__ import annotations

from typing import Any

from ntxengine.cli.output import Screen
from ntxengine.cli.table import Column
from ntxengine.cli.text import printable
from ntxengine.export.options import ExportOptions, PortOptions
from ntxengine.export.plan import ExportPlan
from ntxengine.export.workflow import Exported
from ntxengine.units import format_size, format_time

_COLUMNS = [Column("DISK"), Column("SIZE"), Column("NAMED"), Column("REASON", shrinks=True)]


def plan_fields(plan: ExportPlan, options: ExportOptions) -> dict[str, object]:
    """Return a plan as `--json` has it."""
    capture = plan.capture
    return {
        "vm_id": capture.vm.id,
        "vm_name": capture.vm.name,
        "reference_recovery_point_id": plan.reference.id or None,
        "reference_reason": plan.reference.lost,
        "consistency": capture.consistency,
        "consistency_reason": capture.consistency_reason,
        "source": capture.source,
        "warnings": list(capture.warnings),
        "excluded": list(capture.vm.excluded),
        "reached_by": _way(options),
        "notify": options.notify.url,
        "time_limit_s": options.time_limit_s,
        "disks": [
            {
                "disk_id": disk.id,
                "label": disk.label,
                "size": disk.size,
                "since": None if (why := plan.reference.why_not(disk)) else plan.reference.id,
                "reason": why,
            }
            for disk in plan.disks
        ],
    }


def show_plan(plan: ExportPlan, options: ExportOptions, screen: Screen) -> None:
    """Show a plan to a person."""
    capture = plan.capture
    screen.pairs(
        [
            ("VM", f"{printable(capture.vm.name)} ({capture.vm.id})"),
            ("consistency", _with_reason(capture.consistency, capture.consistency_reason)),
            ("compared with", plan.reference.id or f"nothing: {plan.reference.lost}"),
            ("read by", capture.source),
            ("reached by", _way(options)),
            ("told", options.notify.url),
        ]
    )
    rows = []
    for disk in plan.disks:
        why = plan.reference.why_not(disk)
        rows.append([disk.label, format_size(disk.size), "all that is allocated" if why else "what changed", why])
    screen.table(_COLUMNS, rows)
    for warning in capture.warnings:
        screen.warning(warning)


def exported_fields(exported: Exported) -> dict[str, object]:
    """Return an export as `--json` has it."""
    return {
        "export_id": exported.export_id,
        "vm_id": exported.vm.id,
        "vm_name": exported.vm.name,
        "result": "success",
        "recovery_point_id": exported.recovery_point_id,
        "expires_at": exported.expires_at,
        "reference_recovery_point_id": exported.reference_id or None,
        "reference_reason": exported.reference_reason,
        "consistency": exported.consistency,
        "consistency_reason": exported.consistency_reason,
        "message": exported.message,
        "excluded": list(exported.vm.excluded),
        "warnings": list(exported.warnings),
        "seconds": exported.seconds,
        "disks": list(exported.disks),
    }


def show_exported(exported: Exported, screen: Screen) -> None:
    """Show an export to a person."""
    screen.pairs(
        [
            ("VM", f"{printable(exported.vm.name)} ({exported.vm.id})"),
            ("recovery point", f"{exported.recovery_point_id}, kept until {format_time(exported.expires_at)}"),
            ("consistency", _with_reason(exported.consistency, exported.consistency_reason)),
            ("compared with", exported.reference_id or f"nothing: {exported.reference_reason}"),
        ]
    )
    screen.table(
        _COLUMNS,
        [[disk["label"], format_size(disk["size"]), _named(disk), disk["reason"]] for disk in exported.disks],
    )


def _named(disk: dict[str, Any]) -> str:
    changed = disk["changed"]
    if changed == "full":
        return "all of it"
    zeroed = f", {format_size(changed['bytes_zero'])} of zeros" if changed["bytes_zero"] else ""
    return f"{format_size(changed['bytes_data'])} of data{zeroed}"


def _way(options: ExportOptions) -> str:
    way = options.way
    if isinstance(way, PortOptions):
        return f"{way.advertise} ports {way.ports[0]}-{way.ports[1]}, TLS with client certificates"
    return f"sockets in {way.folder} at {way.gateway.login}, by ssh"


def _with_reason(what: str, reason: str) -> str:
    return f"{what} ({reason})" if reason else what

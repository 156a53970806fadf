"""What a report and a list say of an audit, and of the points that it has shown to lack changes."""

from __future__ import annotations

from collections.abc import Iterable

from ntxengine.cli.amounts import percent_text
from ntxengine.repository import Distrust, StoredAudit

DISTRUSTED = "tracking distrusted"
"""What a point is called whose changes were found by a tracker that an audit has shown to be wrong."""


def report_text(audit: StoredAudit | None) -> str:
    """Return what an audit of a disk found, for a person; "" if there was none."""
    if audit is None or not (audit.blocks_sampled or audit.problem):
        return ""
    if audit.blocks_wrong:
        found = f"{audit.blocks_wrong} of {audit.blocks_sampled} blocks were NOT as reported: all was read"
    else:
        covered = percent_text(min(audit.position, audit.blocks), audit.blocks)
        found = f"{audit.blocks_sampled} blocks were as reported; {covered} covered since all was read"
    return f"audit: {found}" + (f"; not all could be read: {audit.problem}" if audit.problem else "")


def distrust_text(distrusted: Iterable[Distrust]) -> str:
    """Say which disks of a point may lack changes, and who found it; "" if none."""
    found = [f"{each.label} ({each.found_by})" for each in distrusted]
    return f"{DISTRUSTED}: an audit found that changes may be missing: {', '.join(found)}" if found else ""


def distrust_fields(distrusted: Iterable[Distrust]) -> list[dict[str, object]]:
    """Return the same as `--json` has it."""
    return [
        {
            "disk_id": each.disk_id,
            "label": each.label,
            "found_by_point_id": each.found_by,
            "found_at": each.found_at,
            "offsets": each.offsets,
        }
        for each in distrusted
    ]

"""The notification: docs/schema/export-notification.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from ntxengine.capture.freeze import Frozen
from ntxengine.changes import Changes
from ntxengine.export.plan import ExportPlan
from ntxengine.prism.models import Disk
from ntxengine.units import format_time

VERSION = 1


@dataclass(frozen=True)
class ExportedDisk:
    """A disk, what of it changed, and where it can be read; `since` is the recovery point that it is compared with,
    None if all that is allocated counts as changed."""

    disk: Disk
    changes: Changes
    since: str | None
    uri: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether nobody can tell which parts need not be read."""
        return self.changes.tracking == "full"

    def fields(self) -> dict[str, Any]:
        """Return what is said of it, but for where it is, and the pages."""
        return {
            "label": self.disk.label,
            "size": self.changes.size,
            "since": self.since,
            "reason": self.changes.reason,
            "changed": "full"
            if self.is_whole
            else {
                "bytes_data": self.changes.bytes_data,
                "bytes_zero": self.changes.bytes_zero,
                "regions": self.changes.extents.count,
            },
        }


def notification(
    plan: ExportPlan,
    frozen: Frozen,
    disks: Sequence[ExportedDisk],
    *,
    export_id: str,
    expires_at: datetime,
    ends_at: datetime,
    base: str,
    done: str,
    pages: Mapping[str, Sequence[str]],
) -> bytes:
    """Return the notification as JSON.  `pages` are the paths of the links of each disk, by its id."""
    vm, point = plan.capture.vm, frozen.point
    document = {
        "version": VERSION,
        "export_id": export_id,
        "vm": {"id": vm.id, "name": vm.name},
        "recovery_point": {
            "id": point.id,
            "created_at": None if point.created_at is None else format_time(point.created_at),
            "expires_at": format_time(expires_at),
        },
        "reference": {"id": plan.reference.id} if plan.reference.id else None,
        "reference_reason": plan.reference.lost,
        "consistency": {"obtained": point.consistency, "reason": frozen.consistency_reason},
        "disks": [_disk(each, base, pages[each.disk.id]) for each in disks],
        "excluded": list(plan.capture.vm.excluded),
        "done": base + done,
        "ends_at": format_time(ends_at),
    }
    return msgspec.json.encode(document)


def _disk(disk: ExportedDisk, base: str, pages: Sequence[str]) -> dict[str, Any]:
    fields = {"id": disk.disk.id, **disk.fields(), "uri": disk.uri}
    if not disk.is_whole:
        fields["changed"]["pages"] = [base + path for path in pages]
    return fields

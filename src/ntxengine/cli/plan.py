"""What a capture would make: for a person, and for a program."""

from __future__ import annotations

from ntxengine.capture import CapturePlan, DiskStorage
from ntxengine.capture.plan import first_method
from ntxengine.cli import audit
from ntxengine.cli.output import Screen
from ntxengine.cli.report import read_text, storage_text
from ntxengine.cli.text import printable
from ntxengine.units import format_size

WAYS = {
    "allocated": "all that is allocated",
    "changed-regions": "what changed",
    "lost": "no changed regions, so --on-lost-tracking decides",
    "distrusted": "the cluster is not asked what changed: all of it is read",
}
"""What a plan calls the way to find out what to read, for people."""


def plan_fields(plan: CapturePlan) -> dict[str, object]:
    """Return a plan as `--json` has it."""
    return {
        "vm_id": plan.vm.id,
        "vm_name": plan.vm.name,
        "parent_id": None if plan.parent is None else plan.parent.id,
        "full_reason": plan.full_reason,
        "reference_recovery_point_id": plan.reference_id or None,
        "lost_tracking": plan.lost,
        "consistency": plan.consistency,
        "consistency_reason": plan.consistency_reason,
        "vss": plan.vss,
        "quiescing": plan.quiescing,
        "cluster": {
            "cluster_id": plan.cluster.id,
            "cluster_name": plan.cluster.name,
            "aos_version": str(plan.cluster.version) if plan.cluster.version.numbers else None,
            "aos_version_text": plan.cluster.version.text,
        },
        "way": plan.way,
        "source": plan.source,
        "locality": plan.locality.kind,
        "read_host": plan.locality.host,
        "notice": plan.notice,
        "warnings": list(plan.warnings),
        "removed": list(plan.removed),
        "excluded": list(plan.vm.excluded),
        "disks": [
            {
                "disk_id": each.disk.id,
                "label": each.disk.label,
                "size": each.disk.size,
                "way": first_method(each),
                "reason": each.lost,
                "bytes_to_read_at_most": each.disk.size,
                "bytes_estimated": each.bytes_estimated,
                **storage_fields(each.storage),
                "audit": audit.plan_fields(each),
            }
            for each in plan.disks
        ],
    }


def storage_fields(storage: DiskStorage) -> dict[str, object]:
    """Return where a disk lies as `--json` has it: null is what Prism does not say."""
    container = storage.container
    return {
        "container_name": container.name or None,
        "container_compressed": container.is_compressed,
        "container_dedup": container.has_dedup,
        "container_encrypted": container.is_encrypted,
        "tier": None if storage.tier is None else storage.tier.name,
    }


def _storage_text(storage: DiskStorage) -> str:
    """Return where a disk lies, for people; "" if nothing is told."""
    container = storage.container
    traits = {
        "compressed": container.is_compressed,
        "deduplicated": container.has_dedup,
        "encrypted": container.is_encrypted,
    }
    told = ", ".join(name for name, is_so in traits.items() if is_so)
    name = f"{container.name} ({told})" if container.name and told else container.name
    return storage_text(name, storage.tier and storage.tier.name)


def show_plan(plan: CapturePlan, screen: Screen) -> None:
    """Say what a capture would make."""
    kind = "a full" if plan.parent is None else f"an incremental (after {plan.parent.id})"
    screen.line(f"would make {kind} point of {printable(plan.vm.name)} ({plan.vm.id}), {plan.consistency}-consistent")
    screen.line(f"  by {printable(plan.way)}, AOS {printable(str(plan.cluster.version))}")
    screen.line(f"  {read_text(plan.source, [plan.locality])}")
    for text in filter(None, (plan.notice, *plan.warnings)):
        screen.line(f"  {printable(text)}")
    if plan.consistency_reason:
        screen.line(f"  not application-consistent: {printable(plan.consistency_reason)}")
    if plan.quiescing:
        screen.line(f"  made consistent by: {printable(plan.quiescing)}")
    if plan.full_reason:
        screen.line(f"  full although there are points: {printable(plan.full_reason)}")
    for each in plan.disks:
        reason = f": {printable(each.lost)}" if each.lost not in ("", plan.full_reason) else ""
        guess = "" if each.bytes_estimated is None else f", about {format_size(each.bytes_estimated)}"
        way = WAYS[first_method(each)]
        screen.line(f"  {each.disk.label}  {format_size(each.disk.size)}  {way}{guess}{reason}{audit.plan_text(each)}")
        if lies := _storage_text(each.storage):
            screen.line(f"    on {printable(lies)}")
    for name in plan.removed:
        screen.line(f"  {printable(name)}  the VM has it no more")
    for name in plan.vm.excluded:
        why = "it is no disk of this VM" if name in plan.hot_added else "a recovery point does not hold it"
        screen.line(f"  {printable(name)}  left out{'' if name in plan.groups_left_out else f': {why}'}")

"""What a cycle is about to do, as it is said before, and what it made, as it is committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ntxengine.capture.freeze import Frozen
from ntxengine.replicate.disk import DiskResult
from ntxengine.replicate.history import with_history
from ntxengine.replicate.options import ReplicateOptions
from ntxengine.replicate.plan import ReplicaPlan
from ntxengine.replicate.state import (
    INTENT_FORMAT,
    INTENT_VERSION,
    REPLICA_FORMAT,
    REPLICA_VERSION,
    Intent,
    Replica,
    StoredFigures,
    StoredVerified,
)
from ntxengine.replicate.targets.base import Finished, Target
from ntxengine.units import utc_now

MOST_DEAD = 100
"""Dead cycles in a row whose records are remembered: what an older one left is read as a whole."""


@dataclass(frozen=True)
class Made:
    """Of a cycle: where it wrote, the record of its recovery point, when it began, how long it took, its options."""

    target: Target
    record_id: str
    began_at: datetime
    took_s: float
    options: ReplicateOptions


def intent_of(plan: ReplicaPlan, frozen: Frozen, target: Target, record_id: str, began_at: datetime) -> Intent:
    """Return the intent of a cycle, before anything is said of disks."""
    return Intent(
        format=INTENT_FORMAT,
        version=INTENT_VERSION,
        id=target.id,
        vm_id=plan.named.vm_id,
        vm_name=plan.named.vm_name,
        target=target.text,
        name=plan.named.name,
        form=target.form,
        generation=plan.generation,
        began_at=began_at,
        recovery_point_id=frozen.point.id,
        disks=(),
        record_ids=(record_id, *(plan.dead.record_ids[:MOST_DEAD] if plan.dead is not None else ())),
    )


def generation_of(
    plan: ReplicaPlan, frozen: Frozen, results: Sequence[DiskResult], finished: Finished, made: Made
) -> Replica:
    """Return what is to be committed."""
    now = utc_now()
    frozen_at = _latest(frozen.point.created_at, made.began_at)
    blocks = sum(each.blocks_verified for each in results)
    verified = StoredVerified(now, plan.generation, blocks, is_whole=False) if blocks else None
    before = plan.replica
    replica = Replica(
        format=REPLICA_FORMAT,
        version=REPLICA_VERSION,
        id=made.target.id,
        vm_id=plan.named.vm_id,
        vm_name=plan.named.vm_name,
        target=made.target.text,
        name=plan.named.name,
        form=made.target.form,
        generation=plan.generation,
        frozen_at=frozen_at,
        committed_at=now,
        record_id=made.record_id,
        recovery_point_id=frozen.point.id,
        consistency=frozen.point.consistency,
        disks=tuple(each.stored for each in results),
        renames=(*(each.kept.rename for each in results if each.kept and each.kept.rename), *finished.renames),
        figures=_figures(results, made.took_s),
        verified=verified or (None if before is None else before.verified),
        last_whole_check=None if before is None else before.last_whole_check,
        definition=finished.definition,
        not_carried_over=finished.not_carried_over,
        cut_over_at=now if made.options.cuts_over else None,
    )
    history = made.target.options.history
    if before is not None and before.history and made.options.keeps_history:
        history = max(history, len(before.history) + 1)
    replica = with_history(replica, before, history)
    return replace(replica, removals=_removals(replica, plan, made.target))


def _removals(replica: Replica, plan: ReplicaPlan, target: Target) -> tuple[str, ...]:
    """Return the files that there were, or may be of a cycle that is dead, and that the generation does not have."""
    had = set() if plan.replica is None else target.files_of(plan.replica)
    if had and plan.dead is not None:
        had |= {name for disk in plan.dead.disks for name in disk.names}
    return tuple(sorted(had - target.files_of(replica)))


def _latest(said: datetime | None, began: datetime) -> datetime:
    """Return when the VM was frozen: what the cluster says, unless its clock is wrong enough to say the future."""
    return began if said is None or said > utc_now() else said


def _figures(results: Sequence[DiskResult], took_s: float) -> StoredFigures:
    reports = [each.report for each in results if each.report is not None]
    return StoredFigures(
        bytes_changed=sum(each.bytes_changed for each in results),
        bytes_read=sum(report.bytes_read for report in reports),
        bytes_written=sum(report.bytes_sent for report in reports),
        bytes_zeroed=sum(report.bytes_zeroed for report in reports),
        seconds=round(took_s, 3),
        tracking={each.stored.label: each.tracking for each in results},
    )

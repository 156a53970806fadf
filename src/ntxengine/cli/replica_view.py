"""What a cycle would do, what it did, and how far replicas are behind: for a person, and for a program."""

from __future__ import annotations

from datetime import datetime, timedelta

from ntxengine.cli.figures import UNKNOWN
from ntxengine.cli.output import Screen
from ntxengine.cli.table import Column
from ntxengine.cli.text import printable
from ntxengine.replicate.cycle import Cycle
from ntxengine.replicate.plan import ReplicaPlan
from ntxengine.replicate.state import Replica, StoredVerified
from ntxengine.replicate.status import ReplicaStatus
from ntxengine.replicate.targets import Target
from ntxengine.units import format_size, format_time, utc_now

_DISKS = [Column("DISK"), Column("SIZE", right=True), Column("FOUND BY"), Column("FILE", shrinks=True)]
_PLANNED = [Column("DISK"), Column("SIZE", right=True), Column("READ"), Column("REASON", shrinks=True)]
_REPLICAS = [
    Column("VM"),
    Column("TARGET", shrinks=True),
    Column("GENERATION", right=True),
    Column("STATE", fold=True),
    Column("LAG", right=True),
    Column("BEHIND", right=True),
    Column("VERIFIED"),
    Column("REPLICA", wide=True),
    Column("VM UUID", wide=True),
]


# ----------------------------------------------------------------------------------------------------- one cycle


def plan_fields(plan: ReplicaPlan, target: Target) -> dict[str, object]:
    """Return a plan as `--json` has it."""
    capture = plan.capture
    return {
        "vm_id": capture.vm.id,
        "vm_name": capture.vm.name,
        "replica_id": target.id,
        "target": target.text,
        "format": target.form,
        "name": plan.named.name,
        "generation": plan.generation,
        "between": plan.dead is not None and not plan.dead.keeps,
        "reference_recovery_point_id": plan.reference.id or None,
        "reference_reason": plan.reference.lost,
        "consistency": capture.consistency,
        "consistency_reason": capture.consistency_reason,
        "source": capture.source,
        "warnings": list(plan.remarks),
        "excluded": list(capture.vm.excluded),
        "disks": [
            {
                "disk_id": each.disk.id,
                "label": each.disk.label,
                "size": each.disk.size,
                "incremental": plan.before(each.disk.id) is not None,
                "reason": plan.reference.why_not(each.disk),
            }
            for each in capture.disks
        ],
    }


def show_plan(plan: ReplicaPlan, target: Target, screen: Screen) -> None:
    """Show a plan to a person."""
    capture = plan.capture
    screen.pairs(
        [
            ("VM", f"{printable(capture.vm.name)} ({capture.vm.id})"),
            ("target", f"{target.text} ({target.form}), as {plan.named.name}"),
            ("generation", str(plan.generation)),
            ("consistency", _with_reason(capture.consistency, capture.consistency_reason)),
            ("compared with", plan.reference.id or f"nothing: {plan.reference.lost}"),
            ("read by", capture.source),
        ]
    )
    rows = []
    for each in capture.disks:
        why = plan.reference.why_not(each.disk)
        read = "all that is allocated" if plan.before(each.disk.id) is None else "all of it" if why else "what changed"
        rows.append([each.disk.label, format_size(each.disk.size), read, why])
    screen.table(_PLANNED, rows)
    for remark in plan.remarks:
        screen.warning(remark)


def replica_fields(replica: Replica) -> dict[str, object]:
    """Return a generation as `--json` has it."""
    figures = replica.figures
    return {
        "vm_id": replica.vm_id,
        "vm_name": replica.vm_name,
        "replica_id": replica.id,
        "target": replica.target,
        "format": replica.form,
        "name": replica.name,
        "generation": replica.generation,
        "frozen_at": replica.frozen_at,
        "committed_at": replica.committed_at,
        "recovery_point_id": replica.recovery_point_id,
        "consistency": replica.consistency,
        "bytes_changed": figures.bytes_changed,
        "bytes_read": figures.bytes_read,
        "bytes_written": figures.bytes_written,
        "bytes_zeroed": figures.bytes_zeroed,
        "seconds": figures.seconds,
        "verified": _verified_fields(replica.verified),
        "last_whole_check": _verified_fields(replica.last_whole_check),
        "definition": replica.definition or None,
        "cut_over_at": replica.cut_over_at,
        "not_carried_over": list(replica.not_carried_over),
        "history": [
            {
                "generation": each.generation,
                "frozen_at": each.frozen_at,
                "files": [chain[0] for chain in each.disks.values()],
            }
            for each in replica.history
        ],
        "disks": [
            {
                "disk_id": disk.disk_id,
                "label": disk.label,
                "size": disk.size,
                "file": disk.files[0].name,
                "files": [image.name for image in disk.files],
                "digest": disk.digest,
                "tracking": figures.tracking.get(disk.label),
                "doubted": disk.is_doubted,
            }
            for disk in replica.disks
        ],
    }


def cycle_fields(cycle: Cycle) -> dict[str, object]:
    """Return a cycle as `--json` has it."""
    return {
        **replica_fields(cycle.replica),
        "reference_recovery_point_id": cycle.reference_id or None,
        "reference_reason": cycle.reference_reason,
        "consistency_reason": cycle.consistency_reason,
        "warnings": list(cycle.warnings),
    }


def show_cycle(cycle: Cycle, screen: Screen) -> None:
    """Show a cycle to a person."""
    replica = cycle.replica
    screen.pairs(
        [
            ("VM", f"{printable(replica.vm_name)} ({replica.vm_id})"),
            ("target", f"{replica.target}, as {replica.name}"),
            ("generation", f"{replica.generation}, as it was at {format_time(replica.frozen_at)}"),
            ("consistency", _with_reason(replica.consistency, cycle.consistency_reason)),
            ("compared with", cycle.reference_id or f"nothing: {cycle.reference_reason}"),
            ("written", _amounts(replica)),
            ("machine", replica.definition or "not defined"),
        ]
    )
    screen.table(
        _DISKS,
        [
            [disk.label, format_size(disk.size), replica.figures.tracking.get(disk.label, ""), disk.files[0].name]
            for disk in replica.disks
        ],
    )
    if replica.generation == 1:  # told once: it is in --json, and in `ntx replicas --json`, each time
        for loss in replica.not_carried_over:
            screen.note(f"not carried over: {loss}")


def cycle_line(cycle: Cycle) -> str:
    """Return a cycle in one line, of many."""
    replica = cycle.replica
    return (
        f"{format_time(replica.committed_at)}  {replica.vm_name}  generation {replica.generation}: {_amounts(replica)}"
    )


def _amounts(replica: Replica) -> str:
    figures = replica.figures
    zeroed = f", {format_size(figures.bytes_zeroed)} of zeros" if figures.bytes_zeroed else ""
    return (
        f"{format_size(figures.bytes_written)}{zeroed} of {format_size(figures.bytes_changed)} that changed, in "
        f"{figures.seconds:.1f} s"
    )


# ----------------------------------------------------------------------------------------------------- all of them


def status_fields(found: ReplicaStatus, now: datetime, problem: str) -> dict[str, object]:
    """Return a replica as `ntx replicas --json` has it; `problem` is what a check says of it."""
    lag = found.lag(now)
    known = found.known
    return {
        "replica_id": found.id,
        "vm_id": found.vm_id,
        "vm_name": found.vm_name,
        "target": None if known is None else known.target,
        "state": state_word(found),
        "running": found.is_running,
        "generation": None if found.replica is None else found.replica.generation,
        "frozen_at": None if found.replica is None else found.replica.frozen_at,
        "lag_s": None if lag is None else round(lag.total_seconds(), 3),
        "bytes_behind": found.bytes_behind,
        "problem": problem,
        "replica": None if found.replica is None else replica_fields(found.replica),
    }


def state_word(found: ReplicaStatus) -> str:
    """Return what a replica is, in a word."""
    if found.problem:
        return "unknown"
    if found.is_between:
        return "between"
    if found.replica is not None and found.replica.cut_over_at is not None:
        return "cut over"
    return "whole" if found.replica is not None else "nothing"


def show_replicas(every: list[tuple[ReplicaStatus, str]], screen: Screen) -> None:
    """Show replicas to a person, each with what a check says of it."""
    now = utc_now()
    rows = []
    for found, problem in every:
        lag = found.lag(now)
        behind = found.bytes_behind
        verified = None if found.replica is None else found.replica.verified
        rows.append(
            [
                printable(found.vm_name),
                "" if found.known is None else found.known.target,
                "" if found.replica is None else str(found.replica.generation),
                problem or _state_text(found),
                UNKNOWN if lag is None else span_text(lag),
                UNKNOWN if behind is None else format_size(behind),
                UNKNOWN if verified is None else format_time(verified.at),
                found.id,
                found.vm_id,
            ]
        )
    screen.table(_REPLICAS, rows)
    if not every:
        screen.note("no replicas")


def _state_text(found: ReplicaStatus) -> str:
    word = state_word(found)
    if word == "between" and found.pending is not None:
        word = f"between {found.pending.generation - 1} and {found.pending.generation}"
    return f"{word}, a cycle runs" if found.is_running else word


def span_text(span: timedelta) -> str:
    """Return a span as people write it: `45s`, `12m`, `3h05m`, `2d04h`."""
    seconds = int(span.total_seconds())
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600:02}h"


def _verified_fields(verified: StoredVerified | None) -> dict[str, object] | None:
    if verified is None:
        return None
    return {
        "at": verified.at,
        "generation": verified.generation,
        "blocks": verified.blocks,
        "whole": verified.is_whole,
    }


def _with_reason(what: str, reason: str) -> str:
    return f"{what} ({reason})" if reason else what

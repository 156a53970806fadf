"""`ntx verify --replica`: a replica compared with what was frozen."""

from __future__ import annotations

from pathlib import Path

import click

from ntxengine.cli.event_view import RestoreEvents
from ntxengine.cli.figures import UNKNOWN, shown_rate
from ntxengine.cli.output import Screen
from ntxengine.cli.run import run
from ntxengine.cli.table import Column
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.security import PLAIN, ConnectionOptions
from ntxengine.errors import ChecksumMismatch, NtxError, RepositoryError
from ntxengine.replicate.status import find_replica, open_state
from ntxengine.replicate.targets import TargetOptions, target_of
from ntxengine.replicate.verify import ReplicaDiskVerdict, ReplicaVerdict, verify_replica
from ntxengine.units import format_size
from ntxengine.verify import Sampling

_COLUMNS = [
    Column("DISK"),
    Column("SIZE", right=True),
    Column("RATE", right=True),
    Column("RESULT", fold=True),
    Column("DISK UUID", wide=True),
    Column("DIGEST", wide=True),
]


def verify_one(
    name: str,
    state: Path | None,
    sampling: Sampling | None,
    options: CopyOptions,
    screen: Screen,
    connection: ConnectionOptions = PLAIN,
) -> None:
    """Verify a replica, and tell what was found.  Errors: ChecksumMismatch; as verify_replica."""
    if state is None:
        raise click.UsageError("--replica: whose it is is not said: give --at kvm:DIR, or --state DIR")
    if sampling is not None and sampling.share is None:
        raise click.UsageError("--replica: a sample of a replica is a share of its disks: give --sample 5%")
    share = None if sampling is None else sampling.share
    verdict = run(_verify(name, state, share, options, connection, screen))
    screen = screen.after_work(is_good=verdict.is_right)
    if screen.as_json:
        screen.result({"points": [], "damaged": [], "replica": _fields(verdict)})
    else:
        screen.table(_COLUMNS, [_row(each) for each in verdict.disks])
    wrong = [each for each in verdict.disks if each.problem]
    if wrong:
        more = f"; {len(wrong) - 1} more of its disks too" if len(wrong) > 1 else ""
        raise ChecksumMismatch(
            f"replica of VM {verdict.replica.vm_name!r}: disk {wrong[0].disk.label} ({wrong[0].disk.disk_id}): "
            f"{wrong[0].problem}{more}; the next cycle reads it, and writes what differs",
            offsets=wrong[0].offsets,
            blocks=wrong[0].wrong_blocks,
        )


async def _verify(
    name: str,
    state: Path,
    share: float | None,
    options: CopyOptions,
    connection: ConnectionOptions,
    screen: Screen,
) -> ReplicaVerdict:
    opened = await open_state(state)
    found = await find_replica(opened, name)
    if found.problem:
        raise RepositoryError(found.problem)
    if found.known is None:
        raise NtxError(f"replica {found.id}: no cycle has begun to write it: there is nothing to verify")
    target = target_of(found.known.target, TargetOptions(format=found.known.form, connection=connection))
    with screen.view() as view:
        return await verify_replica(opened, found, target, share=share, options=options, on_event=RestoreEvents(view))


def _row(verdict: ReplicaDiskVerdict) -> list[str]:
    report, disk = verdict.report, verdict.disk
    rate = UNKNOWN if report is None else shown_rate(report.bytes_read, report.seconds)
    result = verdict.problem or f"as it was frozen ({verdict.blocks} blocks)"
    return [disk.label, format_size(disk.size), rate, result, disk.disk_id, disk.digest]


def _fields(verdict: ReplicaVerdict) -> dict[str, object]:
    replica = verdict.replica
    return {
        "replica_id": replica.id,
        "vm_id": replica.vm_id,
        "vm_name": replica.vm_name,
        "target": replica.target,
        "generation": replica.generation,
        "right": verdict.is_right,
        "disks": [
            {
                "disk_id": each.disk.disk_id,
                "label": each.disk.label,
                "size": each.disk.size,
                "digest": each.disk.digest,
                "right": not each.problem,
                "problem": each.problem,
                "offsets": each.offsets,
                "wrong_blocks": each.wrong_blocks,
                "blocks": each.blocks,
                "bytes_read": 0 if each.report is None else each.report.bytes_read,
                "seconds": None if each.report is None else round(each.report.seconds, 3),
            }
            for each in verdict.disks
        ],
    }

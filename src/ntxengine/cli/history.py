"""`ntx history`: what the runs of VMs were like over time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ntxengine.cli.agent_socket import socket_option
from ntxengine.cli.figures import UNKNOWN
from ntxengine.cli.options import common_options, table_option
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FOLDER
from ntxengine.cli.run_source import Since, runs_of
from ntxengine.cli.table import Column
from ntxengine.cli.text import elapsed
from ntxengine.cli.values import Given
from ntxengine.units import format_size, utc_now

if TYPE_CHECKING:
    from ntxengine.agent.answers import RunStatus
    from ntxengine.agent.client import AgentClient
    from ntxengine.agent.history import Ended, VmHistory

USUAL = timedelta(days=7)
MAX_OF_ONE = 500

_AMOUNTS = [
    Column("TOOK", right=True),
    Column("CHANGED", right=True),
    Column("READ", right=True, wide=True),
    Column("SENT", right=True),
    Column("STORED", right=True, wide=True),
    Column("NOT SENT", right=True),
    Column("PACKED", right=True),
    Column("UNLIKE BEFORE", fold=True),
]
OF_VMS = [
    Column("VM", shrinks=True),
    Column("JOB", shrinks=True),
    Column("RUNS", right=True),
    Column("FAILED", right=True),
    Column("NEWEST"),
    *_AMOUNTS,
]
OF_RUNS = [Column("STARTED"), Column("JOB", shrinks=True), Column("KIND"), *_AMOUNTS]


@click.command("history")
@click.argument("vm", required=False, type=Given())
@click.option(
    "--since", type=Since(), metavar="TIME", help="Only runs that began since: 7d ago (usual), or 2026-12-01."
)
@click.option("--job", type=Given(), metavar="NAME", help="Only runs of this job.")
@click.option("--state", type=FOLDER, metavar="DIR", help="Read the state folder of an agent, which need not run.")
@socket_option
@common_options
@table_option
def history_command(
    vm: str | None,
    since: datetime | None,
    job: str | None,
    state: Path | None,
    agent: AgentClient,
    screen: Screen,
) -> None:
    """Show what the runs of each VM were like: how long they took, what changed, and what did not have to be sent.

    A line has the middle (median) of the runs of a VM that succeeded; CHANGED and NOT SENT are those of increments.
    PACKED is what was left of what was stored compressed.  With VM (a name or UUID) its runs are listed too, newest
    first.

    \b
    Examples:
      ntx history
      ntx history db01 --since 30d -o wide
      ntx history --state /var/lib/ntx --json
    """
    from ntxengine.agent.answers import RunStatus
    from ntxengine.agent.history import by_vm

    begin = since or utc_now() - USUAL
    documents = runs_of(agent, state, vm=vm, job=job, since=begin)
    runs = [run for each in documents if (run := agent.understood(each, RunStatus)).state in ("succeeded", "failed")]
    vms = by_vm(map(_ended, runs))
    of_one = [run for run in runs if run.state == "succeeded"][:MAX_OF_ONE] if vm is not None else []
    if screen.as_json:
        screen.result({"since": begin, "vms": [_document(each) for each in vms], "runs": list(map(_point, of_one))})
        return
    screen.table(OF_VMS, map(_vm_row, vms))
    if of_one:
        screen.line()
        screen.table(OF_RUNS, map(_run_row, of_one))
    if not vms:
        screen.note(f"no run has ended since {begin:%Y-%m-%d %H:%M}Z")


def _ended(run: RunStatus) -> Ended:
    from ntxengine.agent.history import Ended

    return Ended(
        run.job,
        run.vm_id,
        run.vm_name,
        run.started_at,
        run.state == "succeeded",
        run.seconds,
        run.figures,
        tuple(each.text for each in run.anomalies),
    )


def _document(vm: VmHistory) -> dict[str, Any]:
    return {**vars(vm), "anomalies": list(vm.anomalies)}


def _point(run: RunStatus) -> dict[str, Any]:
    from ntxengine.agent.history import packed_share

    figures = run.figures
    return {
        "run_id": run.run_id,
        "job": run.job,
        "started_at": run.started_at,
        "seconds": run.seconds,
        "kind": "" if figures is None else figures.kind,
        "bytes_changed": None if figures is None else figures.bytes_changed,
        "bytes_read": None if figures is None else figures.bytes_read,
        "bytes_sent": None if figures is None else figures.bytes_sent,
        "bytes_stored": None if figures is None else figures.bytes_stored,
        "reduction_percent": None if figures is None else figures.reduction_percent,
        "packed_share": None if figures is None else packed_share(figures),
        "anomalies": [each.text for each in run.anomalies],
    }


def _vm_row(vm: VmHistory) -> list[str]:
    amounts = _amounts(vars(vm), vm.anomalies)
    return [vm.vm_name, vm.job, str(vm.runs), str(vm.failed), f"{vm.newest_at:%Y-%m-%d %H:%M}Z", *amounts]


def _run_row(run: RunStatus) -> list[str]:
    point = _point(run)
    amounts = _amounts(point, point["anomalies"])
    return [f"{run.started_at:%Y-%m-%d %H:%M:%S}Z", run.job, point["kind"] or UNKNOWN, *amounts]


def _amounts(found: dict[str, Any], anomalies: Iterable[str]) -> Iterator[str]:
    """Yield the cells of what a VM and a run have both."""
    yield UNKNOWN if found["seconds"] is None else elapsed(found["seconds"])
    for name in ("bytes_changed", "bytes_read", "bytes_sent", "bytes_stored"):
        yield UNKNOWN if found[name] is None else format_size(found[name])
    reduction, packed = found["reduction_percent"], found["packed_share"]
    yield UNKNOWN if reduction is None else f"{reduction:.1f} %"
    yield UNKNOWN if packed is None else f"{100 * packed:.0f} %"
    yield "; ".join(anomalies)

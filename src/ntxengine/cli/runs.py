"""`ntx runs`: what became of the runs of the agent."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

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
from ntxengine.units import format_size

if TYPE_CHECKING:
    from ntxengine.agent.answers import RunStatus
    from ntxengine.agent.client import AgentClient

USUAL = 50
MOST = 1_000_000
"""More than the agent keeps."""

_PART = 200

COLUMNS = [
    Column("STARTED"),
    Column("VM", shrinks=True),
    Column("JOB", shrinks=True),
    Column("STATE"),
    Column("TOOK", right=True),
    Column("SENT", right=True),
    Column("RESULT", fold=True),
    Column("TRIGGER", wide=True),
    Column("ATTEMPT", right=True, wide=True),
    Column("KIND", wide=True),
    Column("NOT SENT", right=True, wide=True),
    Column("BOTTLENECK", wide=True),
    Column("RUN", wide=True),
]


@click.command("runs")
@click.option("--failed", is_flag=True, help="Only runs that failed.")
@click.option("--since", type=Since(), metavar="TIME", help="Only runs that began since: 1d ago, or 2026-12-01.")
@click.option("--vm", type=Given(), metavar="NAME|UUID", help="Only runs of this VM.")
@click.option("--job", type=Given(), metavar="NAME", help="Only runs of this job.")
@click.option(
    "--limit",
    type=click.IntRange(0, MOST),
    metavar="N",
    default=USUAL,
    show_default=True,
    help="The newest N; 0: all of them.",
)
@click.option("--state", type=FOLDER, metavar="DIR", help="Read the state folder of an agent, which need not run.")
@socket_option
@common_options
@table_option
def runs_command(
    failed: bool,
    since: datetime | None,
    vm: str | None,
    job: str | None,
    limit: int,
    state: Path | None,
    agent: AgentClient,
    screen: Screen,
) -> None:
    """List the runs of the agent, newest first: what became of each, how long it took, and what was sent.

    With --state the state folder is read, also where no agent runs; nothing in it is changed, and an agent that runs is
    not held up.  Who reads it is its user, or root.

    \b
    Examples:
      ntx runs --failed --since 1d
      ntx runs --vm db01 --limit 5 -o wide
      ntx runs --state /var/lib/ntx --json
    """
    from ntxengine.agent.answers import RunStatus

    one_more = limit + 1 if limit else None
    found = runs_of(agent, state, vm=vm, job=job, since=since, failed=failed, limit=one_more)
    shown = found if not limit else islice(found, limit)
    show = screen.growing_table(COLUMNS)
    count = 0
    while part := list(islice(shown, _PART)):
        count += len(part)
        if screen.as_json:
            for document in part:
                screen.item("runs", document)
        else:
            show([_row(agent.understood(document, RunStatus)) for document in part])
    if screen.as_json and not count:
        screen.result({"runs": []})
    if not count:
        screen.note("no runs")
    elif limit and count == limit and next(found, None) is not None:
        screen.note(f"the newest {limit}: --limit shows more")


def _row(run: RunStatus) -> list[str]:
    figures = run.figures
    return [
        f"{run.started_at:%Y-%m-%d %H:%M:%S}Z",
        run.vm_name,
        run.job,
        run.state,
        UNKNOWN if run.ended_at is None else elapsed(run.seconds),
        UNKNOWN if figures is None else format_size(figures.bytes_sent),
        _result(run),
        run.trigger,
        str(run.attempt),
        UNKNOWN if figures is None else figures.kind,
        UNKNOWN if figures is None else f"{figures.reduction_percent:.1f} %",
        run.bottleneck or UNKNOWN,
        run.run_id,
    ]


def _result(run: RunStatus) -> str:
    """Return what came of it: the error, the point or generation and what went wrong after it, or where it is."""
    if run.error is not None:
        return run.error.message
    if run.state == "running":
        return run.stage or "begins"
    unlike = [f"unlike before: {each.text}" for each in run.anomalies]
    made = f"generation {run.generation}" if run.generation else run.point_id or UNKNOWN
    return "; ".join([made, *run.problems, *unlike])

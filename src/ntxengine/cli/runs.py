"""`ntx runs`: what became of the runs of the agent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ntxengine.cli.agent_socket import socket_option
from ntxengine.cli.figures import UNKNOWN
from ntxengine.cli.options import common_options, table_option
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FOLDER
from ntxengine.cli.table import Column
from ntxengine.cli.text import elapsed
from ntxengine.cli.times import MOMENT, SPAN
from ntxengine.cli.values import Given
from ntxengine.errors import NotFoundError
from ntxengine.units import format_size, format_time, utc_now

if TYPE_CHECKING:
    from ntxengine.agent.answers import RunStatus
    from ntxengine.agent.client import AgentClient

USUAL = 50
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


class _Since(click.ParamType[datetime]):
    """How long ago, `1d`, or a date, `2026-12-01`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        if "-" in str(value):
            return MOMENT.convert(value, param, ctx)
        span: timedelta = SPAN.convert(value, param, ctx)
        return utc_now() - span


@click.command("runs")
@click.option("--failed", is_flag=True, help="Only runs that failed.")
@click.option("--since", type=_Since(), metavar="TIME", help="Only runs that began since: 1d ago, or 2026-12-01.")
@click.option("--vm", type=Given(), metavar="NAME|UUID", help="Only runs of this VM.")
@click.option("--job", type=Given(), metavar="NAME", help="Only runs of this job.")
@click.option(
    "--limit",
    type=click.IntRange(0),
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

    if state is not None and click.get_current_context().get_parameter_source("socket") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--state contradicts --socket: read a folder, or ask an agent")
    wanted = {
        "failed": "yes" if failed else "",
        "since": "" if since is None else format_time(since),
        "vm": vm or "",
        "job": job or "",
    }
    one_more = limit + 1 if limit else None
    found = _of_agent(agent, wanted, one_more) if state is None else _of_folder(state, wanted, since)
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


def _of_agent(agent: AgentClient, wanted: dict[str, str], limit: int | None) -> Iterator[dict[str, Any]]:
    try:
        yield from agent.runs(limit=limit, **wanted)
    except NotFoundError as exc:
        raise NotFoundError(f"{exc}; what it remembers: ntx runs --state DIR (agent.state)") from exc


def _of_folder(folder: Path, wanted: dict[str, str], since: datetime | None) -> Iterator[dict[str, Any]]:
    from ntxengine.agent.asking import MAX_PAGE, Question
    from ntxengine.agent.documents import run_document
    from ntxengine.agent.reading import read_runs
    from ntxengine.agent.records import RunState

    after = ""
    while True:
        state = RunState.FAILED if wanted["failed"] else None
        question = Question(vm=wanted["vm"], job=wanted["job"], state=state, since=since, after=after, limit=MAX_PAGE)
        runs, after = read_runs(folder, question)
        yield from (dict(run_document(run)) for run in runs)
        if not after:
            return


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
    """Return what came of it: the error, the point and what went wrong after it, or where it is."""
    if run.error is not None:
        return run.error.message
    if run.state == "running":
        return run.stage or "begins"
    return "; ".join([run.point_id or UNKNOWN, *run.problems])

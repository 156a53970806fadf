"""Where runs come from that a command shows: the agent, by its socket, or a state folder that is read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ntxengine.cli.times import MOMENT, SPAN
from ntxengine.errors import NotFoundError
from ntxengine.units import format_time, utc_now

if TYPE_CHECKING:
    from ntxengine.agent.client import AgentClient


class Since(click.ParamType[datetime]):
    """How long ago, `1d`, or a date, `2026-12-01`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        if "-" in str(value):
            return MOMENT.convert(value, param, ctx)
        span: timedelta = SPAN.convert(value, param, ctx)
        return utc_now() - span


def runs_of(
    agent: AgentClient,
    state: Path | None,
    *,
    vm: str | None,
    job: str | None,
    since: datetime | None,
    failed: bool = False,
    limit: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Return the documents of runs, newest first, `limit` or more: of the agent, or of a state folder.

    Errors: click.UsageError (both are named); as AgentClient and read_runs, when they are asked for.
    """
    if state is not None and click.get_current_context().get_parameter_source("socket") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--state contradicts --socket: read a folder, or ask an agent")
    if state is not None:
        return _of_folder(state, vm or "", job or "", since, failed=failed)
    wanted = {
        "failed": "yes" if failed else "",
        "since": "" if since is None else format_time(since),
        "vm": vm or "",
        "job": job or "",
    }
    return _of_agent(agent, wanted, limit)


def _of_agent(agent: AgentClient, wanted: dict[str, str], limit: int | None) -> Iterator[dict[str, Any]]:
    try:
        yield from agent.runs(limit=limit, **wanted)
    except NotFoundError as exc:
        command = click.get_current_context().info_name
        raise NotFoundError(f"{exc}; what it remembers: ntx {command} --state DIR (agent.state)") from exc


def _of_folder(folder: Path, vm: str, job: str, since: datetime | None, *, failed: bool) -> Iterator[dict[str, Any]]:
    from ntxengine.agent.asking import MAX_PAGE, Question
    from ntxengine.agent.documents import run_document
    from ntxengine.agent.reading import read_runs
    from ntxengine.agent.records import RunState

    after = ""
    while True:
        state = RunState.FAILED if failed else None
        question = Question(vm=vm, job=job, state=state, since=since, after=after, limit=MAX_PAGE)
        runs, after = read_runs(folder, question)
        yield from (dict(run_document(run)) for run in runs)
        if not after:
            return

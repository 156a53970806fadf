"""`ntx top`: the agent at work, looked at every second."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from ntxengine.cli.agent_socket import asked, socket_option
from ntxengine.cli.bars import bar_line
from ntxengine.cli.errors import Interrupted
from ntxengine.cli.messages import is_coloured
from ntxengine.cli.progress import Amount
from ntxengine.cli.signals import raised_as_interrupted
from ntxengine.cli.status import headlines
from ntxengine.cli.text import elapsed, plural, printable, shortened, text_width
from ntxengine.cli.values import SECONDS
from ntxengine.errors import NtxError

if TYPE_CHECKING:
    from rich.text import Text

    from ntxengine.agent.answers import RunStatus, Status
    from ntxengine.agent.client import AgentClient

_USUAL_INTERVAL_S = 1.0
_COLOURS = {"critical": "bold red", "warning": "yellow", "ok": "green"}


@click.command("top")
@click.option(
    "--interval",
    "interval_s",
    type=SECONDS,
    metavar="SECONDS",
    default=_USUAL_INTERVAL_S,
    show_default=True,
    help="How often to look.",
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N looks.")
@socket_option
def top_command(interval_s: float, count: int | None, agent: AgentClient) -> None:
    """Watch the agent at work: what runs and how far it is, what waits and why, what is not as it should be.

    Ctrl-C ends it.  Where stdout is no terminal it looks once and prints what it sees; programs use
    `ntx status --json`.

    \b
    Examples:
      ntx top
      ntx top --interval 5 --socket /run/ntx/lab.sock
    """
    if not sys.stdout.isatty():
        _, status = asked(agent)
        for line, _ in lines(status, str(agent.path), width=None, height=None):
            click.echo(line)
        return
    try:
        with raised_as_interrupted("nothing was changed"):
            _watch(agent, interval_s, count)
    except Interrupted as exc:
        if exc.signal_number != 2:  # Ctrl-C is how it is left
            raise


def _watch(
    agent: AgentClient, interval_s: float, count: int | None, sleep: Callable[[float], None] = time.sleep
) -> None:
    from rich.console import Console
    from rich.live import Live

    _, status = asked(agent)  # whoever cannot be asked at all is an error, and no view
    console = Console(no_color=not is_coloured(sys.stdout), highlight=False, markup=False, emoji=False)
    problem, looks = "", 1
    with Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        while True:
            live.update(_drawn(status, agent, problem, console.width, console.height), refresh=True)
            if count is not None and looks >= count:
                return
            sleep(interval_s)
            looks += 1
            try:
                _, status = asked(agent)
                problem = ""
            except NtxError as exc:  # it may be back soon: an agent is restarted, too
                problem = str(exc)


def _drawn(status: Status, agent: AgentClient, problem: str, width: int, height: int) -> Text:
    from rich.text import Text

    text = Text(no_wrap=True, overflow="crop", end="")
    told = lines(status, str(agent.path), width=width, height=height - (1 if problem else 0))
    if problem:
        told = [(shortened(printable(f"CRITICAL: {problem}"), width - 1), "critical"), *told]
    for number, (line, level) in enumerate(told):
        text.append("\n" if number else "")
        text.append(line, style=_COLOURS.get(level, ""))
    return text


def lines(status: Status, where: str, *, width: int | None, height: int | None) -> list[tuple[str, str]]:
    """Return each line with its level ("" for none), at most `width` columns, None for all; the rest is counted."""
    found = [(line, "") for line in headlines(status, where)]
    running = sum(job.running for job in status.jobs)
    what = f"{plural(len(status.jobs), 'job')}, {plural(status.vm_count, 'VM')}"
    found.append((f"{what}; {running} running, {status.waiting_count} waiting", ""))
    found += [(f"{each.level.upper()}: {each.subject}: {each.text}", str(each.level)) for each in status.findings]
    label_width = max((text_width(_label(run)) for run in status.running), default=0)
    if status.running:
        columns = shutil.get_terminal_size().columns if width is None else width
        found.append(("", ""))
        found += [(_bar(run, status, min(label_width, columns // 2), columns), "") for run in status.running]
    if status.waiting:
        found.append(("", ""))
        found += [(f"  {wait.vm_name} ({wait.job}) waits: {wait.reason}", "") for wait in status.waiting]
    if height is not None and len(found) > height > 1:
        left = len(found) - height + 1
        found = [*found[: height - 1], (f"  and {left} more lines: ntx status", "")]
    return [
        (printable(line) if width is None else shortened(printable(line), width - 1), level) for line, level in found
    ]


def _bar(run: RunStatus, status: Status, label_width: int, width: int) -> str:
    seconds = max(0.0, (status.now - run.started_at).total_seconds())
    if not run.bytes_total:
        label = shortened(_label(run), label_width)
        return f"  {label}{' ' * (label_width - text_width(label))} {elapsed(seconds)}"
    amount = Amount(run.bytes_done, run.bytes_total, seconds)
    return str(bar_line(_label(run), amount, label_width=label_width, width=width)).rstrip()


def _label(run: RunStatus) -> str:
    return printable(f"{run.vm_name} ({run.job}) {run.stage or 'begins'}")

"""`ntx status`: how the agent is; with --check as monitoring wants to hear it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn

import click

from ntxengine.cli.agent_socket import asked, socket_option
from ntxengine.cli.checked import UNKNOWN as UNKNOWN_LEVEL
from ntxengine.cli.checked import CheckedCommand
from ntxengine.cli.figures import UNKNOWN
from ntxengine.cli.options import common_options, table_option
from ntxengine.cli.output import Screen
from ntxengine.cli.streams import only_tells_of_work
from ntxengine.cli.table import Column
from ntxengine.cli.text import elapsed, plural, printable
from ntxengine.units import format_rate, format_size

if TYPE_CHECKING:
    from ntxengine.agent.answers import RunStatus, Status
    from ntxengine.agent.client import AgentClient

LEVELS = {"ok": 0, "warning": 1, "critical": 2}
_MOST_TOLD = 3
_MOST_WAITING = 20

JOBS = [
    Column("JOB", shrinks=True),
    Column("VMS", right=True),
    Column("RUNNING", right=True),
    Column("WAITING", right=True),
    Column("FAILING", right=True),
    Column("NEXT START"),
]
RUNNING = [
    Column("RUNNING", shrinks=True),
    Column("JOB", shrinks=True),
    Column("STAGE"),
    Column("DONE", right=True),
    Column("FOR", right=True),
    Column("RUN", wide=True),
]
WAITING = [Column("WAITING", shrinks=True), Column("JOB", shrinks=True), Column("SINCE"), Column("WHY", fold=True)]
VMS = [
    Column("VM", shrinks=True),
    Column("JOB", shrinks=True),
    Column("LAST SUCCESS"),
    Column("FAILED", right=True),
    Column("NEXT START"),
    Column("VM UUID", wide=True),
]


class _OneLine(CheckedCommand):
    """With --check it says one line on stdout, whatever happened."""

    def end_unknown(self, text: str) -> NoReturn:
        _say(f"UNKNOWN - {text}")
        raise click.exceptions.Exit(UNKNOWN_LEVEL)


@click.command("status", cls=_OneLine)
@click.option("--vms", "with_vms", is_flag=True, help="List each VM of each job, too.")
@click.option(
    "--check", is_flag=True, help="One line for monitoring; exit code 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN."
)
@socket_option
@common_options
@table_option
def status_command(with_vms: bool, check: bool, agent: AgentClient, screen: Screen) -> int:
    """Tell how the agent is: what runs, what waits and why, and what is not as it should be.

    With --check it is a plugin for Nagios, Icinga and their like: one line, and their exit codes.  CRITICAL is what
    somebody has to see to: no objective kept for twice its time, three runs of a VM that failed in a row, Prism or a
    repository that is held for more than 15 minutes, no list of VMs, a history that cannot be written.  WARNING is less
    than that, and what is paused.  UNKNOWN: no agent answers.

    \b
    Examples:
      ntx status
      ntx status --vms --socket /run/ntx/lab.sock
      ntx status --check
    """
    if check:
        if screen.as_json:
            raise click.UsageError("--check contradicts --json: give one of them")
        return _check(agent)
    document, status = asked(agent, with_vms=with_vms)
    if screen.as_json:
        screen.result(document)
    else:
        _show(status, agent, screen)
    return 0


# ------------------------------------------------------------------------------------------------------ monitoring


def _check(agent: AgentClient) -> int:
    _, status = asked(agent)
    _say(f"{status.level.upper() if status.level in LEVELS else 'UNKNOWN'} - {_summary(status)}", _figures(status))
    return LEVELS.get(status.level, UNKNOWN_LEVEL)


def _summary(status: Status) -> str:
    if status.findings:
        told = [f"{each.subject}: {each.text}" for each in status.findings[:_MOST_TOLD]]
        more = len(status.findings) - _MOST_TOLD
        return "; ".join(told) + (f"; and {more} more" if more > 0 else "")
    runs = f"{len(status.running)} running, {status.waiting_count} waiting"
    return f"{plural(status.vm_count, 'VM')} in {plural(len(status.jobs), 'job')}, {runs}"


def _figures(status: Status) -> str:
    failing = sum(job.failing for job in status.jobs)
    figures = {
        "vms": status.vm_count,
        "running": len(status.running),
        "waiting": status.waiting_count,
        "failing": failing,
        "held": len(status.held),
        "paused": len(status.paused),
    }
    return " ".join(f"{name}={value};;;0" for name, value in figures.items())


def _say(text: str, figures: str = "") -> None:
    """Print the one line.  A bar in what others wrote would begin the figures.

    The exit code is what monitoring goes by: a line that cannot be written must not make a WARNING of it.
    """
    only_tells_of_work()
    line = printable(" ".join(text.split())).replace("|", "/")
    click.echo(f"NTX {line}|{figures}" if figures else f"NTX {line}")


# -------------------------------------------------------------------------------------------------------- a person


def _show(status: Status, agent: AgentClient, screen: Screen) -> None:
    for line in headlines(status, str(agent.path)):
        screen.line(line)
    for finding in status.findings:
        screen.line(f"{finding.level.upper()}: {finding.subject}: {finding.text}")
    _section(screen, JOBS, _job_rows(status))
    _section(screen, RUNNING, [_run_row(run, status.now) for run in status.running])
    _section(screen, WAITING, _wait_rows(status))
    if status.waiting_count > _MOST_WAITING:
        screen.note(f"and {status.waiting_count - _MOST_WAITING} more wait: ntx status --json")
    if status.vms is not None:
        _section(screen, VMS, _vm_rows(status))


def headlines(status: Status, where: str) -> Iterator[str]:
    """Yield what stands above everything else."""
    up = elapsed(max(0.0, (status.now - status.started_at).total_seconds()))
    yield f"agent {status.version} at {where}, for {up}{', is stopping' if status.is_stopping else ''}"
    limit = status.bandwidth
    if limit.rate or limit.is_changed or limit.timetable != "off" or limit.cpu_limit:
        rate = format_rate(limit.rate) if limit.rate else "no limit"
        said = ", until a reload" if limit.is_changed else ""
        cpu = f"; processors: {limit.cpu_limit * 100:g} %" if limit.cpu_limit else ""
        yield f"bandwidth: {rate}{said}{cpu}"


def _section(screen: Screen, columns: list[Column], rows: list[list[str]]) -> None:
    if rows:
        screen.line()
        screen.table(columns, rows)


def _job_rows(status: Status) -> list[list[str]]:
    return [
        [
            job.job,
            str(job.vms),
            str(job.running),
            str(job.waiting),
            str(job.failing),
            "paused" if job.is_paused else _time(job.next_start_at),
        ]
        for job in status.jobs
    ]


def _run_row(run: RunStatus, now: datetime) -> list[str]:
    done = UNKNOWN
    if run.bytes_total:
        percent = min(100, run.bytes_done * 100 // run.bytes_total)
        done = f"{format_size(run.bytes_done)} of {format_size(run.bytes_total)}, {percent} %"
    seconds = max(0.0, (now - run.started_at).total_seconds())
    return [run.vm_name, run.job, run.stage or UNKNOWN, done, elapsed(seconds), run.run_id]


def _wait_rows(status: Status) -> list[list[str]]:
    return [[wait.vm_name, wait.job, _time(wait.since), wait.reason] for wait in status.waiting[:_MOST_WAITING]]


def _vm_rows(status: Status) -> list[list[str]]:
    return [
        [
            vm.vm_name,
            vm.job,
            _time(vm.captured_at) if vm.captured_at else "never",
            str(vm.failures) if vm.failures else UNKNOWN,
            "runs" if vm.is_running else _time(vm.next_start_at) if vm.next_start_at else "due",
            vm.vm_id,
        ]
        for vm in status.vms or ()
    ]


def _time(when: datetime | None) -> str:
    return UNKNOWN if when is None else f"{when:%Y-%m-%d %H:%M}Z"

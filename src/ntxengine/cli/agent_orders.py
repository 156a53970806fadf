"""`ntx agent run`, `pause`, `resume`, `bandwidth`, `reload`: what an agent that runs is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ntxengine.cli.agent_socket import asked, socket_option
from ntxengine.cli.figures import UNKNOWN
from ntxengine.cli.options import common_options
from ntxengine.cli.output import Screen
from ntxengine.cli.progress import Amount
from ntxengine.cli.signals import raised_as_interrupted
from ntxengine.cli.text import elapsed
from ntxengine.cli.values import BANDWIDTH, Given
from ntxengine.errors import NtxError
from ntxengine.units import format_rate, format_size

if TYPE_CHECKING:
    from ntxengine.agent.answers import RunStatus
    from ntxengine.agent.client import AgentClient
    from ntxengine.cli.progress import View
    from ntxengine.dataplane.timetable import Timetable

LOOK_S = 1.0
"""How often a run that is waited for is asked about."""

_KNOWN = 20
_LOOKS_IN_VAIN = 3
_INTERRUPTED = 75


class RunFailed(NtxError):
    """A run that was waited for did not succeed: with the exit code that a capture would have ended with."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------------------- run


@click.command("run")
@click.argument("vm", type=Given())
@click.option("--job", type=Given(), metavar="NAME", help="In this job; in the first that has the VM, without it.")
@click.option("--wait", is_flag=True, help="Wait until it has ended; the exit code is that of the run.")
@socket_option
@common_options
def run_command(vm: str, job: str | None, wait: bool, agent: AgentClient, screen: Screen) -> None:
    """Have the agent capture VM (name or UUID) now, as its job says.

    It begins as soon as limits allow, before all that is due; windows and waits after an error do not hold for it. With
    --wait the exit code is that of the run, as if it were `ntx capture`; 75 if the agent ended meanwhile, and the next
    goes on with it.  Ctrl-C ends the waiting, and not the run.

    \b
    Examples:
      ntx agent run db01
      ntx agent run db01 --job nightly --wait
    """
    known = {str(run.get("run_id")) for run in agent.runs(limit=_KNOWN, vm=vm, job=job or "")} if wait else set()
    answer = agent.post("run", {"vm": vm, "job": job or ""})
    order = agent.understood(answer, _Order)
    if not wait:
        if screen.as_json:
            screen.result(answer)
        else:
            screen.after_work().line(f"{order.vm_name}: begins as soon as there is a place, in job {order.job}")
        return
    with raised_as_interrupted(f"the run of {order.vm_name} goes on: ntx status"), screen.view() as view:
        document, run = _Wait(agent, order, known, view).until_it_has_ended()
    if screen.as_json:
        screen.result({**answer, "run": document})
    _tell(run, screen)


@dataclass(frozen=True)
class _Order:
    """What the agent said to a run that it was asked for."""

    job: str
    vm_id: str
    vm_name: str


class _Wait:
    """Looks again and again what became of a run that was asked for."""

    def __init__(
        self,
        agent: AgentClient,
        order: _Order,
        known: set[str],
        view: View,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._agent = agent
        self._order = order
        self._known = known
        self._view = view
        self._sleep = sleep
        self._said = ""

    def until_it_has_ended(self) -> tuple[Any, RunStatus]:
        """Return the run, as it was told, and as what it is.  Errors: NtxError (it never began)."""
        looks_in_vain = 0
        while looks_in_vain < _LOOKS_IN_VAIN:
            if not self._is_on_its_way():
                for document in self._agent.runs(limit=_KNOWN, vm=self._order.vm_id, job=self._order.job):
                    run = self._run(document)
                    if run.run_id not in self._known and run.trigger == "person" and run.ended_at is not None:
                        return document, run
                looks_in_vain += 1
            self._sleep(LOOK_S)
        raise NtxError(
            f"{self._order.vm_name}: the run that was asked for is gone: job {self._order.job} has the VM no more, or "
            f"a new history was begun; ntx runs shows what there is"
        )

    def _is_on_its_way(self) -> bool:
        """Say whether it waits or runs, and show how far it is."""
        order = self._order
        _, status = asked(self._agent)
        for run in status.running:
            if (run.job, run.vm_id) == (order.job, order.vm_id) and run.run_id not in self._known:
                self._stage(run.stage or "begin", "")
                if run.bytes_total:
                    seconds = max(0.0, (status.now - run.started_at).total_seconds())
                    amount = Amount(run.bytes_done, run.bytes_total, seconds, bottleneck=run.bottleneck)
                    self._view.update(run.vm_name, amount)
                return True
        for wait in status.waiting:
            if (wait.job, wait.vm_id) == (order.job, order.vm_id) and wait.is_asked_for:
                self._stage("wait", wait.reason)
                return True
        return any((each.job, each.vm_id) == (order.job, order.vm_id) for each in status.asked)

    def _stage(self, name: str, detail: str) -> None:
        if (said := f"{name}: {detail}") != self._said:
            self._said = said
            self._view.stage(name, detail)

    def _run(self, document: object) -> RunStatus:
        from ntxengine.agent.answers import RunStatus

        return self._agent.understood(document, RunStatus)


def _tell(run: RunStatus, screen: Screen) -> None:
    """Tell how a run ended.  Errors: RunFailed."""
    if run.state != "succeeded":
        message = run.error.message if run.error is not None else run.state
        code = run.error.exit_code if run.error is not None and run.state == "failed" else _INTERRUPTED
        raise RunFailed(f"{run.vm_name}: run {run.run_id}: {message}", exit_code=code)
    after = screen.after_work()
    for problem in run.problems:
        screen.warning(problem)
    if not screen.as_json:
        sent = UNKNOWN if run.figures is None else format_size(run.figures.bytes_sent)
        kind = "" if run.figures is None else f" {run.figures.kind}"
        made = f"generation {run.generation}" if run.generation else f"captured{kind} point {run.point_id}"
        after.line(f"{run.vm_name}: {made}, {sent} sent, in {elapsed(run.seconds)}")


# ----------------------------------------------------------------------------------------------- pause and resume


def _subject(kind: str, name: str | None) -> str:
    if kind == "all":
        if name is not None:
            raise click.UsageError(f"all jobs need no name: leave {name!r} out, or write job or vm before it")
        return kind
    if name is None:
        raise click.UsageError(f"which {kind}?  Write its name behind {kind}")
    return f"{kind} {name}"


def subject_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments that say what is paused or resumed."""
    name = click.argument("name", required=False, type=Given())
    kind = click.argument("kind", type=click.Choice(["all", "job", "vm"]), default="all", required=False)
    return kind(name(function))


@click.command("pause")
@subject_arguments
@socket_option
@common_options
def pause_command(kind: str, name: str | None, agent: AgentClient, screen: Screen) -> None:
    """Begin nothing more of all jobs, of one job, or of one VM, until `ntx agent resume`.  What runs goes on.

    It holds over the end of the agent, too.

    \b
    Examples:
      ntx agent pause
      ntx agent pause job nightly
      ntx agent pause vm db01
    """
    subject = _subject(kind, name)
    answer = agent.post("pause", {"subject": subject})
    paused = agent.understood(answer, _Paused)
    if screen.as_json:
        screen.result(answer)
        return
    screen.after_work().line(f"{_words(subject)}: {'was paused already' if paused.was_paused else 'paused'}")


@click.command("resume")
@subject_arguments
@socket_option
@common_options
def resume_command(kind: str, name: str | None, agent: AgentClient, screen: Screen) -> None:
    """Begin again what is due, of what was paused: it ends the pause of the same name, and no other.

    \b
    Examples:
      ntx agent resume
      ntx agent resume vm db01
    """
    subject = _subject(kind, name)
    answer = agent.post("resume", {"subject": subject})
    paused = agent.understood(answer, _Paused)
    if screen.as_json:
        screen.result(answer)
        return
    screen.after_work().line(f"{_words(subject)}: {'resumed' if paused.was_paused else 'was not paused'}")
    for each in paused.paused:
        screen.note(f"still paused: {_words(f'vm {each.vm_name}' if each.vm_name else each.subject)}")


@dataclass(frozen=True)
class _Subject:
    """Something that is paused."""

    subject: str
    vm_name: str = ""


@dataclass(frozen=True)
class _Paused:
    """What the agent said to a pause or its end."""

    was_paused: bool
    paused: tuple[_Subject, ...]


def _words(subject: str) -> str:
    kind, _, name = subject.partition(" ")
    return f"{'VM' if kind == 'vm' else kind} {name}" if name else "all jobs"


# ---------------------------------------------------------------------------------------------- bandwidth and reload


class _Rate(click.types.StringParamType):
    """A rate, checked, and told as it was written."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        _: Timetable = BANDWIDTH.convert(value, param, ctx)
        return str(value)


@click.command("bandwidth")
@click.argument("rate", type=_Rate())
@socket_option
@common_options
def bandwidth_command(rate: str, agent: AgentClient, screen: Screen) -> None:
    """Change at once what all runs of the agent together read in a second: RATE, `off`, or by the hour.

    It holds until the agent is told to reload, or ends.

    \b
    Examples:
      ntx agent bandwidth 50M
      ntx agent bandwidth off
      ntx agent bandwidth "08:00,50M 19:00,off"
    """
    from ntxengine.agent.answers import BandwidthStatus

    answer = agent.post("bandwidth", {"rate": rate})
    limit = agent.understood(answer, BandwidthStatus)
    if screen.as_json:
        screen.result(answer)
        return
    now = format_rate(limit.rate) if limit.rate else "no limit"
    said = f", until a reload: {limit.timetable}" if limit.is_changed else ", as the file of configuration says"
    screen.after_work().line(f"bandwidth: {now} now{said}")


@click.command("reload")
@socket_option
@common_options
def reload_command(agent: AgentClient, screen: Screen) -> None:
    """Have the agent read its file of configuration anew, as SIGHUP does.  A bad one is said, and changes nothing.

    What runs goes on as it began.

    \b
    Example:
      ntx agent reload
    """
    answer = agent.post("reload", {})
    if screen.as_json:
        screen.result(answer)
        return
    jobs = agent.understood(answer, _Reloaded).jobs
    screen.after_work().line(f"the configuration was read anew: {jobs} {'job' if jobs == 1 else 'jobs'}")


@dataclass(frozen=True)
class _Reloaded:
    """What the agent said to a reload."""

    jobs: int

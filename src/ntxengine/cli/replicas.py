"""`ntx replicas`."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import click

from ntxengine.cli.checked import CRITICAL, OK, UNKNOWN, WARNING, CheckedCommand
from ntxengine.cli.defaults import of_file
from ntxengine.cli.options import common_options, table_option
from ntxengine.cli.output import Screen
from ntxengine.cli.replica_options import WHOSE, state_options
from ntxengine.cli.replica_view import show_replicas, span_text, status_fields
from ntxengine.cli.run import run
from ntxengine.cli.streams import only_tells_of_work
from ntxengine.cli.times import SPAN
from ntxengine.errors import NotFoundError
from ntxengine.replicate.status import ReplicaStatus, open_state, replicas_in
from ntxengine.units import utc_now

_WORST = (OK, WARNING, UNKNOWN, CRITICAL)


@click.command("replicas", cls=CheckedCommand)
@state_options(required=False)
@click.option("--check", is_flag=True, help="End with 0, 1, 2 or 3: all is well, a warning, critical, unknown.")
@click.option("--warn-lag", type=SPAN, metavar="TIME", help="With --check: a warning for what is further behind.")
@click.option("--max-lag", type=SPAN, metavar="TIME", help="With --check: critical is what is further behind.")
@common_options
@table_option
def replicas_command(
    state: Path | None,
    check: bool,
    warn_lag: timedelta | None,
    max_lag: timedelta | None,
    screen: Screen,
) -> None:
    """Say how far replicas are behind, and whether they are whole.

    With --config FILE, and neither --at nor --state, those of all jobs of the file, as the agent keeps them.
    LAG is the age of the generation that the target shows; BEHIND is what a cycle that is not over is about to write;
    VERIFIED is when the target was last read back.  Nothing is asked of a cluster.

    --check is for a monitoring system: a replica that is between two generations, or has none, while no cycle runs, is
    a warning; one that gave back something else than what was written is critical; what cannot be read is unknown.

    \b
    Examples:
      ntx replicas --at kvm:/srv/replicas
      ntx replicas --at kvm:/srv/replicas --check --warn-lag 20m --max-lag 1h
      ntx replicas --state /var/lib/ntx/replicas --json
      ntx --config /etc/ntx/agent.yaml replicas
    """
    if (warn_lag or max_lag) and not check:
        raise click.UsageError("--warn-lag and --max-lag are for --check")
    if warn_lag and max_lag and warn_lag > max_lag:
        raise click.UsageError("--warn-lag is more than --max-lag: nothing would ever be a warning")
    now = utc_now()
    missing: list[str] = []
    every = run(_replicas([state] if state is not None else _states_of_jobs(), missing if state is None else None))
    for problem in missing:
        screen.warning(problem)
    if check:
        only_tells_of_work()  # the code is the answer, whoever reads the table
    judged = [(found, *_judge(found, now, warn_lag, max_lag)) for found in every]
    if screen.as_json:
        screen.result(
            {
                "state": state,
                "replicas": [status_fields(found, now, problem if check else "") for found, _, problem in judged],
            }
        )
    else:
        show_replicas([(found, problem if check or found.problem else "") for found, _, problem in judged], screen)
    if check:
        codes = [code for _, code, _ in judged] + [UNKNOWN] * len(missing)
        code = max(codes, key=_WORST.index, default=UNKNOWN)
        raise click.exceptions.Exit(code)


def _states_of_jobs() -> list[Path]:
    """Return the states that the jobs of --config have.  Errors: UsageError (there are none)."""
    file = of_file()
    if file is None:
        raise click.UsageError(f"{WHOSE}, or --config FILE before the command")
    from ntxengine.config.meaning import replica_state

    found = [replica_state(job.replicate) for job in file.config.jobs if job.replicate is not None]
    states = list(dict.fromkeys(each for each in found if each is not None))
    if not states:
        raise click.UsageError(f"no job of {file.loaded.name} keeps replicas: {WHOSE}")
    return states


async def _replicas(states: list[Path], missing: list[str] | None) -> list[ReplicaStatus]:
    """Return the replicas of all states; what is wrong with those that are not there goes into `missing`, if it can.

    Errors: as open_state.
    """
    found = []
    for state in states:
        try:
            found += await replicas_in(await open_state(state))
        except NotFoundError as error:
            if missing is None:
                raise
            missing.append(str(error))
    return sorted(found, key=lambda each: (each.vm_name, each.id))


def _judge(
    found: ReplicaStatus, now: datetime, warn_lag: timedelta | None, max_lag: timedelta | None
) -> tuple[int, str]:
    """Return what a check says of a replica: a code, and why, "" if all is well."""
    if found.problem:
        return UNKNOWN, found.problem
    if found.replica is not None and found.replica.cut_over_at is not None:
        return OK, ""
    lag = found.lag(now)
    if found.is_doubted:
        return CRITICAL, "gave back something else than what was written: the next cycle mends it"
    if lag is not None and max_lag is not None and lag > max_lag:
        return CRITICAL, f"{span_text(lag)} behind, more than {span_text(max_lag)}"
    if not found.is_whole and not found.is_running:
        return WARNING, "no cycle came to its end yet" if lag is None else "between two generations, and no cycle runs"
    if lag is not None and warn_lag is not None and lag > warn_lag:
        return WARNING, f"{span_text(lag)} behind, more than {span_text(warn_lag)}"
    return OK, ""

"""`ntx agent`: the service that captures VMs by itself."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ntxengine.cli.defaults import load_file, require_libraries
from ntxengine.cli.lazy import Entry, LazyGroup
from ntxengine.cli.limits import make_room
from ntxengine.cli.loop import loop_factory
from ntxengine.cli.paths import FILE, FOLDER
from ntxengine.cli.streams import without_waiting

if TYPE_CHECKING:
    from ntxengine.config.file import Config

log = logging.getLogger(__name__)

COMMANDS: dict[str, Entry] = {
    "run": Entry("agent_orders", "Capture a VM of a job now."),
    "pause": Entry("agent_orders", "Begin nothing more: of all jobs, a job or a VM."),
    "resume": Entry("agent_orders", "Begin what is due again."),
    "bandwidth": Entry("agent_orders", "Change the limit on what is read in a second, until a reload."),
    "reload": Entry("agent_orders", "Read the file of configuration anew."),
    "install": Entry("installing", "Install it as a service of systemd, from a release folder."),
    "unit": Entry("installing", "Print the unit of systemd for this ntx."),
    "uninstall": Entry("installing", "Stop that service, and remove what was installed."),
}
"""What can be said to an agent, or done about one.  A new command is a row here, and a function in its module."""


@click.group(
    "agent", cls=LazyGroup, entries=COMMANDS, invoke_without_command=True, subcommand_metavar="[COMMAND [ARGS]...]"
)
@click.option(
    "--config",
    "config_file",
    type=FILE,
    metavar="FILE",
    help="File of configuration, with jobs; that of `ntx --config`, if none is given here.",
)
@click.option(
    "--state",
    type=FOLDER,
    metavar="DIR",
    help="Where it remembers, in the place of agent.state of the file.",
)
@click.pass_context
def agent_command(ctx: click.Context, config_file: Path | None, state: Path | None) -> None:
    """Capture the VMs of the jobs of FILE when they are due, until a signal ends it.

    It writes its log to stderr, as agent.log of FILE says.  SIGTERM and SIGINT let what runs end for two minutes, then
    cancel it, to be gone on with at the next start; a second one cancels at once.  SIGHUP reads FILE anew.  One agent
    to a state directory.

    \b
    Examples:
      ntx config check agent.yaml
      ntx agent --config agent.yaml
      ntx agent --config lab.yaml --state /srv/ntx/lab
      ntx --config agent.yaml --profile lab agent
    """
    if ctx.invoked_subcommand is not None:
        if state is not None:
            raise click.UsageError(f"--state is of an agent that serves: leave it out with {ctx.invoked_subcommand}")
        return
    _serve(config_file, state, ctx.find_root().params)


def of_next_start(now: Config, begun: Config, *, with_state: bool) -> list[str]:
    """Return what is to be said of keys that no reload changes, where they are not as they were at the start."""
    changed = ["state"] if with_state and now.agent.state != begun.agent.state else []
    changed += ["log"] if now.agent.log != begun.agent.log else []
    return [f"agent.{key}: was changed: that holds once the agent is started anew" for key in changed]


def _serve(config_file: Path | None, state: Path | None, given: dict[str, Any]) -> None:
    """Serve until a signal ends it; `given` is what stood before `agent`."""
    file = config_file or given.get("config_file")
    if file is None:
        raise click.UsageError("what is to be captured, and when?  Give --config FILE: `ntx config example` begins one")
    require_libraries(of_agent=True)
    from ntxengine.agent import memory
    from ntxengine.agent.configured import Builder
    from ntxengine.agent.service import Service
    from ntxengine.cli.agent_log import open_agent_log

    def read() -> Config:
        loaded = load_file(str(file))
        for warning in [*loaded.warnings, *of_next_start(loaded.config, config, with_state=state is None)]:
            log.warning("%s", warning)
        return loaded.config.with_profile(given.get("profile"))

    config = load_file(str(file)).config
    open_agent_log(config.agent.log.format, config.agent.log.level)
    service = Service(state or Path(config.agent.state), Builder(read))
    make_room()
    memory.share_heaps()
    with without_waiting(), asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(service.run())

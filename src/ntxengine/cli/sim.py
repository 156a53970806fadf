"""`ntx sim`: a simulated cluster."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from ntxengine.cli.detached import Serving, start_detached
from ntxengine.cli.options import common_options
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FILE, FOLDER
from ntxengine.cli.streams import without_waiting
from ntxengine.errors import ToolError

try:
    from ntxengine.sim.config import SimConfig, demo_config
    from ntxengine.sim.lock import stop
    from ntxengine.sim.main import serve
except ModuleNotFoundError as missing:
    raise ToolError(f"the simulator needs {missing.name}: pip install 'ntxengine[sim]'") from missing


@click.command("sim")
@click.option(
    "--config",
    "config_file",
    type=FILE,
    metavar="FILE",
    help="What to play, in YAML (docs/quickstart.md).  Without one: a VM `demo` with two small disks.",
)
@click.option(
    "--state",
    type=FOLDER,
    default=Path("ntx-sim"),
    show_default=True,
    metavar="DIR",
    help="Where its disks, recovery points, certificates and connect.env are.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    default=9440,
    show_default=True,
    envvar="NTX_SIM_PORT",
    show_envvar=True,
    help="Port of both endpoints; 0: any that is free.",
)
@click.option("--detach", is_flag=True, help="Return when it serves, and leave it running.")
@click.option("--stop", "must_stop", is_flag=True, help="End the simulator that uses --state.")
@common_options
def sim_command(
    config_file: Path | None, state: Path, port: int, detach: bool, must_stop: bool, screen: Screen
) -> None:
    """Serve a simulated cluster until interrupted: Prism Central on 127.0.0.1 and a Prism Element on 127.0.0.2.

    Its disks are real files: a recovery point really freezes their bytes, changed regions are computed from them.  It
    writes DIR/connect.env, which sets what the other commands need.  It is no evidence about a real cluster.

    \b
    Examples:
      ntx sim --state lab --detach
      . lab/connect.env; ntx vms
      ntx sim --state lab --stop
    """
    if must_stop:
        if detach or config_file is not None:
            raise click.UsageError("--stop contradicts --detach and --config: it needs --state alone")
        number = stop(state)
        screen.note(f"stopped the simulator of process {number}")
        if screen.as_json:
            screen.result({"state": str(state.absolute()), "stopped": number})
        return
    if detach:
        _show(start_detached(config_file, state, port), state, screen, is_detached=True)
        return
    config = demo_config(state / "disks") if config_file is None else SimConfig.from_yaml(config_file)

    def ready(environment: dict[str, str]) -> None:
        _show(Serving(os.getpid(), environment), state, screen, is_detached=False)

    screen.after_work()  # whoever started it may read no more: it serves on
    with without_waiting():
        serve(config, state, port=port, ready=ready)


def _show(serving: Serving, state: Path, screen: Screen, *, is_detached: bool) -> None:
    if screen.as_json:
        screen.announce({"state": str(state.absolute()), "pid": serving.pid, "environment": serving.environment})
        return
    how_to_end = f"`ntx sim --stop --state {shlex.quote(str(state))}`" if is_detached else "Ctrl-C"
    screen.note(
        f"serving {serving.environment['NTX_PRISM']}; {how_to_end} ends it.  What other commands need is set by:"
    )
    screen.line(f". {shlex.quote(str(state / 'connect.env'))}")

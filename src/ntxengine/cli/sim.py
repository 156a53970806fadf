"""`ntx sim`: a simulated cluster."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ntxengine.cli.options import common_options
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FILE, FOLDER
from ntxengine.cli.streams import without_waiting
from ntxengine.errors import ToolError

try:
    from ntxengine.sim.config import SimConfig, demo_config
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
    default=9440,
    show_default=True,
    envvar="NTX_SIM_PORT",
    help="Port of both endpoints; 0: any that is free.",
)
@common_options
def sim_command(config_file: Path | None, state: Path, port: int, screen: Screen) -> None:
    """Serve a simulated cluster until interrupted: Prism Central on 127.0.0.1 and a Prism Element on 127.0.0.2.

    Its disks are real files: a recovery point really freezes their bytes, changed regions are computed from them.  It
    writes DIR/connect.env, which sets what the other commands need.  It is no evidence about a real cluster.

    \b
    Examples:
      ntx sim --state lab &
      . lab/connect.env; ntx vms
    """
    config = demo_config(state / "disks") if config_file is None else SimConfig.from_yaml(config_file)

    def ready(environment: dict[str, str]) -> None:
        if screen.as_json:
            screen.result({"state": str(state.absolute()), "environment": environment})
            return
        screen.note(f"serving {environment['NTX_PRISM']}; Ctrl-C ends it.  In another shell:")
        screen.line(f". {shlex.quote(str(state / 'connect.env'))}")

    screen.after_work()  # whoever started it may read no more: it serves on
    with without_waiting():
        serve(config, state, port=port, ready=ready)

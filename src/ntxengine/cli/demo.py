"""`ntx demo`: the whole workflow."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from ntxengine.cli.paths import FOLDER
from ntxengine.cli.signals import raised_as_interrupted
from ntxengine.demo.agent import AgentDemo
from ntxengine.demo.capture import CaptureDemo
from ntxengine.demo.replicate import ReplicateDemo
from ntxengine.demo.workplace import Workplace

DEMOS: dict[str, type[CaptureDemo] | type[AgentDemo] | type[ReplicateDemo]] = {
    "capture": CaptureDemo,
    "agent": AgentDemo,
    "replicate": ReplicateDemo,
}


@click.command("demo")
@click.argument("what", type=click.Choice(list(DEMOS)), default="capture", metavar="[WHAT]")
@click.option(
    "--dir",
    "folder",
    type=FOLDER,
    default=Path("demo"),
    show_default=True,
    metavar="DIR",
    help="Where to work, about 2 GiB.  What an earlier demo left there is removed first.",
)
@click.option("--temporary", is_flag=True, help="Work in a temporary directory, and remove it at the end.")
def demo_command(what: str, folder: Path, temporary: bool) -> None:
    """Run a whole workflow against the simulator, and prove what came of it.

    \b
    WHAT is one of:
      capture    a guest is captured twice, verified and restored (if nothing is said)
      agent      two VMs by a schedule; the repository is gone for a while; about two minutes
      replicate  a replica follows a guest for four cycles, a machine boots from it; a minute

    Everything is done with the commands that you would type, which are shown, and proved at the end with tools that are
    not ours: qemu-img, e2fsck, cmp.  It needs no root.  The simulator is no evidence about a real cluster.

    \b
    Examples:
      ntx demo
      ntx demo agent
      ntx demo replicate
      ntx demo --dir /var/tmp/demo
    """
    with raised_as_interrupted("the simulator is stopped"):
        if not temporary:
            DEMOS[what](Workplace(folder, click.echo)).run()
            return
        with tempfile.TemporaryDirectory(prefix="ntx-demo-") as name:
            DEMOS[what](Workplace(Path(name), click.echo, is_temporary=True)).run()

"""`ntx demo`: the whole workflow."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from ntxengine.cli.paths import FOLDER
from ntxengine.cli.signals import raised_as_interrupted
from ntxengine.demo.capture import CaptureDemo
from ntxengine.demo.workplace import Workplace


@click.command("demo")
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
def demo_command(folder: Path, temporary: bool) -> None:
    """Run the whole workflow against the simulator: capture, change, capture again, verify, restore, and prove it.

    A guest with two disks is made from files of this machine, on a simulated cluster.  Everything is done with the
    commands that you would type, which are shown, and proved at the end with qemu-img, e2fsck and cmp.  It needs no
    root.  The simulator is no evidence about a real cluster.

    \b
    Examples:
      ntx demo
      ntx demo --dir /var/tmp/demo
    """
    with raised_as_interrupted("the simulator is stopped"):
        if not temporary:
            CaptureDemo(Workplace(folder, click.echo)).run()
            return
        with tempfile.TemporaryDirectory(prefix="ntx-demo-") as name:
            CaptureDemo(Workplace(Path(name), click.echo, is_temporary=True)).run()

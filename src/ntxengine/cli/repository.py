"""`ntx repository`: taking care of a repository."""

from __future__ import annotations

from pathlib import Path

import click

from ntxengine.cli.options import common_options
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FOLDER
from ntxengine.cli.run import run
from ntxengine.repository import Repository


@click.group("repository")
def repository_command() -> None:
    """Take care of a repository: make a copy of one a repository of its own.

    \b
    Examples:
      ntx repository adopt /mnt/copy
      ntx repository adopt /mnt/copy --json
    """


@repository_command.command("adopt")
@click.argument("repository", type=FOLDER, metavar="REPO")
@common_options
def adopt_command(repository: Path, screen: Screen) -> None:
    """Make REPO, a copy of another repository, a repository of its own, with a new id.

    Its points stay as they are, and captures go on from them.  What recovery points the original has on a cluster is
    the original's business: nothing removes them from here.

    \b
    Example:
      ntx repository adopt /mnt/copy
    """
    adopted = run(Repository.adopt(repository))
    screen = screen.after_work()
    if screen.as_json:
        screen.result({"repository": str(adopted.path), "repository_id": adopted.id})
    else:
        screen.line(f"{adopted.path} is a repository of its own: its id is {adopted.id}")

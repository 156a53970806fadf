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
    """Take care of a repository: make one, or make a copy of one a repository of its own.

    \b
    Examples:
      ntx repository create /mnt/backups
      ntx repository adopt /mnt/copy
      ntx repository adopt /mnt/copy --json
    """


@repository_command.command("create")
@click.argument("repository", type=FOLDER, metavar="REPO")
@common_options
def create_command(repository: Path, screen: Screen) -> None:
    """Make REPO, a new or empty directory, a repository.

    `ntx capture` makes the one that it is given, and so does the agent; but not in an empty directory that nothing is
    mounted on: that may be a mount point.

    \b
    Example:
      ntx repository create /mnt/backups
    """
    made = run(Repository.create(repository))
    screen = screen.after_work()
    if screen.as_json:
        screen.result({"repository": str(made.path), "repository_id": made.id})
    else:
        screen.line(f"{made.path} is a repository: its id is {made.id}")


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

"""`ntx agent install` and `uninstall`: the agent as a service of this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from ntxengine import __version__
from ntxengine.cli.defaults import load_file, require_libraries
from ntxengine.cli.options import common_options, dry_run_option
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FILE, FOLDER

prefix_option = click.option(
    "--prefix", type=FOLDER, default="/opt/ntx", show_default=True, metavar="DIR", help="Where its programs lie."
)
root_option = click.option(
    "--root",
    type=FOLDER,
    default="/",
    metavar="DIR",
    help="Take DIR for / of the machine: nothing is started, and no user made.",
)


@click.command("install")
@click.option("--from", "folder", type=FOLDER, required=True, metavar="DIR", help="Release folder.")
@click.option(
    "--config", type=FILE, metavar="FILE", help="Configuration to install as /etc/ntx/agent.yaml; else that one stays."
)
@prefix_option
@click.option("--user", default="ntx", show_default=True, metavar="NAME", help="User that the service runs as.")
@click.option("--python", type=FILE, metavar="FILE", help="Python to make it with; that of this ntx, if none is given.")
@click.option("--start/--no-start", default=True, help="Start the service at the end, or not.")
@root_option
@dry_run_option
@common_options
def install_command(
    folder: Path,
    config: Path | None,
    prefix: Path,
    user: str,
    python: Path | None,
    start: bool,
    root: Path,
    dry_run: bool,
    screen: Screen,
) -> None:
    """Install the agent as a service of systemd from a release folder, or bring it to that release's version.

    The folder's checksums are compared first.  The version is made beside the one that runs; then link, unit and
    configuration are switched, and the service is started anew: what runs has two minutes to end.  Where the new
    version does not start, everything is put back and the old one started again.  A second time it changes nothing.

    \b
    Examples:
      ntx agent install --from ntx-0.1.0 --config agent.yaml -n
      ntx agent install --from ntx-0.1.0 --config agent.yaml
    """
    require_libraries()
    from ntxengine.deploy.install import Installation, InstallOptions
    from ntxengine.deploy.places import Places
    from ntxengine.deploy.release import open_release

    release = open_release(folder)
    if release.version != __version__:
        _by_its_own(release.script, click.get_current_context().params)
    places = Places(root.absolute(), prefix.absolute())
    options = InstallOptions(None if config is None else config.absolute(), user, python, start)
    installation = Installation(places, release, options)
    report = installation.look() if dry_run else installation.run()
    if screen.as_json:
        screen.result(
            {
                "version": report.version,
                "before": report.before,
                "changes": report.changes,
                "is_started": report.is_started,
                "to_do": report.to_do,
                "dry_run": dry_run,
            }
        )
        return
    for change in report.changes:
        screen.line(f"{'would ' if dry_run else ''}{change}")
    if not report.changes:
        screen.line(f"version {report.version} is installed as it should be")
    for step in report.to_do:
        screen.line(f"to do: {step}")


def _by_its_own(script: Path, given: dict[str, Any]) -> NoReturn:
    """Let a release of another version install itself, with the same options: what it needs is known to it alone."""
    words = [f"--{name}={given[name]}" for name in ("prefix", "user", "root", "config", "python") if given[name]]
    words += ["--start" if given["start"] else "--no-start"]
    flags = {"dry_run": "--dry-run", "as_json": "--json", "quiet": "--quiet", "debug": "--debug"}
    words += [flag for name, flag in flags.items() if given.get(name)]
    os.execv("/bin/sh", ["sh", str(script), *words])


@click.command("unit")
@click.option("--config", type=FILE, metavar="FILE", help="Configuration of the agent; else /etc/ntx/agent.yaml.")
@click.option("--user", default="ntx", show_default=True, metavar="NAME", help="User that the service runs as.")
@click.option("--ntx", "program", type=FILE, metavar="FILE", help="The program; this ntx, if none is given.")
def unit_command(config: Path | None, user: str, program: Path | None) -> None:
    """Print the unit of systemd, for an ntx that was installed by other means: with pip, in an image.

    With --config it may write the folders that FILE names, and read hot-added disks if FILE names a worker VM.

    \b
    Example:
      ntx agent unit --config /etc/ntx/agent.yaml > /etc/systemd/system/ntx-agent.service
    """
    require_libraries()
    from ntxengine.deploy.needs import needs_of
    from ntxengine.deploy.places import CONFIG
    from ntxengine.deploy.unit import Filled, drop_ins, unit_text

    needs = None if config is None else needs_of(load_file(str(config)).config)
    filled = Filled(
        program or Path(sys.executable).parent / "ntx", CONFIG if config is None else config.absolute(), user
    )
    parts = [unit_text(filled), *({} if needs is None else drop_ins(needs)).values()]
    click.echo("\n".join(parts), nl=False)


@click.command("uninstall")
@prefix_option
@click.option("--purge", is_flag=True, help="Remove the configuration and what the agent remembers, too.")
@root_option
@dry_run_option
@common_options
def uninstall_command(prefix: Path, purge: bool, root: Path, dry_run: bool, screen: Screen) -> None:
    """Stop the service, and remove what `ntx agent install` wrote.  No repository is ever touched.

    What runs has two minutes to end.  The user stays, because the files of the repository are its.

    \b
    Example:
      ntx agent uninstall -n
    """
    require_libraries()
    from ntxengine.deploy.places import Places
    from ntxengine.deploy.uninstall import Removal

    removal = Removal(Places(root.absolute(), prefix.absolute()), purge=purge)
    report = removal.look() if dry_run else removal.run()
    if screen.as_json:
        screen.result({"removed": report.removed, "stays": report.stays, "dry_run": dry_run})
        return
    for path in report.removed:
        screen.line(f"{'would remove' if dry_run else 'removed'} {path}")
    for what in report.stays:
        screen.line(f"stays: {what}")

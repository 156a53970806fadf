"""`ntx sweep`: what a killed capture left behind."""

from __future__ import annotations

import logging
from pathlib import Path

import click
from click.core import ParameterSource

from ntxengine.api.cluster import find_vm
from ntxengine.attach import AttachOptions
from ntxengine.cli.errors import SomeFailed
from ntxengine.cli.options import (
    common_options,
    dry_run_option,
    repository_option,
    table_option,
)
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FOLDER
from ntxengine.cli.prism_options import PrismOptions, optional_prism_options
from ntxengine.cli.run import run
from ntxengine.cli.session import Login, connected, login
from ntxengine.cli.table import Column
from ntxengine.cli.text import plural, printable
from ntxengine.errors import NotFoundError
from ntxengine.repository import Repository
from ntxengine.sweep import FILES, SweepReport, Swept, sweep, sweep_directory

log = logging.getLogger(__name__)

COLUMNS = [Column("WHAT"), Column("ID"), Column("NAME", shrinks=True), Column("VM")]


@click.command("sweep")
@click.argument("directory", required=False, type=FOLDER)
@repository_option(required=False)
@click.option(
    "--worker",
    envvar="NTX_WORKER",
    show_envvar=True,
    metavar="VM",
    help="A VM to look for hot-added disks on, besides those that are recorded.",
)
@click.option(
    "--unfinished", is_flag=True, help="Give up captures that were interrupted and that the next one could go on with."
)
@optional_prism_options
@dry_run_option
@common_options
@table_option
def sweep_command(
    directory: Path | None,
    repository: Path | None,
    worker: str | None,
    unfinished: bool,
    prism: PrismOptions | None,
    dry_run: bool,
    screen: Screen,
) -> None:
    """Remove what a killed capture left in a repository: unfinished points, recovery points, hot-added disks.

    From the cluster only what this directory recorded is removed, and nothing of a VM that is being captured now.  The
    recovery point that the next capture needs as its reference stays.  So does a capture that was interrupted and that
    the next one can go on with, unless --unfinished gives it up, or its recovery point has expired.  Without --prism
    only the repository is swept.

    A DIRECTORY that is no repository is swept of the unfinished files that killed copies and restores left in it.

    \b
    Examples:
      ntx sweep --repository /backups -n
      ntx sweep /restored
    """
    opened = run(_open(_folder(directory, repository), must_be_one=directory is None))
    if opened is None:
        assert directory is not None
        _tell(run(sweep_directory(directory, dry_run=dry_run)), screen)
        return
    if prism is None:
        screen.note("no --prism: the cluster is not swept")
    prism_login = None if prism is None else login(prism, screen)
    report = run(_sweep(opened, worker, prism_login, dry_run, gives_up=unfinished))
    _tell(report, screen)


def _folder(directory: Path | None, repository: Path | None) -> Path:
    """Return what is to be swept.  Errors: UsageError."""
    source = click.get_current_context().get_parameter_source("repository")
    if directory is not None and source is ParameterSource.COMMANDLINE:
        raise click.UsageError("give DIRECTORY or --repository, not both")
    folder = directory or repository
    if folder is None:
        raise click.UsageError("Missing option '--repository', or a DIRECTORY to sweep")
    return folder


async def _open(folder: Path, *, must_be_one: bool) -> Repository | None:
    """Return the repository that a folder is; None if it is none, and need not be."""
    try:
        return await Repository.open(folder)
    except NotFoundError:
        if must_be_one:
            raise
        return None


def _tell(report: SweepReport, screen: Screen) -> None:
    if not report.dry_run:
        screen = screen.after_work(is_good=not report.problems)
    if screen.as_json:
        screen.result(_fields(report))
    else:
        _show(report, screen)
    for problem in report.problems:
        log.error("%s", problem)
    if report.problems:
        raise SomeFailed(f"{plural(len(report.problems), 'thing')} could not be removed: {report.problems[0]}")


async def _sweep(
    repository: Repository, worker: str | None, prism_login: Login | None, dry_run: bool, *, gives_up: bool
) -> SweepReport:
    if prism_login is None:
        return await sweep(None, repository, gives_up=gives_up, dry_run=dry_run)
    async with connected(prism_login) as cluster:
        worker_id = "" if worker is None else (await find_vm(cluster, worker)).id
        attach = AttachOptions(worker_id)
        return await sweep(cluster.prism, repository, attach=attach, gives_up=gives_up, dry_run=dry_run)


def _fields(report: SweepReport) -> dict[str, object]:
    """Return a report as `--json` has it."""
    return {
        "dry_run": report.dry_run,
        "removed": [_swept_fields(each) for each in report.removed],
        "locked_vm_ids": report.locked_vms,
        "problems": report.problems,
        "not_recorded": [_swept_fields(each) for each in report.not_recorded],
        "in_use": report.in_use,
        "resumable": [_swept_fields(each) for each in report.resumable],
        "protected": [{**_swept_fields(swept), "reason": reason} for swept, reason in report.protected],
    }


def _swept_fields(swept: Swept) -> dict[str, str]:
    """Return one thing, its id under a name that says what it identifies."""
    what = swept.kind.removeprefix("unfinished-").removeprefix("removed-")
    id_name = "path" if swept.kind in FILES else f"{what.replace('-', '_')}_id"
    return {"kind": swept.kind, id_name: swept.id, "name": swept.name, "vm_id": swept.vm_id}


def _show(report: SweepReport, screen: Screen) -> None:
    if report.removed:
        screen.table(COLUMNS, [[each.kind, each.id, each.name, each.vm_id] for each in report.removed])
    screen.line(f"{'would remove' if report.dry_run else 'removed'} {plural(len(report.removed), 'thing')}")
    if report.not_recorded:
        screen.note(
            f"{plural(len(report.not_recorded), 'recovery point')} left alone, as nothing here records them: of a copy "
            f"of this repository, or of an older ntx; delete by hand what nobody needs, or let it expire: "
            f"{', '.join(f'{each.name} ({each.id})' for each in report.not_recorded)}"
        )
    for swept, reason in report.protected:
        screen.note(f"{swept.kind} {swept.id} ({printable(swept.name)}) is kept by the cluster: {printable(reason)}")
    for swept in report.resumable:
        screen.note(
            f"point {swept.id} of VM {swept.vm_id} was interrupted, and the next capture goes on with it: left alone; "
            f"--unfinished gives it up"
        )
    for path in report.in_use:
        screen.note(f"{path} is being written: left alone")
    for vm_id in report.locked_vms:
        screen.note(f"VM {vm_id} is being captured: left alone")

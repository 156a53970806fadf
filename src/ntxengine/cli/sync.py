"""`ntx sync`: the points that another repository lacks, written there."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from ntxengine.cli import complete
from ntxengine.cli.errors import SomeFailed
from ntxengine.cli.event_view import PruneEvents
from ntxengine.cli.figures import UNKNOWN
from ntxengine.cli.options import (
    common_options,
    dry_run_option,
    limit_options,
    parallel_option,
    repository_option,
    table_option,
)
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FOLDER
from ntxengine.cli.points import find_vm_id
from ntxengine.cli.run import run
from ntxengine.cli.table import Column
from ntxengine.cli.text import plural, printable
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.errors import NotFoundError
from ntxengine.repository import Repository
from ntxengine.sync import SyncedPoint, SyncOptions, SyncReport, VmSynced, check_apart, sync
from ntxengine.units import format_size, format_time

log = logging.getLogger(__name__)

COLUMNS = [
    Column("POINT"),
    Column("VM", shrinks=True),
    Column("FROZEN"),
    Column("WHAT", fold=True),
    Column("STORED", right=True),
]


@click.command("sync")
@click.argument("target", metavar="REPOSITORY", type=FOLDER)
@repository_option("--from")
@click.option(
    "--vm", "names", multiple=True, metavar="VM", shell_complete=complete.points, help="Only this VM; repeatable."
)
@parallel_option
@limit_options
@dry_run_option
@common_options
@table_option
def sync_command(
    target: Path,
    repository: Path,
    names: tuple[str, ...],
    parallel: int,
    bandwidth: Bandwidth | None,
    dry_run: bool,
    screen: Screen,
) -> None:
    """Write the points that REPOSITORY lacks into it: on another disk, on NFS.  It is made where there is none.

    What is forgotten here is not copied, and nothing is removed there: each repository has its own `ntx forget` and
    `ntx prune`.  Each point is compared with the digests of its capture while it is read, and read back there.  Tags,
    holds and what audits found go with it.  Interrupted, the same command goes on.

    \b
    Examples:
      ntx sync /mnt/offsite --from /backups
      ntx sync /mnt/offsite --from /backups --vm db01 -n
    """
    options = SyncOptions(parallel=parallel, bandwidth=bandwidth or 0)
    report, is_new = run(_sync(repository, target, names, options, screen, dry_run=dry_run))
    if is_new:
        screen.note(f"{target}: {'would become' if dry_run else 'is now'} a repository")
    _tell(report, screen, is_new=is_new)


async def _sync(
    path: Path, target: Path, names: tuple[str, ...], options: SyncOptions, screen: Screen, *, dry_run: bool
) -> tuple[SyncReport, bool]:
    """Return what became of the points, and whether the target had to become a repository first."""
    here = await Repository.open(path)
    vm_ids = [await find_vm_id(here, name, screen) for name in names] or await here.vm_ids()
    await to_thread_joined(check_apart, path, target)  # before it is made
    there, is_new = await _open(target, dry_run=dry_run)
    with screen.view() as view:
        report = await sync(
            here, there, list(dict.fromkeys(vm_ids)), options=options, dry_run=dry_run, on_event=PruneEvents(view)
        )
    return report, is_new


async def _open(target: Path, *, dry_run: bool) -> tuple[Repository | None, bool]:
    """Return the repository to copy to, None if a dry run would make it; and whether there was none."""
    try:
        return await Repository.open(target), False
    except NotFoundError:
        if not dry_run:
            return await Repository.open(target, create=True), True
        await Repository.check_creatable(target)
        return None, True


def _tell(report: SyncReport, screen: Screen, *, is_new: bool) -> None:
    if len(report.vms) == 1 and report.vms[0].error is not None:
        raise report.vms[0].error
    problems = [problem for vm in report.vms for problem in vm.problems]
    if not report.dry_run:
        screen = screen.after_work(is_good=not problems)
    if screen.as_json:
        screen.result({"new_repository": is_new, **_fields(report)})
    else:
        rows = [_row(each, dry_run=report.dry_run) for vm in report.vms for each in vm.points]
        if rows:
            screen.table(COLUMNS, rows)
        copied = sum(not each.problem for vm in report.vms for each in vm.points)
        present = sum(vm.present for vm in report.vms)
        verb = "would copy" if report.dry_run else "copied"
        screen.line(f"{verb} {plural(copied, 'point')}; {present} were there already")
    for problem in problems:
        log.error("%s", problem)
    if problems:
        raise SomeFailed(f"not all was copied: {problems[0]}")


def _row(each: SyncedPoint, *, dry_run: bool) -> list[str]:
    point = each.point
    what = "not copied" if each.problem else "would be copied" if dry_run else "copied"
    stored = UNKNOWN if dry_run or each.problem else format_size(each.bytes_stored)
    return [point.id, printable(point.vm_name), format_time(point.created_at), what, stored]


def _fields(report: SyncReport) -> dict[str, object]:
    return {
        "dry_run": report.dry_run,
        "seconds": round(report.seconds, 3),
        "vms": [_vm_fields(vm) for vm in report.vms],
    }


def _vm_fields(vm: VmSynced) -> dict[str, object]:
    return {
        "vm_id": vm.vm_id,
        "vm_name": vm.vm_name,
        "problem": vm.problem,
        "points_present": vm.present,
        "points": [_point_fields(each) for each in vm.points],
    }


def _point_fields(each: SyncedPoint) -> dict[str, object]:
    return {"point_id": each.point.id, "bytes_stored": each.bytes_stored, "problem": each.problem}

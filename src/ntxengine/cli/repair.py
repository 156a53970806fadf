"""`ntx repair`: the safe part of mending a repository."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from ntxengine.check import Repair, RepairReport, repair_repository
from ntxengine.cli import complete
from ntxengine.cli.check import finding_fields, raise_if_damaged, show_findings
from ntxengine.cli.errors import SomeFailed
from ntxengine.cli.event_view import CheckEvents
from ntxengine.cli.options import common_options, dry_run_option, repository_option, table_option
from ntxengine.cli.output import Screen
from ntxengine.cli.run import run
from ntxengine.cli.text import plural

log = logging.getLogger(__name__)


@click.command("repair")
@click.argument("vm", required=False, shell_complete=complete.vms)
@repository_option()
@dry_run_option
@common_options
@table_option
def repair_command(vm: str | None, repository: Path, dry_run: bool, screen: Screen) -> None:
    """Mend what `ntx check` finds and can be mended safely; what that is, is said before anything is changed.

    The catalog is made anew.  What killed captures, prunes and changes of files have left is removed, but nothing that
    a capture can go on with.  A point.json whose replacement was interrupted is settled, and images record what is
    below them now.  No byte of a disk is changed, and nothing of a VM that is being captured or pruned.

    What a person has to mend is named, with what to do, and the exit code is 3.

    \b
    Examples:
      ntx repair -n --repository /backups
      ntx repair db01 --repository /backups
    """
    report = run(_repair(repository, vm, screen, dry_run=dry_run))
    if not dry_run:
        screen = screen.after_work(is_good=not report.failed and not report.remaining)
    if screen.as_json:
        screen.result(_fields(report))
    else:
        show_findings(report.remaining, report.path, screen)
        done = len(report.repairs) - len(report.failed)
        screen.line(f"{'would mend' if dry_run else 'mended'} {plural(done, 'thing')}")
    for each in report.failed:
        log.error("%s: not mended: %s", each.finding.path, each.problem)
    if report.failed:
        first = report.failed[0]
        text = f"{plural(len(report.failed), 'thing')} could not be mended: {first.finding.path}: {first.problem}"
        raise SomeFailed(text)
    raise_if_damaged(report.remaining, some_whole=True)


async def _repair(repository: Path, vm: str | None, screen: Screen, *, dry_run: bool) -> RepairReport:
    def tell(report: RepairReport) -> None:
        if not screen.as_json and not screen.quiet:
            show_findings([each.finding for each in report.repairs], report.path, screen)

    with screen.view() as view:
        return await repair_repository(repository, vm, dry_run=dry_run, on_plan=tell, on_event=CheckEvents(view))


def _fields(report: RepairReport) -> dict[str, object]:
    return {
        "repository": str(report.path),
        "dry_run": report.dry_run,
        "repairs": [_repair_fields(each) for each in report.repairs],
        "remaining": [finding_fields(each) for each in report.remaining],
    }


def _repair_fields(repair: Repair) -> dict[str, object]:
    """Return a repair; why it was not done stands beside what was found."""
    return {**finding_fields(repair.finding), "outcome": repair.outcome, "reason": repair.problem}

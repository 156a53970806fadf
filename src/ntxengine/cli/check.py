"""`ntx check`: whether all of a repository is there and as it was written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ntxengine.check import CheckReport, DataOptions, check_repository
from ntxengine.cli import complete
from ntxengine.cli.errors import SomeFailed
from ntxengine.cli.event_view import CheckEvents
from ntxengine.cli.options import (
    TransferOptions,
    common_options,
    parallel_option,
    repository_option,
    table_option,
    transfer_options,
)
from ntxengine.cli.output import Screen
from ntxengine.cli.run import run
from ntxengine.cli.table import Column
from ntxengine.cli.text import plural
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.errors import RepositoryError
from ntxengine.repository import Finding, Severity
from ntxengine.units import format_size, share_of
from ntxengine.verify import Sampling

COLUMNS = [
    Column("SEVERITY"),
    Column("PATH", fold=True),
    Column("WHAT", fold=True),
    Column("REMEDY", fold=True),
    Column("KIND", wide=True),
    Column("VM UUID", wide=True),
    Column("POINT", wide=True),
]

ALL = "all"


class Amount(click.ParamType[float]):
    """A share of the data, 1.0 for `all`."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        share = 1.0 if text == ALL else share_of(text)
        if share is None or not 0 < share <= 1:
            self.fail(f"{value!r} is neither a share of a disk, such as 5%, nor {ALL}", param, ctx)
        return share


@click.command("check")
@click.argument("vm", required=False, shell_complete=complete.vms)
@repository_option()
@click.option(
    "--read-data",
    type=Amount(),
    metavar="SHARE|all",
    help="Also read so much of each disk (5%), each time another part; or all of it.",
)
@parallel_option
@transfer_options
@common_options
@table_option
def check_command(
    vm: str | None,
    repository: Path,
    read_data: float | None,
    parallel: int,
    transfer: TransferOptions,
    screen: Screen,
) -> None:
    """Look for what is missing, damaged or left behind in a repository, or in what it holds of VM (a name or a UUID).
    Nothing is changed.

    Every small file is compared with its digest, every manifest with its own, the header of every image with its point;
    the catalog with the directory; and each name is to be one that ntx gives.  --read-data lets qemu check the tables
    of every image, and reads blocks of the disks as `ntx verify` does.

    \b
    damage     bytes are missing, or are not what was written: exit code 3, or 1 if nothing is whole
    leftover   left by something that was killed: `ntx repair` removes it
    note       worth knowing

    \b
    Examples:
      ntx check --repository /backups
      ntx check db01 --repository /backups --read-data 5% --json
    """
    data = None
    if read_data is not None:
        sampling = Sampling(share=read_data) if read_data < 1 else None
        data = DataOptions(sampling, transfer.over(CopyOptions()), parallel)
    report = run(_check(repository, vm, data, screen))
    if screen.as_json:
        screen.result(_fields(report))
    else:
        show_findings(report.findings, report.path, screen)
        screen.note(_summary(report))
    raise_if_damaged(report.of(Severity.DAMAGE), some_whole=report.points_whole > 0)


async def _check(repository: Path, vm: str | None, data: DataOptions | None, screen: Screen) -> CheckReport:
    with screen.view() as view:
        return await check_repository(repository, vm, data=data, on_event=CheckEvents(view))


def show_findings(findings: Sequence[Finding], root: Path, screen: Screen) -> None:
    """Print what was found, with paths as they are in the repository."""
    if findings:
        screen.table(COLUMNS, [_row(each, root) for each in findings])


def raise_if_damaged(damage: Sequence[Finding], *, some_whole: bool) -> None:
    """Raise for the first thing that is damaged; all of them were told.  Errors: SomeFailed, RepositoryError."""
    if not damage:
        return
    first = damage[0]
    more = f"; {plural(len(damage) - 1, 'other thing')} damaged too" if len(damage) > 1 else ""
    text = f"{first.path}: {first.problem}{more}"
    raise SomeFailed(text) if some_whole else RepositoryError(text)


def finding_fields(finding: Finding) -> dict[str, object]:
    """Return a finding as `--json` has it."""
    return {
        "severity": finding.severity.value,
        "kind": finding.kind,
        "path": str(finding.path),
        "problem": finding.problem,
        "remedy": finding.remedy,
        "vm_id": finding.vm_id or None,
        "point_id": finding.point_id or None,
    }


def _row(finding: Finding, root: Path) -> list[str]:
    path = str(finding.path.relative_to(root)) if finding.path != root else str(root)
    return [
        finding.severity.value,
        path,
        finding.problem,
        finding.remedy,
        finding.kind,
        finding.vm_id,
        finding.point_id,
    ]


def _summary(report: CheckReport) -> str:
    counts = ", ".join(f"{severity.value}: {len(report.of(severity))}" for severity in Severity)
    read = "" if report.bytes_read is None else f"; {format_size(report.bytes_read)} of disks read"
    whole = f"{report.points_whole} of {plural(report.points, 'point')} of {plural(report.vms, 'VM')} have no damage"
    left = "; `ntx repair` removes what was left" if report.of(Severity.LEFTOVER) else ""
    return f"{whole}; {counts}{read}{left}"


def _fields(report: CheckReport) -> dict[str, object]:
    return {
        "repository": str(report.path),
        "findings": [finding_fields(each) for each in report.findings],
        "counts": {severity.value: len(report.of(severity)) for severity in Severity},
        "vms": report.vms,
        "points": report.points,
        "points_whole": report.points_whole,
        "bytes_read": report.bytes_read,
    }

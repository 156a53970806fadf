"""`ntx prune`: the space of forgotten points, given back."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ntxengine.cli import complete
from ntxengine.cli.errors import SomeFailed
from ntxengine.cli.event_view import PruneEvents
from ntxengine.cli.options import (
    Function,
    common_options,
    dry_run_option,
    limit_options,
    parallel_option,
    repository_option,
    table_option,
)
from ntxengine.cli.output import Screen
from ntxengine.cli.points import find_vm_id
from ntxengine.cli.run import run
from ntxengine.cli.sampling import Duration
from ntxengine.cli.table import Column
from ntxengine.cli.text import plural, printable
from ntxengine.cli.values import failing_with
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.prune import DEFAULT_MAX_WASTE, Merged, PruneOptions, PruneReport, VmPruned, prune
from ntxengine.repository import Point, Repository
from ntxengine.units import format_size, parse_share

log = logging.getLogger(__name__)

COLUMNS = [
    Column("POINT"),
    Column("VM", shrinks=True),
    Column("WHAT", fold=True),
    Column("WRITTEN", right=True),
    Column("FREED", right=True),
]


class Waste(click.ParamType[float]):
    """A share from 0% to 100%."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        with failing_with(self, param, ctx):
            return parse_share(str(value))


def waste_option(function: Function) -> Function:
    """Add --max-waste, as a part of 1."""
    return click.option(
        "--max-waste",
        type=Waste(),
        metavar="SHARE",
        default=DEFAULT_MAX_WASTE,
        help=f"Put off what would free less than this share of what it has to write ({DEFAULT_MAX_WASTE:.0%}).",
    )(function)


@click.command("prune")
@click.argument("names", nargs=-1, metavar="[VM]...", shell_complete=complete.points)
@click.option("--all", "every", is_flag=True, help="All VMs of the repository.")
@repository_option("--from")
@waste_option
@click.option(
    "--wait", "wait_s", type=Duration(), metavar="TIME", default=None, help="Wait so long (1h) for a VM that is locked."
)
@parallel_option
@limit_options
@dry_run_option
@common_options
@table_option
def prune_command(
    names: tuple[str, ...],
    every: bool,
    repository: Path,
    max_waste: float,
    wait_s: float | None,
    parallel: int,
    bandwidth: Bandwidth | None,
    dry_run: bool,
    screen: Screen,
) -> None:
    """Give back the space of points that are forgotten (`ntx forget`).

    What a point needs of forgotten points below it is put into new images of its own, which are read back; then those
    are removed.  That is put off until it frees enough for what it writes: --max-waste 0% does it always.  What nothing
    is on top of is removed at once, and what somebody reads from by the next prune.

    Killed at any moment nothing is lost: the next prune goes on.

    \b
    Examples:
      ntx prune --all --from /backups -n
      ntx prune db01 --from /backups --max-waste 5%
    """
    if every == bool(names):
        raise click.UsageError("name a VM, or give --all" if not every else "--all and a VM contradict each other")
    options = PruneOptions(max_waste=max_waste, parallel=parallel, bandwidth=bandwidth or 0, wait_s=wait_s or 0)
    _tell(run(prune_named(repository, names, options, screen, dry_run=dry_run)), screen)


async def prune_named(
    path: Path, names: Sequence[str], options: PruneOptions, screen: Screen, *, dry_run: bool
) -> PruneReport:
    """Prune VMs by their names, or all if none is named."""
    repository = await Repository.open(path)
    vm_ids = [await find_vm_id(repository, name, screen) for name in names] or await repository.vm_ids()
    with screen.view() as view:
        return await prune(
            repository, list(dict.fromkeys(vm_ids)), options=options, dry_run=dry_run, on_event=PruneEvents(view)
        )


def _tell(report: PruneReport, screen: Screen) -> None:
    if len(report.vms) == 1 and report.vms[0].error is not None:
        raise report.vms[0].error
    if not report.dry_run:
        screen = screen.after_work(is_good=not problems_of(report))
    if screen.as_json:
        screen.result(prune_fields(report))
    else:
        show_pruned(report, screen)
    raise_if_not_all(report)


def show_pruned(report: PruneReport, screen: Screen) -> None:
    """Show what became of the points, as a person reads it."""
    rows = [row for vm in report.vms for row in _rows(vm, dry_run=report.dry_run)]
    if rows:
        screen.table(COLUMNS, rows)
    screen.line(_summary(report))


def problems_of(report: PruneReport) -> list[str]:
    """Return everything that went wrong, one line each."""
    return [problem for vm in report.vms for problem in vm.problems]


def raise_if_not_all(report: PruneReport) -> None:
    """Errors: SomeFailed, if something went wrong."""
    problems = problems_of(report)
    for problem in problems:
        log.error("%s", problem)
    if problems:
        raise SomeFailed(f"not all could be pruned: {problems[0]}")


def _summary(report: PruneReport) -> str:
    gone = plural(sum(len(vm.removed) for vm in report.vms), "point")
    if report.dry_run:
        return f"would remove {gone}"
    in_use = sum(len(vm.in_use) for vm in report.vms)
    later = f"; {plural(in_use, 'point')} still read by somebody, left to the next prune" if in_use else ""
    return f"removed {gone}, freed {format_size(max(0, report.bytes_freed))}{later}"


def _rows(vm: VmPruned, *, dry_run: bool) -> list[list[str]]:
    name = printable(vm.vm_name)
    rows = [[each.merge.point.id, name, _what(each, dry_run=dry_run), *_amounts(each)] for each in vm.merged]
    rows += [[point.id, name, "would be removed" if dry_run else "removed", "", ""] for point in vm.removed]
    rows += [[point.id, name, "left to the next prune: somebody reads from it", "", ""] for point in vm.in_use]
    return rows


def _what(each: Merged, *, dry_run: bool) -> str:
    below = plural(len(each.merge.below), "forgotten point")
    if each.problem:
        return f"could not take over {below}"
    if each.put_off:
        return f"put off: {below} below it are not worth it yet"
    return f"{'would take' if dry_run else 'took'} over {below}"


def _amounts(each: Merged) -> list[str]:
    return [format_size(each.cost.bytes_written), format_size(max(0, each.cost.bytes_freed))]


def prune_fields(report: PruneReport) -> dict[str, object]:
    """Return a report as `--json` has it."""
    return {
        "dry_run": report.dry_run,
        "bytes_freed": report.bytes_freed,
        "seconds": round(report.seconds, 3),
        "vms": [
            {
                "vm_id": vm.vm_id,
                "vm_name": vm.vm_name,
                "problem": vm.problem,
                "merged": [_merged_fields(each) for each in vm.merged],
                "removed_point_ids": _ids(vm.removed),
                "in_use_point_ids": _ids(vm.in_use),
            }
            for vm in report.vms
        ],
    }


def _merged_fields(each: Merged) -> dict[str, object]:
    return {
        "point_id": each.merge.point.id,
        "taken_over_point_ids": _ids(each.merge.below),
        "put_off": each.put_off,
        "problem": each.problem,
        **dataclasses.asdict(each.cost),
    }


def _ids(points: Sequence[Point]) -> list[str]:
    return [point.id for point in points]

"""`ntx stats`: what a repository takes, and for how long there is room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from ntxengine.cli import complete
from ntxengine.cli.figures import UNKNOWN
from ntxengine.cli.options import common_options, repository_option, table_option
from ntxengine.cli.output import Screen
from ntxengine.cli.points import find_vm_id
from ntxengine.cli.run import run
from ntxengine.cli.table import Column
from ntxengine.repository import Repository
from ntxengine.stats import PointSpace, RepositorySpace, VmSpace, repository_stats
from ntxengine.units import format_size, format_time

VM_COLUMNS = [
    Column("VM", shrinks=True),
    Column("POINTS", right=True),
    Column("TAKES", right=True),
    Column("DISKS", right=True),
    Column("REDUCTION", right=True),
    Column("COMPRESSED", right=True),
    Column("FORGOTTEN", right=True),
    Column("A DAY", right=True),
    Column("VM UUID", wide=True),
    Column("UNFINISHED", right=True, wide=True),
    Column("UNREADABLE", right=True, wide=True),
]
POINT_COLUMNS = [
    Column("POINT"),
    Column("KIND"),
    Column("DISKS", right=True),
    Column("TAKES", right=True),
    Column("SENT", right=True),
    Column("STORED", right=True),
    Column("STATE"),
    Column("FROZEN", wide=True),
]


@click.command("stats")
@click.argument("vm", required=False, shell_complete=complete.vms)
@repository_option()
@common_options
@table_option
def stats_command(vm: str | None, repository: Path, screen: Screen) -> None:
    """Show what each VM takes in a repository, or each point of VM (a name or a UUID); how much a day adds, and for how
    many days there is room.

    What a file takes is what its file system says.  Nothing but names and the catalog is read.

    The growth is that of the last 30 days, without what pruning frees; of points that are less than a day apart nobody
    can tell.

    \b
    Examples:
      ntx stats --repository /backups
      ntx stats db01 --repository /backups --json
    """
    found = run(_look(repository, vm, screen))
    if screen.as_json:
        screen.result(_fields(found))
        return
    if vm is None:
        screen.table(VM_COLUMNS, [_vm_row(each) for each in found.vms])
    else:
        screen.table(POINT_COLUMNS, [_point_row(point) for each in found.vms for point in each.points])
    screen.line()
    screen.pairs(_totals(found))
    for each in found.vms:
        if each.retention_problem:
            screen.warning(each.retention_problem)


async def _look(repository: Path, vm: str | None, screen: Screen) -> RepositorySpace:
    opened = await Repository.open(repository)
    return await repository_stats(opened, None if vm is None else await find_vm_id(opened, vm, screen))


def _vm_row(vm: VmSpace) -> list[str]:
    totals = vm.totals
    return [
        vm.vm_name,
        str(len(vm.points)),
        format_size(vm.bytes_all),
        format_size(vm.points[-1].size) if vm.points else UNKNOWN,
        _times(totals.reduction),
        _percent(totals.compression),
        "?" if vm.retention_problem else format_size(totals.bytes_forgotten),
        _a_day(vm.per_day),
        vm.vm_id,
        format_size(vm.bytes_unfinished),
        format_size(vm.bytes_unreadable),
    ]


def _point_row(point: PointSpace) -> list[str]:
    return [
        point.point_id,
        point.kind,
        format_size(point.size),
        format_size(point.bytes_own),
        _size(point.bytes_captured),
        _size(point.bytes_stored),
        "forgotten" if point.is_forgotten else "kept",
        format_time(point.created_at),
    ]


def _totals(found: RepositorySpace) -> Iterator[tuple[str, str]]:
    totals = found.totals
    yield "points take", f"{format_size(found.bytes_all)}, {_times(totals.reduction)} less than their disks"
    if totals.compression is not None:
        sent = format_size(totals.bytes_captured)
        yield (
            "compression",
            f"{format_size(totals.bytes_stored)} are stored of {sent} sent, {_percent(totals.compression)}",
        )
    if totals.bytes_forgotten:
        yield "forgotten", f"{format_size(totals.bytes_forgotten)}: `ntx prune` frees what no other point needs of it"
    unfinished = sum(vm.bytes_unfinished for vm in found.vms)
    if unfinished:
        yield "unfinished", f"{format_size(unfinished)} of interrupted captures"
    unreadable = sum(vm.bytes_unreadable for vm in found.vms)
    if unreadable:
        yield "unreadable", f"{format_size(unreadable)} of points that cannot be read: `ntx check` says why"
    yield "growth", _growth(found)
    yield "free", f"{format_size(found.bytes_free)} of {format_size(found.bytes_file_system)}"
    if found.is_whole:
        days = found.days_left
        yield "room for", "nobody can tell: the growth is not known" if days is None else _days(days)


def _growth(found: RepositorySpace) -> str:
    unknown = [vm for vm in found.vms if vm.per_day is None]
    if found.per_day is None:
        return "not known: there are no two points of a VM a day apart"
    without = f", without {len(unknown)} of {len(found.vms)} VMs of which it is not known" if unknown else ""
    return f"{format_size(round(found.per_day))} a day{without}"


def _days(days: float) -> str:
    return "more than 10 years at this growth" if days > 3650 else f"{days:.0f} days at this growth"


def _times(reduction: float | None) -> str:
    return UNKNOWN if reduction is None else f"{reduction:.1f} x"


def _percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{100 * share:.0f} %"


def _a_day(per_day: float | None) -> str:
    return "?" if per_day is None else format_size(round(per_day))


def _size(value: int | None) -> str:
    return "?" if value is None else format_size(value)


def _fields(found: RepositorySpace) -> dict[str, object]:
    return {
        "repository": str(found.path),
        **_common(found),
        "bytes_free": found.bytes_free,
        "bytes_file_system": found.bytes_file_system,
        "days_left": None if found.days_left is None else round(found.days_left, 1),
        "vms": [
            {
                "vm_id": vm.vm_id,
                "vm_name": vm.vm_name,
                **_common(vm),
                "bytes_unfinished": vm.bytes_unfinished,
                "bytes_unreadable": vm.bytes_unreadable,
                "bytes_other": vm.bytes_other,
                "retention_problem": vm.retention_problem,
                "points": [_point_fields(point) for point in vm.points],
            }
            for vm in found.vms
        ],
    }


def _common(found: RepositorySpace | VmSpace) -> dict[str, object]:
    totals = found.totals
    return {
        "bytes_all": found.bytes_all,
        "bytes_points": totals.bytes_own,
        "bytes_disks": totals.size,
        "bytes_captured": totals.bytes_captured,
        "bytes_stored": totals.bytes_stored,
        "bytes_forgotten": totals.bytes_forgotten,
        "reduction": None if totals.reduction is None else round(totals.reduction, 3),
        "compression": None if totals.compression is None else round(totals.compression, 4),
        "bytes_per_day": None if found.per_day is None else round(found.per_day),
    }


def _point_fields(point: PointSpace) -> dict[str, object]:
    return {
        "point_id": point.point_id,
        "created_at": format_time(point.created_at),
        "kind": point.kind,
        "size": point.size,
        "bytes_own": point.bytes_own,
        "bytes_images": point.bytes_images,
        "bytes_captured": point.bytes_captured,
        "bytes_stored": point.bytes_stored,
        "forgotten": point.is_forgotten,
    }

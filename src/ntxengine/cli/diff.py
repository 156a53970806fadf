"""`ntx diff`: what became of the disks of a VM from one point to another."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ntxengine.cli import complete
from ntxengine.cli.errors import SomeFailed
from ntxengine.cli.figures import UNKNOWN
from ntxengine.cli.options import common_options, repository_option, table_option
from ntxengine.cli.output import Screen
from ntxengine.cli.points import find_point
from ntxengine.cli.run import run
from ntxengine.cli.strip import cells_for, strip
from ntxengine.cli.table import Column
from ntxengine.cli.text import plural, printable, shortened, text_width
from ntxengine.compare import DiskDifference, DiskRegions, PointDifference, compare_points, region_windows
from ntxengine.dataplane.extents import ZERO
from ntxengine.errors import RepositoryError
from ntxengine.repository import Repository
from ntxengine.units import format_size

COLUMNS = [
    Column("DISK"),
    Column("CHANGE", fold=True),
    Column("SIZE", right=True),
    Column("REGIONS", right=True),
    Column("DIFFERS", right=True),
    Column("NOW ZERO", right=True),
    Column("DISK UUID", wide=True),
]
REGION_COLUMNS = [
    Column("DISK"),
    Column("OFFSET", right=True),
    Column("LENGTH", right=True),
    Column("TYPE"),
]
_LONGEST_NAME = 16


@click.command("diff")
@click.argument("before", metavar="A", shell_complete=complete.points)
@click.argument("after", metavar="B", shell_complete=complete.points)
@repository_option()
@click.option("--disk", "disks", multiple=True, metavar="DISK", help="Only this disk, by label or id; repeatable.")
@click.option("--regions", "with_regions", is_flag=True, help="List each region that differs, in bytes.")
@click.option(
    "--chart/--no-chart", "with_chart", default=None, help="Draw each disk as a strip; as it comes, on a terminal."
)
@common_options
@table_option
def diff_command(
    before: str,
    after: str,
    repository: Path,
    disks: tuple[str, ...],
    with_regions: bool,
    with_chart: bool | None,
    screen: Screen,
) -> None:
    """Show what became of the disks of a VM from point A to point B: regions and bytes that differ, disks that were
    added, removed or resized.

    A and B are ids of points or the beginnings of ids; the name or UUID of a VM means its newest point.  The digests of
    their captures are compared, in blocks of 64 KiB: no byte of a disk is read.

    On a terminal each disk is drawn as a strip from its beginning to its end: the darker, the more of it differs.

    \b
    Examples:
      ntx diff 20261123T041500Z-8f3a2c db01 --repository /backups
      ntx diff 20261123 20261124 --regions --json
    """
    is_drawn = not screen.as_json and not with_regions and (sys.stdout.isatty() if with_chart is None else with_chart)
    found = run(_diff(repository, (before, after), disks, screen, is_drawn=is_drawn, with_regions=with_regions))
    if screen.as_json:
        screen.result(({"regions": []} if with_regions else {}) | _fields(found))
    elif not with_regions:
        screen.table(COLUMNS, [_row(disk) for disk in found.disks])
        if is_drawn:
            for line in _charts(found):
                screen.line(line)
    if not screen.as_json:
        screen.note(_summary(found))
    _raise_if_some_failed(found)


async def _diff(
    repository: Path,
    names: tuple[str, str],
    disks: tuple[str, ...],
    screen: Screen,
    *,
    is_drawn: bool,
    with_regions: bool,
) -> PointDifference:
    opened = await Repository.open(repository)
    before, after = [await find_point(opened, name, screen) for name in names]
    found = await compare_points(opened, before, after, disks=disks, cells=_cells() if is_drawn else 0)
    if with_regions:
        good = tuple(disk.disk.disk_id for disk in found.disks if not disk.problem and disk.after is not None)
        show = screen.growing_table(REGION_COLUMNS)
        if good:
            async for part in region_windows(opened, before, after, disks=good):
                if screen.as_json:
                    for item in _regions(part):
                        screen.item("regions", item)
                else:
                    show([[part.disk.label, *map(str, list(item.values())[1:])] for item in _regions(part)])
    return found


def _cells() -> int:
    return cells_for(shutil.get_terminal_size((80, 24)).columns, _LONGEST_NAME)


def _regions(part: DiskRegions) -> Iterator[dict[str, object]]:
    for offset, length, flags in part.extents.tolist():
        yield {
            "disk_id": part.disk.disk_id,
            "offset": offset,
            "length": length,
            "type": "zero" if flags & ZERO else "data",
        }


def _charts(found: PointDifference) -> Iterator[str]:
    """Yield a line for each disk that there is, and that could be compared."""
    drawn = [disk for disk in found.disks if disk.cells]
    names = {disk.disk.disk_id: shortened(printable(disk.disk.label), _LONGEST_NAME) for disk in drawn}
    width = max(map(text_width, names.values()), default=0)
    for disk in drawn:
        name = names[disk.disk.disk_id]
        yield f"{name}{' ' * (width - text_width(name))}  {strip(disk.cells, sys.stdout.encoding)}"


def _row(found: DiskDifference) -> list[str]:
    amounts = [str(found.regions), format_size(found.bytes_differ), format_size(found.bytes_zero)]
    if found.problem or found.after is None:
        amounts = [UNKNOWN] * 3
    return [
        found.disk.label,
        found.problem or _change(found),
        format_size(found.disk.size),
        *amounts,
        found.disk.disk_id,
    ]


def _change(found: DiskDifference) -> str:
    if found.before is not None and found.after is not None and found.is_resized:
        verb = "grew" if found.after.size > found.before.size else "shrank"
        return f"{verb} from {format_size(found.before.size)}"
    return found.change


def _summary(found: PointDifference) -> str:
    differ = sum(disk.change != "same" for disk in found.disks)
    return (
        f"{plural(differ, 'disk')} of {len(found.disks)} not the same in {found.after.id} as in {found.before.id}: "
        f"{format_size(found.bytes_differ)} differ"
    )


def _fields(found: PointDifference) -> dict[str, object]:
    return {
        "vm_id": found.after.vm_id,
        "vm_name": found.after.vm_name,
        "before_point_id": found.before.id,
        "after_point_id": found.after.id,
        "bytes_differ": found.bytes_differ,
        "disks": [
            {
                "disk_id": disk.disk.disk_id,
                "label": disk.disk.label,
                "change": disk.change,
                "size_before": None if disk.before is None else disk.before.size,
                "size_after": None if disk.after is None else disk.after.size,
                "regions": disk.regions,
                "bytes_differ": disk.bytes_differ,
                "bytes_zero": disk.bytes_zero,
                "problem": disk.problem,
            }
            for disk in found.disks
        ],
    }


def _raise_if_some_failed(found: PointDifference) -> None:
    problems = [disk.problem for disk in found.disks if disk.problem]
    if not problems:
        return
    text = f"{plural(len(problems), 'disk')} of {len(found.disks)} cannot be compared: {problems[0]}"
    raise SomeFailed(text) if len(problems) < len(found.disks) else RepositoryError(text)

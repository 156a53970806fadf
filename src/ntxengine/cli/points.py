"""`ntx points`: what a repository holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ntxengine.cli.options import common_options, repository_option
from ntxengine.cli.output import Column, Screen, plain
from ntxengine.cli.report import disk_reports, sent, show_report
from ntxengine.cli.text import printable
from ntxengine.errors import NotFoundError
from ntxengine.repository import Point, Repository
from ntxengine.units import format_size

COLUMNS = [
    Column("POINT"),
    Column("VM", fold=True),
    Column("KIND"),
    Column("SIZE", right=True),
    Column("SENT", right=True),
    Column("CONSISTENCY"),
]


@click.command("points")
@click.argument("vm", required=False)
@repository_option()
@click.option(
    "--report", "with_report", is_flag=True, help="Show for each disk what was sent, and where the time went."
)
@common_options
def points_command(vm: str | None, repository: Path, with_report: bool, screen: Screen) -> None:
    """List the points of a repository, oldest first; those of VM (a name or a UUID) if one is given.

    \b
    Examples:
      ntx points --repository /backups
      ntx points db01 --repository /backups --report
    """
    opened = Repository.open(repository)
    points = points_of(opened, vm)
    if screen.as_json:
        screen.result({"repository": str(opened.path), "points": [point_fields(point) for point in points]})
    elif with_report:
        for point in points:
            show_report(point, screen)
    else:
        screen.table(COLUMNS, [_row(point) for point in points])
    if not points:
        screen.note("no points")


def points_of(repository: Repository, vm: str | None) -> list[Point]:
    """Return the points of the VM with this name or UUID, of all if None.

    Errors: NotFoundError if the repository has none of it.
    """
    points = repository.points()
    if vm is None:
        return points
    found = [point for point in points if vm in (point.vm_name, point.vm_id) or vm.lower() == point.vm_id]
    if not found:
        raise NotFoundError(f"{repository.path}: no point of a VM named {vm!r}: `ntx points` lists what there is")
    return found


def find_point(repository: Repository, name: str, *, checked: bool = True) -> Point:
    """Return the point with this id or beginning of an id, or the newest of the VM with this name or UUID.

    `checked`: whether point.json is what was written.
    Errors: NotFoundError if there is none; a usage error if several VMs have the name.
    """
    try:
        return repository.point(name, checked=checked)
    except NotFoundError as exc:
        points = [point for point in repository.points() if name in (point.vm_name, point.vm_id)]
        if not points:
            raise NotFoundError(f"{exc}; nor a point of a VM of that name") from exc
    vm_ids = sorted({point.vm_id for point in points})
    if len(vm_ids) > 1:
        raise click.UsageError(
            f"points of {len(vm_ids)} VMs named {printable(name)!r}: name one by its UUID: {', '.join(vm_ids)}"
        )
    return points[-1]


def point_fields(point: Point) -> dict[str, Any]:
    """Return a point as `--json` has it: what point.json holds, with disks as lists, and where its files are."""
    stored = plain(point)
    assert isinstance(stored, dict)
    for disk, entry in zip(point.disks, stored["disks"], strict=True):
        entry["path"] = str(point.image_path(disk))
    return {
        "point_id": stored.pop("id"),
        **stored,
        "recovery_point_disks": [_renamed(entry) for entry in _by_disk(stored["recovery_point_disks"])],
        "report": {**stored["report"], "disks": _by_disk(disk_reports(point))},
        "size": point.size,
    }


def _by_disk(entries: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return as a list what is stored by disk id."""
    return [{"disk_id": disk_id, **entry} for disk_id, entry in entries.items() if isinstance(entry, Mapping)]


def _renamed(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a disk recovery point under names that say what is identified."""
    return {_JSON_NAMES.get(name, name): value for name, value in entry.items()}


_JSON_NAMES = {"id": "disk_recovery_point_id", "vm_point_id": "vm_recovery_point_id"}


def _row(point: Point) -> list[str]:
    amount = sent(point)
    return [
        point.id,
        point.vm_name,
        point.kind,
        format_size(point.size),
        "?" if amount is None else format_size(amount),
        point.consistency_obtained,
    ]

"""`ntx points`: what a repository holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from ntxengine.cli import complete
from ntxengine.cli.audited import DISTRUSTED, distrust_fields, distrust_text
from ntxengine.cli.errors import SomeFailed
from ntxengine.cli.figures import UNKNOWN
from ntxengine.cli.interrupted import interrupted_fields, interrupted_row, interrupted_text, vm_name_of
from ntxengine.cli.options import (
    common_options,
    repository_option,
    table_option,
)
from ntxengine.cli.output import Screen, plain
from ntxengine.cli.report import capture_report_fields, show_report
from ntxengine.cli.run import run
from ntxengine.cli.said import FORGOTTEN, said_fields, with_said
from ntxengine.cli.table import Column
from ntxengine.cli.text import plural, printable
from ntxengine.errors import NotFoundError, OptionsError, RepositoryError
from ntxengine.repository import Health, Interrupted, Point, PointDisk, Repository, is_point_id, vm_of
from ntxengine.units import format_size

COLUMNS = [
    Column("POINT"),
    Column("VM", shrinks=True),
    Column("KIND"),
    Column("SIZE", right=True),
    Column("SENT", right=True),
    Column("CONSISTENCY"),
    Column("STATE"),
    Column("VM UUID", wide=True),
    Column("PARENT", wide=True),
    Column("CHANGES FOUND BY", wide=True),
]


@click.command("points")
@click.argument("vm", required=False, shell_complete=complete.vms)
@repository_option()
@click.option(
    "--report", "with_report", is_flag=True, help="Show for each disk what was sent, and where the time went."
)
@click.option(
    "--forgotten", "with_forgotten", is_flag=True, help="List the points, too, that are forgotten and not pruned yet."
)
@common_options
@table_option
def points_command(vm: str | None, repository: Path, with_report: bool, with_forgotten: bool, screen: Screen) -> None:
    """List the points of a repository, oldest first; those of VM (a name or a UUID) if one is given.

    A point that cannot be restored whole, because a file of it or of a point below is missing or damaged, is marked,
    and the exit code is 3.  Only names and headers are looked at: `ntx verify` reads everything.

    A point that may lack changes, as an audit has found, is marked "tracking distrusted".

    Tags and holds (`ntx tag`, `ntx hold`) are shown where there are some.

    A capture that was interrupted is listed with how far it got; the next capture of its VM goes on with it.

    \b
    Examples:
      ntx points --repository /backups
      ntx points db01 --repository /backups --report
    """
    folder, health, interrupted = run(_look(repository, vm, screen))
    points = _listed_points(health, with_forgotten=with_forgotten)
    if screen.as_json:
        screen.result(
            {
                "repository": str(folder),
                **_listed(health, points),
                "interrupted": [interrupted_fields(each) for each in interrupted],
            }
        )
    elif with_report:
        for number, point in enumerate(points):
            if number:
                screen.line()
            show_report(point, screen)
    else:
        screen.table(*with_said(COLUMNS, _rows(health, points, interrupted), health, points))
    if not points and not health.unreadable:
        screen.note("no point is whole yet" if interrupted else "no points")
    for each in interrupted:
        screen.note(interrupted_text(each))
    if health.forgotten and not with_forgotten:
        count = plural(len(health.forgotten), "forgotten point")
        screen.note(f"{count} not listed: --forgotten does, `ntx prune` frees what they take")
    for error in health.unknown_retention.values():
        screen.warning(f"{error}; forgotten points are listed like others")
    _warn_of_distrust(health, screen)
    _raise_if_damaged(health, screen)


def _warn_of_distrust(health: Health, screen: Screen) -> None:
    """Such a point can be restored as it was captured: no error of a list, but nobody may miss it."""
    for error in health.unknown_distrust.values():
        screen.warning(str(error))
    for point in health.points:
        if text := distrust_text(health.distrusted.get(point.path, ())):
            screen.warning(f"point {point.id}: {text}")


async def _look(repository: Path, vm: str | None, screen: Screen) -> tuple[Path, Health, list[Interrupted]]:
    opened = await Repository.open(repository)
    vm_id = None if vm is None else await _vm_id_also_interrupted(opened, vm, screen)
    found = [each for each in await opened.interrupted(vm_id) if each.has_record]
    interrupted = [each for each in found if not await opened.is_locked(each.vm_id)]
    return opened.path, await opened.health(vm_id), interrupted


async def _vm_id_also_interrupted(repository: Repository, name: str, screen: Screen) -> str:
    """As find_vm_id, also of a VM that has no point yet, and an interrupted capture."""
    try:
        return await find_vm_id(repository, name, screen)
    except NotFoundError:
        every = [each for each in await repository.interrupted() if each.has_record]
        found = {each.vm_id for each in every if name in (each.vm_id, vm_name_of(each))}
        if len(found) != 1:
            raise
        return found.pop()


def _raise_if_damaged(health: Health, screen: Screen) -> None:
    """Tell each problem once, however many points it is a problem of."""
    problems = [problem for point in health.points if (problem := health.problem(point))]
    problems += [str(error) for error in health.unreadable.values()]
    if not problems:
        return
    for problem in dict.fromkeys(problems):
        screen.warning(problem)
    total = len(health.points) + len(health.unreadable)
    raise SomeFailed(f"{len(problems)} of {plural(total, 'point')} cannot be restored whole: {problems[0]}")


async def find_vm_id(repository: Repository, name: str, screen: Screen) -> str:
    """Return the VM that `name` means, and say so where that is not what it is called now."""
    vm = await repository.find_vm(name)
    if name not in (vm.id, vm.name) and name.lower() != vm.id:
        screen.note(f"{printable(name)} is called {printable(vm.name)} now ({vm.id})")
    return vm.id


async def find_point(repository: Repository, name: str, screen: Screen, *, checked: bool = True) -> Point:
    """Return the point with this id or beginning of an id, or the newest of the VM with this name or UUID.

    A point that is forgotten is found by its whole id, and that is said.
    `checked`: whether point.json is what was written.
    Errors: NotFoundError if there is none; OptionsError if several VMs have the name, or a VM and a point;
            RepositoryError if the point cannot be read, or a newer one of the VM.
    """
    try:
        vm_id = await find_vm_id(repository, name, screen)
    except NotFoundError as exc:
        try:
            return await _named(repository, name, screen, checked=checked)
        except NotFoundError as no_point:
            raise NotFoundError(f"{no_point}; {exc}") from exc
    with suppress(NotFoundError):
        point = await repository.point(name, checked=checked)
        raise OptionsError(
            f"{printable(name)!r} is a VM ({vm_id}) and the beginning of point {point.id}: write the UUID, or more of "
            f"the id"
        )
    return await _newest(repository, vm_id, checked=checked)


async def _named(repository: Repository, point_id: str, screen: Screen, *, checked: bool) -> Point:
    point = await repository.point(point_id, checked=checked)
    with suppress(RepositoryError):  # nobody knows, which listings say
        if (await repository.retention(point.vm_id)).is_forgotten(point.id):
            screen.warning(f"point {point.id} is forgotten: the next prune may remove it")
    return point


async def _newest(repository: Repository, vm_id: str, *, checked: bool) -> Point:
    health = await repository.health_of_newest(vm_id)
    unreadable = health.newer_unreadable(vm_id)
    if unreadable is None and not health.points:
        raise NotFoundError(f"every point of VM {vm_id} is forgotten: `ntx points --forgotten` lists them")
    if unreadable is None:
        return health.points[-1]
    if not checked:
        with suppress(RepositoryError):
            return await repository.read_point(unreadable, checked=False)
    older = f"; an older one can be named by its id: {health.points[-1].id}" if health.points else ""
    raise RepositoryError(
        f"the newest point of VM {vm_id} cannot be read: {health.unreadable[unreadable]}; "
        f"{health.what_is_whole(vm_id)}{older}"
    )


async def require_whole(repository: Repository, point: Point, disks: Sequence[str] = ()) -> None:
    """Check that a point can be read whole, or these disks of it, as far as names and headers tell.

    Errors: RepositoryError that says what can be restored; NotFoundError (no such disk).
    """
    wanted = [point.disk(name) for name in disks] or list(point.disks)
    problem = await repository.find_problem(point, wanted)
    if not problem:
        return
    others = [disk.label for disk in point.disks if not await repository.find_problem(point, [disk])]
    of_point = f"; of this point {', '.join(others)} can be (--disk)" if others else ""
    rest = (await repository.health(point.vm_id, from_catalog=False)).what_is_whole(point.vm_id)
    salvage = "; what is there can be written with --no-check" if await _has_images(repository, point, wanted) else ""
    raise RepositoryError(f"point {point.id} cannot be restored whole: {problem}{of_point}; {rest}{salvage}")


async def _has_images(repository: Repository, point: Point, disks: Sequence[PointDisk]) -> bool:
    try:
        for disk in disks:
            await repository.images(point, disk)
    except RepositoryError:
        return False
    return True


def _listed_points(health: Health, *, with_forgotten: bool) -> list[Point]:
    """Return what is to be listed, oldest first."""
    hidden = health.forgotten if with_forgotten else ()
    return sorted((*health.points, *hidden), key=lambda point: (point.id, point.vm_id))


def _listed(health: Health, points: Sequence[Point]) -> dict[str, Any]:
    return {
        "points": [
            {
                **point_fields(point),
                **said_fields(health.said_of(point)),
                "whole": not health.problem(point),
                "problem": health.problem(point),
                "tracking_distrusted": _is_distrusted(health, point),
                "distrusted_disks": distrust_fields(health.distrusted.get(point.path, ())),
            }
            for point in points
        ],
        "unreadable": [
            {
                "point_id": folder.name if is_point_id(folder.name) else None,
                "vm_id": vm_of(folder),
                "problem": str(error),
            }
            for folder, error in health.unreadable.items()
        ],
    }


def _is_distrusted(health: Health, point: Point) -> bool | None:
    """Say whether changes may be missing in a point; None where nobody knows."""
    return None if point.path.parent in health.unknown_distrust else point.path in health.distrusted


def _state(health: Health, point: Point) -> str:
    if health.said_of(point).forgotten_at is not None:
        return FORGOTTEN
    if health.problem(point):
        return "damaged"
    return {None: "whole?", True: DISTRUSTED, False: "whole"}[_is_distrusted(health, point)]


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
        "report": plain(capture_report_fields(point.report)),
        "size": point.size,
    }


def _by_disk(entries: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return as a list what is stored by disk id."""
    return [{"disk_id": disk_id, **entry} for disk_id, entry in entries.items() if isinstance(entry, Mapping)]


def _renamed(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a disk recovery point under names that say what is identified."""
    return {_JSON_NAMES.get(name, name): value for name, value in entry.items()}


_JSON_NAMES = {
    "id": "disk_recovery_point_id",
    "vm_point_id": "vm_recovery_point_id",
    "group_point_id": "volume_group_recovery_point_id",
}


def _rows(health: Health, points: Sequence[Point], interrupted: Sequence[Interrupted]) -> list[list[str]]:
    """Return a row for each point, also for those that cannot be read, or are not whole yet, oldest first."""
    names = {point.vm_id: point.vm_name for point in points}
    rows = [_row(point, _state(health, point)) for point in points]
    for folder in health.unreadable:
        vm_id = vm_of(folder)
        name = folder.name if is_point_id(folder.name) else "?"
        rows.append([name, names.get(vm_id, vm_id), *"????", "unreadable", vm_id, "?", "?"])
    rows += [interrupted_row(each) for each in interrupted]
    return sorted(rows, key=lambda row: row[0])


def _row(point: Point, state: str) -> list[str]:
    amount = point.report.bytes_sent
    return [
        point.id,
        point.vm_name,
        point.kind,
        format_size(point.size),
        "?" if amount is None else format_size(amount),
        point.consistency_obtained,
        state,
        point.vm_id,
        point.parent_id or UNKNOWN,
        point.tracking,
    ]

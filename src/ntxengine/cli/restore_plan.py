"""`ntx restore --dry-run`: what would be written where, and a failure where the restore would fail."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ntxengine.cli.audited import distrust_text
from ntxengine.cli.output import Screen
from ntxengine.cli.restored import marks_fields
from ntxengine.cli.space import Space, say_space
from ntxengine.cli.text import printable
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import OptionsError, TargetError
from ntxengine.files.free_space import free_bytes
from ntxengine.repository import Marks, Point, Repository
from ntxengine.restore import Destination, Request, RestoreOptions, plan
from ntxengine.units import format_size


@dataclass(frozen=True)
class RestorePlan:
    """What a restore would do.  `needed` is how much of each disk is not zero, None where nobody can tell.

    `refused` is why it would not begin, though it could with --overwrite.
    """

    point: Point
    marks: Marks
    places: Sequence[Destination]
    needed: Sequence[int] | None
    refused: OptionsError | None


async def plan_restore(repository: Repository, point: Point, request: Request, options: RestoreOptions) -> RestorePlan:
    """Find out what a restore would do.  Errors: as restore."""
    places = await plan(repository, point, request, dataclasses.replace(options, overwrite=True))
    needed = await _needed(repository, point, places) if options.is_strict else None
    marks = await repository.marks(point, [each.disk for each in places])
    return RestorePlan(point, marks, places, needed, await _refused(point, request, options))


async def _refused(point: Point, request: Request, options: RestoreOptions) -> OptionsError | None:
    try:
        await to_thread_joined(request.destinations, point, options)
    except OptionsError as exc:
        return exc
    return None


async def _needed(repository: Repository, point: Point, places: Sequence[Destination]) -> list[int]:
    needed = []
    for each in places:
        with await repository.manifest(point, each.disk) as manifest:
            needed.append(await to_thread_joined(manifest.bytes_data))
    return needed


def show_plan(found: RestorePlan, options: RestoreOptions, screen: Screen) -> None:
    """Say what a restore would write, and fail where it would.  Errors: OptionsError, TargetError."""
    free = {
        folder: free_bytes(folder)
        for folder in dict.fromkeys(each.file.parent for each in found.places if each.is_made)
    }
    total = None if found.needed is None else sum(found.needed)
    if screen.as_json:
        _show_json(found, options, total, next(iter(free.values()), None), screen)
    else:
        screen.line(f"would restore {found.point.id}, {found.point.kind} of {printable(found.point.vm_name)}:")
        for each in found.places:
            screen.line(
                f"  {each.disk.label}  {format_size(each.disk.size)}  {each.text}{_what_is_there(each, options)}"
            )
        if distrusted := distrust_text(found.marks.distrusted):
            screen.line(f"  {distrusted}")
    if found.marks.problem:
        screen.warning(found.marks.problem)
    if free:
        say_space(Space(total, min(free.values())), screen)
    if found.refused is not None:
        raise found.refused
    _require_room(found, free)


def _what_is_there(each: Destination, options: RestoreOptions) -> str:
    if options.in_place:
        return f", written where it differs ({format_size(each.room)})"
    if not each.is_made:
        return f", overwritten in place ({format_size(each.room)})"
    return ", exists" if each.exists else ""


def _show_json(
    found: RestorePlan, options: RestoreOptions, total: int | None, free: int | None, screen: Screen
) -> None:
    entries = [
        {
            "disk_id": each.disk.disk_id,
            "label": each.disk.label,
            "target": each.text,
            "kind": each.kind,
            "format": each.format,
            "path": each.path,
            "exists": each.exists,
            "size": each.disk.size,
            "target_size": None if each.is_made else each.room,
        }
        for each in found.places
    ]
    plan = {"dry_run": True, "point_id": found.point.id, "format": options.format or "raw", "disks": entries}
    screen.result({**plan, **marks_fields(found.marks), "bytes_estimated": total, "bytes_free": free})


def _require_room(found: RestorePlan, free: dict[Path, int]) -> None:
    """Refuse files for which there is too little room, all that lie on one file system together."""
    if found.needed is None:
        return
    wanted: dict[int, int] = {}
    for each, needed in zip(found.places, found.needed, strict=True):
        if not each.is_made:
            continue
        folder = each.file.parent
        system = _file_system(folder)
        wanted[system] = wanted.get(system, 0) + needed
        if wanted[system] > free[folder]:
            raise TargetError(
                f"{folder}: the file system has {format_size(free[folder])} free, the disks hold "
                f"{format_size(wanted[system])} of data: free some space, or use another file system"
            )


def _file_system(folder: Path) -> int:
    """Return what tells the file system of a folder, which may not exist yet, from others."""
    return next(os.stat(place).st_dev for place in (folder, *folder.parents) if place.exists())

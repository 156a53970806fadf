"""`ntx restore`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ntxengine.cli import complete
from ntxengine.cli.audited import distrust_fields, distrust_text
from ntxengine.cli.errors import SomeFailed
from ntxengine.cli.event_view import RestoreEvents
from ntxengine.cli.options import (
    bandwidth_option,
    common_options,
    dry_run_option,
    flush_timeout_option,
    image_options,
    parallel_option,
    repository_option,
    table_option,
)
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FOLDER
from ntxengine.cli.points import find_point, require_whole
from ntxengine.cli.run import run
from ntxengine.cli.space import Space, say_space
from ntxengine.cli.table import Column
from ntxengine.cli.text import elapsed, printable
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.options import FLUSH_TIMEOUT_S
from ntxengine.dataplane.timetable import Timetable
from ntxengine.errors import OptionsError, TargetError
from ntxengine.files.free_space import free_bytes
from ntxengine.images.choice import ImageOptions
from ntxengine.repository import Marks, Point, PointDisk, Repository
from ntxengine.restore import RestoreOptions, RestoreReport, file_names, restore
from ntxengine.units import format_size

COLUMNS = [
    Column("DISK"),
    Column("FILE", shrinks=True),
    Column("SIZE", right=True),
    Column("ALLOCATED", right=True),
    Column("COMPARED"),
    Column("TIME", right=True),
    Column("DISK UUID", wide=True),
]


@dataclass(frozen=True)
class Request:
    """What to restore, and how."""

    point_id: str
    directory: Path
    disks: tuple[str, ...]
    options: RestoreOptions


@click.command("restore")
@click.argument("point", shell_complete=complete.points)
@click.argument("directory", type=FOLDER)
@repository_option("--from")
@click.option("--disk", "disks", multiple=True, metavar="DISK", help="Only this disk, by label or id; repeatable.")
@click.option(
    "--format",
    "image_format",
    type=click.Choice(["raw", "qcow2"]),
    default="raw",
    show_default=True,
    help="raw: sparse, exactly the disk's size; qcow2: one image that stands alone.",
)
@image_options
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--verify", is_flag=True, help="Read the restored files back, too, and compare them with the digests.")
@click.option("--no-check", is_flag=True, help="Write what is there, compared with nothing: to save what can be saved.")
@parallel_option
@bandwidth_option
@flush_timeout_option
@dry_run_option
@common_options
@table_option
def restore_command(
    point: str,
    directory: Path,
    repository: Path,
    disks: tuple[str, ...],
    image_format: Any,
    image: ImageOptions,
    overwrite: bool,
    verify: bool,
    no_check: bool,
    parallel: int,
    bandwidth: Timetable | None,
    flush_timeout_s: float | None,
    dry_run: bool,
    screen: Screen,
) -> None:
    """Write the disks of POINT into DIRECTORY, as they were when it was frozen.

    POINT is its id or the beginning of it; the name or UUID of a VM means the newest point of that VM.

    Each block is compared with the digest of its capture while it is written, and each file appears under its name when
    all of them are right.  The configuration of the VM, as Prism gave it, goes beside them.  An incremental point needs
    nothing but the repository.

    \b
    Examples:
      ntx restore db01 ./db01 --from /backups --verify
      ntx restore 20261123T041500Z-8f3a2c ./db01 --from /backups --disk scsi.0 --format qcow2
    """
    if verify and no_check:
        raise click.UsageError("--verify and --no-check contradict each other")
    options = RestoreOptions(
        format=image_format,
        image=image,
        overwrite=overwrite,
        verify=verify,
        check=not no_check,
        parallel=parallel,
        bandwidth=bandwidth or 0,
        flush_timeout_s=flush_timeout_s or FLUSH_TIMEOUT_S,
    )
    request = Request(point, directory, disks, options)
    if dry_run:
        _show_plan(*run(_plan(repository, request, screen)), request, screen)
        return
    report = run(_restore(repository, request, screen))
    if no_check:
        screen.warning("nothing was compared with the digests of the capture (--no-check): the disks may hold anything")
    screen = screen.after_work()
    if screen.as_json:
        screen.result(_fields(report))
    else:
        screen.table(COLUMNS, _rows(report))
        if report.config is not None:
            screen.note(f"the VM's configuration: {printable(_from_here(report.config))}")
    if report.config_problem:
        raise SomeFailed(f"the disks are restored, the VM's configuration is not: {report.config_problem}")


async def _choose(path: Path, request: Request, screen: Screen) -> tuple[Repository, Point]:
    """Return the point to restore, which is whole as far as names and headers tell, or need not be."""
    repository = await Repository.open(path)
    point = await find_point(repository, request.point_id, screen, checked=request.options.check)
    if request.options.check:
        await require_whole(repository, point, request.disks)
    return repository, point


async def _restore(path: Path, request: Request, screen: Screen) -> RestoreReport:
    repository, point = await _choose(path, request, screen)
    with screen.view() as view:
        return await restore(
            repository,
            point,
            request.directory,
            disks=request.disks,
            options=request.options,
            on_event=RestoreEvents(view),
        )


def _rows(report: RestoreReport) -> list[list[str]]:
    return [
        [
            each.disk.label,
            _from_here(each.path),
            format_size(each.size),
            format_size(each.bytes_allocated),
            "read back" if each.is_verified else "as written" if each.is_checked else "no",
            elapsed(each.seconds),
            each.disk.disk_id,
        ]
        for each in report.disks
    ]


def _from_here(path: Path) -> str:
    """Return the way to a file from where the person stands, if it is not far."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _fields(report: RestoreReport) -> dict[str, object]:
    return {
        "point_id": report.point.id,
        "vm_id": report.point.vm_id,
        "vm_name": report.point.vm_name,
        "format": report.format,
        "seconds": round(report.seconds, 3),
        "config": report.config,
        "config_problem": report.config_problem,
        **_marks_fields(report.marks),
        "disks": [
            {
                "disk_id": each.disk.disk_id,
                "label": each.disk.label,
                "path": each.path,
                "size": each.size,
                "bytes_allocated": each.bytes_allocated,
                "checked": each.is_checked,
                "verified": each.is_verified,
                "seconds": round(each.seconds, 3),
            }
            for each in report.disks
        ],
    }


def _marks_fields(marks: Marks) -> dict[str, object]:
    return {"tracking_distrusted": marks.is_distrusted, "distrusted_disks": distrust_fields(marks.distrusted)}


async def _plan(path: Path, request: Request, screen: Screen) -> tuple[Point, Marks, int | None]:
    """Return the point, its marks, and how much of the disks is not zero: None where nobody can tell."""
    repository, point = await _choose(path, request, screen)
    disks = _wanted(point, request)
    needed = await _needed(repository, point, disks) if request.options.check else None
    return point, await repository.marks(point, disks), needed


def _wanted(point: Point, request: Request) -> list[PointDisk]:
    return [point.disk(name) for name in request.disks] or list(point.disks)


def _show_plan(point: Point, marks: Marks, needed: int | None, request: Request, screen: Screen) -> None:
    """Say what a restore would write, and fail where it would."""
    names = file_names(point, request.options.format)
    files = [(disk, request.directory / names[disk.disk_id]) for disk in _wanted(point, request)]
    space = Space(needed, free_bytes(request.directory))
    if screen.as_json:
        entries = [
            {"disk_id": disk.disk_id, "label": disk.label, "path": path, "size": disk.size} for disk, path in files
        ]
        plan = {"dry_run": True, "point_id": point.id, "format": request.options.format, "disks": entries}
        screen.result({**plan, **_marks_fields(marks), **vars(space)})
    else:
        screen.line(f"would restore {point.id}, {point.kind} of {printable(point.vm_name)}:")
        for disk, path in files:
            exists = ", exists" if path.exists() else ""
            screen.line(f"  {disk.label}  {format_size(disk.size)}  {path}{exists}")
        if distrusted := distrust_text(marks.distrusted):
            screen.line(f"  {distrusted}")
    if marks.problem:
        screen.warning(marks.problem)
    say_space(space, screen)
    taken = [path for _, path in files if os.path.lexists(path)]
    if taken and not request.options.overwrite:
        raise OptionsError(f"{taken[0]}: exists already: allow that with --overwrite, or choose another directory")
    if needed is not None and needed > space.bytes_free:
        raise TargetError(
            f"{request.directory}: the file system has {format_size(space.bytes_free)} free, the disks hold "
            f"{format_size(needed)} of data: free some space, or use another file system"
        )


async def _needed(repository: Repository, point: Point, disks: list[PointDisk]) -> int:
    """Return how much of the disks is not zero."""
    total = 0
    for disk in disks:
        with await repository.manifest(point, disk) as manifest:
            total += await to_thread_joined(manifest.bytes_data)
    return total

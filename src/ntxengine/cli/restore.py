"""`ntx restore`."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from ntxengine.cli import complete
from ntxengine.cli.connection import connection_options
from ntxengine.cli.disk_targets import split_targets
from ntxengine.cli.errors import SomeFailed
from ntxengine.cli.event_view import RestoreEvents
from ntxengine.cli.options import (
    common_options,
    dry_run_option,
    flush_timeout_option,
    image_options,
    limit_options,
    parallel_option,
    repository_option,
    retry_for_option,
    table_option,
)
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FOLDER
from ntxengine.cli.points import find_point, require_whole
from ntxengine.cli.restore_plan import RestorePlan, plan_restore, show_plan
from ntxengine.cli.restored import COLUMNS as COLUMNS
from ntxengine.cli.restored import raise_if_lossy, show_restored
from ntxengine.cli.run import run
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.dataplane.options import FLUSH_TIMEOUT_S
from ntxengine.dataplane.security import ConnectionOptions
from ntxengine.images.choice import ImageOptions
from ntxengine.repository import Point, Repository, reading
from ntxengine.restore import Request, RestoreOptions, RestoreReport, restore
from ntxengine.tunnel.options import DEFAULT_PROCESSES


@dataclasses.dataclass(frozen=True)
class Asked:
    """What to restore, and how; `to` as it was typed."""

    point_id: str
    directory: Path | None
    disks: tuple[str, ...]
    to: tuple[str, ...]
    options: RestoreOptions

    def of(self, point: Point) -> Request:
        """Return it for the point that it is about.  Errors: as split_targets."""
        directory = None if self.directory is None else self.directory.absolute()
        return Request(directory, self.disks, split_targets(point, self.to))


@click.command("restore")
@click.argument("point", shell_complete=complete.points)
@click.argument("directory", type=FOLDER, required=False)
@repository_option("--from")
@click.option(
    "--to",
    multiple=True,
    metavar="DISK=TARGET",
    help="Write this disk to a block device, an NBD server or a file; repeatable.",
)
@click.option("--disk", "disks", multiple=True, metavar="DISK", help="Only this disk, by label or id; repeatable.")
@click.option(
    "--format",
    "image_format",
    type=click.Choice(["raw", "qcow2"]),
    help="Of files, raw: sparse, exactly the disk's size; qcow2: one image that stands alone.  "
    "Without it raw, but qcow2 for a target that is so named.",
)
@image_options
@click.option("--overwrite", is_flag=True, help="Replace files that exist, and write over devices and servers.")
@click.option(
    "--in-place", is_flag=True, help="Read what is there, and write only the blocks that differ from the point."
)
@click.option("--target-is-zero", is_flag=True, help="Devices and servers read as zero: zeros need not be written.")
@click.option("--verify", is_flag=True, help="Read what was restored back, too, and compare it with the digests.")
@click.option("--no-check", is_flag=True, help="Write what is there, compared with nothing: to save what can be saved.")
@click.option("--keep-going", is_flag=True, help="Write all that is good of a damaged point, and list what is not.")
@parallel_option
@limit_options
@retry_for_option
@flush_timeout_option
@connection_options
@dry_run_option
@common_options
@table_option
def restore_command(
    point: str,
    directory: Path | None,
    repository: Path,
    to: tuple[str, ...],
    disks: tuple[str, ...],
    image_format: Any,
    image: ImageOptions,
    overwrite: bool,
    in_place: bool,
    target_is_zero: bool,
    verify: bool,
    no_check: bool,
    keep_going: bool,
    parallel: int,
    bandwidth: Bandwidth | None,
    retry_for_s: float,
    flush_timeout_s: float | None,
    connection: ConnectionOptions,
    dry_run: bool,
    screen: Screen,
) -> None:
    """Write the disks of POINT, as they were when it was frozen, into DIRECTORY, or each to a target of its own.

    POINT is its id or the beginning of it; the name or UUID of a VM means the newest point of that VM.

    --to names the target of one disk: a block device, an NBD server (nbd://, nbds://, nbd+unix://, nbd+ssh://) or a
    file.  DIRECTORY takes the disks that have none; without DIRECTORY only those are restored that have one.  Devices
    and servers are written in place, and only with --overwrite.

    With --in-place what is there is read, also a raw file, and only blocks are written that differ from the point.

    Each block is compared with the digest of its capture while it is written, and each file appears under its name when
    all disks are right.  The configuration of the VM, as Prism gave it, goes into DIRECTORY.  An incremental point
    needs nothing but the repository.

    \b
    Examples:
      ntx restore db01 ./db01 --from /backups --verify
      ntx restore 20261123T041500Z-8f3a2c ./db01 --from /backups --disk scsi.0 --format qcow2
      ntx restore db01 --from /backups --to scsi.0=/dev/sdb --to scsi.1=nbd://host/data --overwrite
      ntx restore db01 ./db01 --from /backups --to scsi.0=/images/db01.qcow2
      ntx restore db01 --from /backups --to scsi.0=/dev/sdb --in-place
      ntx restore 20261123T041500Z-8f3a2c ./db01 --from /backups --keep-going
    """
    for option, is_given in (("--no-check", no_check), ("--target-is-zero", target_is_zero)):
        if in_place and is_given:
            raise click.UsageError(f"--in-place and {option} contradict each other")
    if keep_going and no_check:
        raise click.UsageError(
            "--keep-going and --no-check contradict each other: what is not good is found by a check"
        )
    if verify and no_check:
        raise click.UsageError("--verify and --no-check contradict each other")
    if directory is None and not to:
        raise click.UsageError("name a DIRECTORY for the disks, or the target of each with --to DISK=TARGET")
    if connection.ssh is not None:  # a copy has more than one connection
        ssh = dataclasses.replace(connection.ssh, processes=DEFAULT_PROCESSES)
        connection = dataclasses.replace(connection, ssh=ssh)
    options = RestoreOptions(
        format=image_format,
        image=image,
        overwrite=overwrite,
        in_place=in_place,
        target_is_zero=target_is_zero,
        verify=verify,
        check=not no_check,
        keep_going=keep_going,
        parallel=parallel,
        bandwidth=bandwidth or 0,
        retry_for_s=retry_for_s,
        flush_timeout_s=flush_timeout_s or FLUSH_TIMEOUT_S,
        connection=connection,
    )
    asked = Asked(point, directory, disks, to, options)
    if dry_run:
        show_plan(run(_plan(repository, asked, screen)), options, screen)
        return
    report = run(_restore(repository, asked, screen))
    if no_check:
        screen.warning("nothing was compared with the digests of the capture (--no-check): the disks may hold anything")
    show_restored(report, screen.after_work())
    raise_if_lossy(report)
    if report.config_problem:
        raise SomeFailed(f"the disks are restored, the VM's configuration is not: {report.config_problem}")


@asynccontextmanager
async def _chosen(path: Path, asked: Asked, screen: Screen) -> AsyncIterator[tuple[Repository, Point, Request]]:
    """Give the point to restore, which stays meanwhile; whole as far as names and headers tell, unless unchecked."""
    repository = await Repository.open(path)
    is_checked = asked.options.is_strict
    found = await find_point(repository, asked.point_id, screen, checked=is_checked)
    async with reading([found], checked=is_checked):
        point = await repository.read_point(found.path, checked=is_checked)
        request = asked.of(point)
        if is_checked:
            await require_whole(repository, point, [disk.disk_id for disk in request.wanted(point)])
        yield repository, point, request


async def _restore(path: Path, asked: Asked, screen: Screen) -> RestoreReport:
    async with _chosen(path, asked, screen) as (repository, point, request):
        with screen.view() as view:
            return await restore(
                repository,
                point,
                request.directory,
                disks=request.disks,
                targets=request.targets,
                options=asked.options,
                on_event=RestoreEvents(view),
            )


async def _plan(path: Path, asked: Asked, screen: Screen) -> RestorePlan:
    async with _chosen(path, asked, screen) as (repository, point, request):
        return await plan_restore(repository, point, request, asked.options)

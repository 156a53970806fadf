"""`ntx verify`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import click

from ntxengine.cli import complete
from ntxengine.cli.audited import DISTRUSTED, distrust_fields, distrust_text
from ntxengine.cli.errors import SomeFailed
from ntxengine.cli.event_view import VerifyEvents
from ntxengine.cli.figures import UNKNOWN, shown_rate
from ntxengine.cli.options import (
    TransferOptions,
    common_options,
    parallel_option,
    repository_option,
    table_option,
    transfer_options,
)
from ntxengine.cli.output import Screen
from ntxengine.cli.points import find_point
from ntxengine.cli.replica_options import replica_tls_options, state_options
from ntxengine.cli.replica_verify import verify_one
from ntxengine.cli.run import run
from ntxengine.cli.sampling import sampling_fields, sampling_options, sampling_text
from ntxengine.cli.table import Column
from ntxengine.cli.text import plural
from ntxengine.cli.values import Given
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.security import ConnectionOptions, TlsOptions
from ntxengine.errors import ChecksumMismatch, NotFoundError, NtxError, RepositoryError
from ntxengine.repository import Marks, Point, Repository
from ntxengine.units import format_size
from ntxengine.verify import DiskVerdict, PointVerdict, Sampling, verify_points

COLUMNS = [
    Column("POINT"),
    Column("DISK"),
    Column("SIZE", right=True),
    Column("RATE", right=True),
    Column("RESULT", fold=True),
    Column("DISK UUID", wide=True),
    Column("DIGEST", wide=True),
]


@dataclasses.dataclass(frozen=True)
class Request:
    """How to verify; `sampling` is None for all of it."""

    options: CopyOptions
    parallel: int
    sampling: Sampling | None


Choice = tuple[Point, tuple[str, ...]]
"""A point, and the names of its disks to verify: none named, all."""


@click.command("verify")
@click.argument("points", nargs=-1, metavar="[POINT]...", shell_complete=complete.points)
@repository_option(required=False)
@click.option("--replica", type=Given(), metavar="NAME", help="A replica instead: its VM (name or UUID), or its id.")
@state_options(required=False)
@replica_tls_options
@click.option("--all", "every", is_flag=True, help="Every point of the repository.")
@click.option("--disk", "disks", multiple=True, metavar="DISK", help="Only this disk, by label or id; repeatable.")
@parallel_option
@sampling_options
@transfer_options
@common_options
@table_option
def verify_command(
    points: tuple[str, ...],
    repository: Path | None,
    replica: str | None,
    state: Path | None,
    tls: TlsOptions | None,
    every: bool,
    disks: tuple[str, ...],
    parallel: int,
    sampling: Sampling | None,
    transfer: TransferOptions,
    screen: Screen,
) -> None:
    """Read points back through their images, and compare each 64 KiB block with the digest of its capture.

    POINT is its id or the beginning of it; the name or UUID of a VM means the newest point of that VM.  A mismatch
    names point, disk and offsets.  If some points are wrong and others are not, the exit code is 3.  Of several points,
    what is below more than one is read once, and what is wrong in it is told once.

    A point that is as captured and yet may lack changes, as an audit has found, is marked "tracking distrusted", and
    the exit code is 3.

    With --sample or --for some blocks are read, chosen at random: each time others, until all were read.

    With --replica the target of a replica is read, and compared with what was frozen.

    \b
    Examples:
      ntx verify db01 --repository /backups
      ntx verify --all --repository /backups --sample 5%
      ntx verify --all --repository /backups --json
      ntx verify --replica db01 --at kvm:/srv/replicas --sample 5%
    """
    if replica is not None:
        if every or points or disks:
            raise click.UsageError("--replica is all of a replica: leave out POINT, --all and --disk")
        connection = ConnectionOptions(tls=tls)
        verify_one(replica, state, sampling, transfer.over(CopyOptions()), screen, connection)
        return
    if repository is None:
        raise click.MissingParameter(param_hint="--repository", param_type="option")
    if every == bool(points):
        raise click.UsageError(
            "name a POINT, or give --all" if not every else "--all and a POINT contradict each other"
        )
    request = Request(transfer.over(CopyOptions()), parallel, sampling)
    verdicts, damaged = run(_verify(repository, points, disks, request, screen))
    is_good = not damaged and all(each.is_right and each.marks.is_distrusted is False for each in verdicts)
    screen = screen.after_work(is_good=is_good)
    if screen.as_json:
        screen.result(
            {"points": [_fields(verdict) for verdict in verdicts], "damaged": [str(each) for each in damaged]}
        )
    else:
        screen.table(COLUMNS, [row for verdict in verdicts for row in _rows(verdict)])
        if not verdicts:
            screen.note("no points")
    _raise_if_wrong(verdicts, damaged)


async def _choose(opened: Repository, points: tuple[str, ...], disks: tuple[str, ...], screen: Screen) -> list[Choice]:
    """Return what to verify: of named points all the named disks, of all points those that they have."""
    if points:
        return [(await find_point(opened, name, screen), disks) for name in points]
    choices = [(point, _present(point, disks)) for point in await opened.points()]
    if disks and not any(names for _, names in choices):
        raise NotFoundError(f"no point has a disk {' or '.join(disks)}: `ntx points --report` lists them")
    return [(point, names) for point, names in choices if names or not disks]


def _present(point: Point, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the named disks that a point has: a disk may be younger than a point, or have been removed before."""
    known = {name for disk in point.disks for name in (disk.label, disk.disk_id)}
    return tuple(name for name in names if name in known)


async def _verify(
    repository: Path, points: tuple[str, ...], disks: tuple[str, ...], request: Request, screen: Screen
) -> tuple[list[PointVerdict], list[RepositoryError]]:
    """Return what was found of the points, and of all points what cannot even be listed."""
    opened = await Repository.open(repository)
    chosen = await _choose(opened, points, disks, screen)
    damaged = [] if points else await opened.damaged()
    with screen.view() as view:
        verdicts = await verify_points(
            opened,
            chosen,
            options=request.options,
            parallel=request.parallel,
            sampling=request.sampling,
            on_event=VerifyEvents(view, (point for point, _ in chosen)),
        )
    return verdicts, damaged


def _raise_if_wrong(verdicts: list[PointVerdict], damaged: list[RepositoryError]) -> None:
    """Raise for the first disk that is wrong, or file that cannot be read.  The others are in the result."""
    errors: list[NtxError] = [error for verdict in verdicts for error in _errors(verdict)]
    errors += damaged
    unknown = dict.fromkeys(verdict.marks.problem for verdict in verdicts if verdict.marks.problem)
    errors += [RepositoryError(problem) for problem in unknown]
    if not errors:
        return _raise_if_distrusted(verdicts)
    first = errors[0]
    more = f"; {plural(len(errors) - 1, 'other disk or file')} wrong too" if len(errors) > 1 else ""
    if any(verdict.is_right for verdict in verdicts):
        raise SomeFailed(f"{first}{more}")
    if isinstance(first, ChecksumMismatch):
        raise ChecksumMismatch(f"{first}{more}", offsets=first.offsets, blocks=first.blocks)
    raise RepositoryError(f"{first}{more}")


def _raise_if_distrusted(verdicts: list[PointVerdict]) -> None:
    """Raise for points that are as captured, and nevertheless may not be what the disks were."""
    distrusted = [
        f"point {verdict.point.id}: {distrust_text(verdict.marks.distrusted)}"
        for verdict in verdicts
        if verdict.marks.is_distrusted
    ]
    if distrusted:
        more = f"; {plural(len(distrusted) - 1, 'other point')} too" if len(distrusted) > 1 else ""
        raise SomeFailed(f"{distrusted[0]}{more}")


def _errors(verdict: PointVerdict) -> Iterator[NtxError]:
    """Yield an error for each disk that is wrong, and each file."""
    for disk in verdict.disks:
        if not disk.is_right:
            message = f"point {verdict.point.id} disk {disk.disk.label} ({disk.disk.disk_id}): {disk.problem}"
            yield ChecksumMismatch(message, offsets=disk.offsets, blocks=disk.wrong_blocks)
    for problem in verdict.problems:
        yield RepositoryError(problem)


def _rows(verdict: PointVerdict) -> Iterator[list[str]]:
    for disk in verdict.disks:
        yield _row(verdict, disk)
    for problem in verdict.problems:
        yield [verdict.point.id, *[UNKNOWN] * 3, problem, UNKNOWN, UNKNOWN]


def _row(of_point: PointVerdict, verdict: DiskVerdict) -> list[str]:
    point, report = of_point.point, verdict.report
    rate = UNKNOWN if report is None else shown_rate(report.bytes_read, report.seconds)
    disk = verdict.disk
    result = "; ".join(
        filter(None, (verdict.problem or sampling_text(verdict.sampled), _distrust(of_point.marks, disk.disk_id)))
    )
    return [point.id, disk.label, format_size(disk.size), rate, result, disk.disk_id, disk.digest]


def _distrust(marks: Marks, disk_id: str) -> str:
    if marks.problem:
        return f"{DISTRUSTED}?"
    return distrust_text(each for each in marks.distrusted if each.disk_id == disk_id)


def _fields(verdict: PointVerdict) -> dict[str, object]:
    return {
        "point_id": verdict.point.id,
        "vm_id": verdict.point.vm_id,
        "vm_name": verdict.point.vm_name,
        "right": verdict.is_right,
        "problems": verdict.problems,
        "tracking_distrusted": verdict.marks.is_distrusted,
        "distrusted_disks": distrust_fields(verdict.marks.distrusted),
        "disks": [
            {
                "disk_id": disk.disk.disk_id,
                "label": disk.disk.label,
                "size": disk.disk.size,
                "digest": disk.disk.digest,
                "right": disk.is_right,
                "problem": disk.problem,
                "offsets": disk.offsets,
                "wrong_blocks": disk.wrong_blocks,
                "below_point_ids": disk.below_point_ids,
                "bytes_read": 0 if disk.report is None else disk.report.bytes_read,
                "seconds": None if disk.report is None else round(disk.report.seconds, 3),
                "sample": sampling_fields(disk.sampled),
            }
            for disk in verdict.disks
        ],
    }

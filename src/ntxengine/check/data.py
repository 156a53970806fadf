"""The data of the points of a VM: the tables of each image by qemu, its blocks by what verifies points.

What was found already is not told again: a manifest that is damaged is one finding, and not one for each point above.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from ntxengine.concurrency.parallel import map_limited
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.errors import RepositoryError
from ntxengine.events import OnEvent
from ntxengine.images import qemu_img
from ntxengine.repository import Finding, Point, PointDisk, Repository, Severity, reading
from ntxengine.repository.structure import Place
from ntxengine.verify import DiskVerdict, Sampling, verify_points

_REMEDY = (
    "put the image back from a copy of the repository; without one restore another point, or save what is right with "
    "`ntx restore --no-check`"
)
_TOLD = ("image", "manifest", "parent", "point", "link")


@dataclass(frozen=True)
class DataOptions:
    """How to read data; `sampling` is None for all of them."""

    sampling: Sampling | None = None
    options: CopyOptions | None = None
    parallel: int = 4


async def check_data(
    repository: Repository,
    points: Sequence[Point],
    known: Sequence[Finding],
    how: DataOptions,
    on_event: OnEvent,
) -> tuple[list[Finding], int]:
    """Read the data of the points of one VM; return what is wrong, and how many bytes of disks were read.

    Errors: ToolError (qemu-img is missing); as verify_points.
    """
    bad = {each.path for each in known if each.severity is Severity.DAMAGE and each.kind in _TOLD}
    if not points:
        return [], 0
    async with reading(points):
        # As they are now that nobody can remove their images: some may be gone, or have others, since they were listed.
        points = await _present(repository, points)
        images = [(point, disk) for point in points for disk in point.disks if point.image_path(disk) not in bad]
        tables = await map_limited(images, _check_tables, at_once=how.parallel)
        found = [each for each in tables if each is not None]
        bad |= {each.path for each in found}
        forgotten = await _forgotten(repository, points)
        chosen = [(point, ()) for point in points if point.id not in forgotten]
        verdicts = await verify_points(
            repository, chosen, options=how.options, parallel=how.parallel, sampling=how.sampling, on_event=on_event
        )
    bytes_read = 0
    for verdict in verdicts:
        for disk in verdict.disks:
            bytes_read += 0 if disk.report is None else disk.report.bytes_read
            was_told = disk.report is None and any(str(path) in disk.problem for path in bad)
            if not disk.is_right and not was_told:
                found.append(_finding(verdict.point, disk))
    return found, bytes_read


async def _present(repository: Repository, points: Sequence[Point]) -> list[Point]:
    """Return those that there still are and that can be read; of the others it was told."""
    present = []
    for point in points:
        with suppress(RepositoryError):
            present.append(await repository.read_point(point.path))
    return present


async def _forgotten(repository: Repository, points: Sequence[Point]) -> frozenset[str]:
    """Return which points nobody asks for any more: they are read as far as others need them."""
    with suppress(RepositoryError):
        for vm_id in {point.vm_id for point in points}:
            return (await repository.retention(vm_id)).forgotten
    return frozenset()


async def _check_tables(image: tuple[Point, PointDisk]) -> Finding | None:
    point, disk = image
    path = point.image_path(disk)
    try:
        await qemu_img.check_tables(path)
    except RepositoryError as exc:
        return Place(point.vm_id, point.id).from_error("image", exc, [path], _REMEDY)
    return None


def _finding(point: Point, verdict: DiskVerdict) -> Finding:
    path = point.image_path(verdict.disk)
    problem = verdict.problem.removeprefix(f"{path}: ")
    return Place(point.vm_id, point.id).damage("data", path, problem, _REMEDY)

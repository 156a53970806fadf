"""Verifying a point: every disk is read back through its whole chain and compared with the digests of its capture.

A disk that is wrong does not keep the others from being looked at: the verdict names each, with the offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ntxengine import copy as data_plane
from ntxengine.budget import share
from ntxengine.copy import CopyOptions, CopyReport, Progress
from ntxengine.errors import ChecksumMismatch, NbdError, RepositoryError, SourceError
from ntxengine.image import open_image
from ntxengine.parallel import each
from ntxengine.repository import Chains, Point, PointDisk, Repository
from ntxengine.repository.scan import read_point
from ntxengine.repository.sums import find_problems
from ntxengine.shield import in_thread

VerifyProgress = Callable[[PointDisk, Progress], None]


@dataclass(frozen=True)
class DiskVerdict:
    """What was found of one disk.  `problem` is "" if it is as captured; `offsets` are the first wrong blocks (bytes),
    `wrong_blocks` how many there are; `report` is None if it could not be read to its end."""

    disk: PointDisk
    problem: str
    offsets: tuple[int, ...] = ()
    wrong_blocks: int = 0
    report: CopyReport | None = None

    @property
    def is_right(self) -> bool:
        """Whether the disk is, byte for byte, what was captured."""
        return not self.problem


@dataclass(frozen=True)
class PointVerdict:
    """What was found of a point, in the order of its disks.

    `problems` are those of the files beside the disks, one line for each; no disk is looked at if point.json is wrong.
    """

    point: Point
    disks: tuple[DiskVerdict, ...]
    problems: tuple[str, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether all its disks are, and all that is recorded of it."""
        return not self.problems and all(disk.is_right for disk in self.disks)


async def verify_point(
    repository: Repository,
    point: Point,
    *,
    disks: Sequence[str] = (),
    options: CopyOptions | None = None,
    parallel: int = 4,
    chains: Chains | None = None,
    on_progress: VerifyProgress | None = None,
) -> PointVerdict:
    """Read back disks of `point` (ids or labels; none named: all), `parallel` at a time, and what is recorded of it.

    `chains` is for a caller that verifies many points: what is below them is then looked at once.
    Errors: NotFoundError (no such disk), ToolError.  What is wrong with the point is in the verdict and not raised.
    """
    try:
        point, _ = await in_thread(read_point, point.path)  # whatever the catalog remembers
    except RepositoryError as exc:
        return PointVerdict(point, (), (str(exc),))
    wanted = list(dict.fromkeys(point.disk(name) for name in disks)) if disks else list(point.disks)
    each_options = share(options or CopyOptions(), min(parallel, len(wanted)))

    async def verify_one(disk: PointDisk) -> DiskVerdict:
        return await _verify_disk(repository, point, disk, each_options, chains, on_progress)

    problems = await in_thread(find_problems, point.path)
    return PointVerdict(point, tuple(await each(wanted, verify_one, at_once=parallel)), tuple(problems))


async def _verify_disk(
    repository: Repository,
    point: Point,
    disk: PointDisk,
    options: CopyOptions,
    chains: Chains | None,
    on_progress: VerifyProgress | None,
) -> DiskVerdict:
    def tell(progress: Progress) -> None:
        if on_progress is not None:
            on_progress(disk, progress)

    try:
        with await in_thread(repository.manifest, point, disk) as manifest:
            chain = await in_thread(repository.images, point, disk, chains=chains)
            connections = options.most_connections
            async with open_image(chain, timeout_s=options.timeout_s, connections=connections) as device:
                report = await data_plane.verify(device, manifest, options=options, trusts_zeros=True, on_progress=tell)
    except ChecksumMismatch as exc:
        # The device's name may be a socket that is gone, and is not what a person knows the disk by.
        places = ", ".join(str(offset) for offset in exc.offsets)
        more = f" and {exc.blocks - len(exc.offsets)} more" if exc.blocks > len(exc.offsets) else ""
        problem = f"{exc.blocks} blocks of 64 KiB are not what was captured: at offset {places}{more}"
        return DiskVerdict(disk, problem if exc.blocks else str(exc), exc.offsets, exc.blocks)
    except (RepositoryError, SourceError, NbdError) as exc:
        return DiskVerdict(disk, str(exc))
    return DiskVerdict(disk, "", report=report)

"""A new image read back, before anybody relies on it."""

from __future__ import annotations

from collections.abc import Iterable

from ntxengine.dataplane.copy import CopyOptions, OnProgress
from ntxengine.errors import ChecksumMismatch
from ntxengine.repository import Chains, Point, PointDisk, Repository
from ntxengine.verify import Below, verify_disk


async def prove(
    repository: Repository,
    point: Point,
    disk: PointDisk,
    onto: tuple[Point, PointDisk] | None,
    *,
    known: Iterable[Point] = (),
    options: CopyOptions,
    on_progress: OnProgress,
) -> None:
    """Compare what the image of a disk holds, on top of `onto` or of nothing, with the manifest of the point.

    `point` says what it will say: its folder may say something else, or nothing, yet.  What `onto` holds is believed.
    `known` are other points of the VM, as their folders have them now: they are not read again.
    Errors: ChecksumMismatch; ToolError, TransferTimeout.
    """
    verdict = await verify_disk(
        repository,
        point,
        disk,
        below=None if onto is None else Below(*onto, 1, {}),
        chains=Chains([*known, point]),
        options=options,
        on_progress=on_progress,
    )
    if verdict.problem:
        raise ChecksumMismatch(
            f"point {point.id} disk {disk.label}: what was just written reads back wrong: {verdict.problem}",
            offsets=verdict.offsets,
            blocks=verdict.wrong_blocks,
        )

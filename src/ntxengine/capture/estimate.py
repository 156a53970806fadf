"""How many bytes a capture will add to the repository: guessed from the points that there are.

    incremental    what the last point sent, if that was incremental too, otherwise nobody can tell
    full           what the images of the disk take now
    the first      a share of the disk: smaller where its storage container is deduplicated

The cluster tells what changed, and what is allocated, only of a recovery point, which does not exist yet.
"""

from __future__ import annotations

from ntxengine.errors import RepositoryError
from ntxengine.prism.models import Disk
from ntxengine.repository import Point, Repository

EXPECTED, EXPECTED_OF_DEDUPLICATED = 0.9, 0.7
"""Of the size of a disk that was never captured.  What it really has allocated only a recovery point tells."""


async def estimate_bytes(
    repository: Repository, disk: Disk, newest: Point | None, *, is_incremental: bool, has_dedup: bool
) -> int | None:
    """Return what a disk will take, None where nobody can tell.  `newest` is the newest point that can be read."""
    previous = next((each for each in newest.disks if each.disk_id == disk.id.lower()), None) if newest else None
    if newest is None or previous is None:
        return int(disk.size * (EXPECTED_OF_DEDUPLICATED if has_dedup else EXPECTED))
    if is_incremental:
        return _sent(newest, previous.disk_id)
    try:
        return min(await repository.bytes_allocated(newest, previous), disk.size)
    except RepositoryError:
        return None


def _sent(point: Point, disk_id: str) -> int | None:
    """Return what an incremental point sent of a disk, None if that is not said."""
    report = point.report.disks.get(disk_id)
    if report is None or not report.incremental or report.bytes_sent is None or report.bytes_sent < 0:
        return None
    return report.bytes_sent

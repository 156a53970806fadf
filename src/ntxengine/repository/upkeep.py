"""What is done to the points of a VM after their capture, while nobody captures it: merged, and removed.

async with repository.lock(vm_id) as lock:
    upkeep = Upkeep(repository, lock)
    await upkeep.finish()                     # what was begun before
    await upkeep.rewrite(point)               # its images are others now
    await upkeep.finish()
    await upkeep.remove(ids)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import RepositoryError
from ntxengine.repository import distrust, removal, rewrite
from ntxengine.repository.lock import VmLock
from ntxengine.repository.point import Point
from ntxengine.repository.removal import Removal
from ntxengine.repository.repository import Repository
from ntxengine.repository.retention import PointRetention, Retention
from ntxengine.repository.scan import scan


async def all_points(repository: Repository, vm_id: str) -> tuple[Point, ...]:
    """Return all points of a VM, oldest first, as their folders have them now, also those that are forgotten.

    Errors: RepositoryError (one cannot be read, and so nobody knows what it is on top of).
    """
    found = await to_thread_joined(scan, repository.path, {}, vm_id)
    for error in (*found.damaged.values(), *found.strange.values()):
        raise RepositoryError(
            f"{error}; nobody can tell what that is on top of: nothing of this VM is pruned, or copied there, before "
            f"it is put back from a copy of the repository, or moved out of it: `ntx points` names those that need it"
        )
    return tuple(found.points)


async def copy_distrust(here: Repository, there: Repository, lock: VmLock, point_ids: Collection[str]) -> None:
    """Let another repository, whose VM is locked, know what audits found of these points.

    Errors: RepositoryError (what is remembered cannot be read), TargetError.
    """
    folder = there.check_lock(lock)
    marks = await to_thread_joined(distrust.read, here.path / folder.name)
    await to_thread_joined(distrust.add, folder, [each for each in marks if each.point_id in point_ids])


async def copy_said(here: Repository, there: Repository, lock: VmLock, point_id: str) -> None:
    """Let another repository, whose VM is locked, know the tags and the hold of a point that is about to be there.

    Before the point is: a kill in between may not leave one that was held without its hold.
    Errors: RepositoryError (what is remembered cannot be read), TargetError; LockedError.
    """
    vm_id = there.check_lock(lock).name
    said = replace((await here.retention(vm_id)).of(point_id), forgotten_at=None)
    if said != PointRetention():
        await there.change_retention(vm_id, lambda found: Retention({**found.points, point_id: said}))


class Upkeep:
    """Changes the points of the VM that is locked.

    Errors: RepositoryError, if the lock was given back; also as all_points.
    """

    def __init__(self, repository: Repository, lock: VmLock) -> None:
        self._repository = repository
        self._lock = lock

    async def points(self) -> tuple[Point, ...]:
        """Return all points.  Errors: as all_points."""
        return await all_points(self._repository, self._folder().name)

    async def rewrite(self, point: Point) -> Point:
        """Make `point` what its folder says: for all of its disks at one moment.

        Errors: RepositoryError (it cannot be true), TargetError.
        """
        self._folder()
        return await to_thread_joined(rewrite.rewrite, point)

    async def finish(self) -> None:
        """Bring to its end what was begun of merges and removals, as far as nobody reads what is to be removed.

        Errors: RepositoryError, TargetError.
        """
        await to_thread_joined(removal.finish_pruning, await self.points(), self._folder())

    async def remove(self, goes: Collection[str]) -> Removal:
        """Remove points, by their ids, that nothing which stays is on top of and that nobody reads from.

        Errors: RepositoryError, TargetError.
        """
        return await to_thread_joined(removal.remove_points, await self.points(), goes)

    async def drop_retention_of_gone(self) -> list[str]:
        """Leave out what was said of forgotten points that are gone; return their ids.  Errors: TargetError."""
        return await self._repository.drop_retention_of_gone(self._lock)

    async def bytes_allocated(self) -> int:
        """Return what all files of the VM take on their file system.  Errors: RepositoryError."""
        return await to_thread_joined(removal.bytes_of, self._folder())

    def _folder(self) -> Path:
        return self._repository.check_lock(self._lock)

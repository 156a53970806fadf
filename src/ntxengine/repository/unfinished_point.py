"""A point that is being made, to be awaited: what BlockingUnfinishedPoint does, in threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.images.create import NewImage
from ntxengine.repository.interrupted import StoredResume
from ntxengine.repository.point import Point, PointDisk, PointRecord
from ntxengine.repository.unfinished import BlockingUnfinishedPoint, ResumePaths


class UnfinishedPoint:
    """A point that is being made, from Repository.begin or `reopen` to `commit` or `abort`."""

    def __init__(self, blocking: BlockingUnfinishedPoint) -> None:
        """Not for callers: see Repository.begin."""
        self._blocking = blocking
        self.id = blocking.id
        self.path = blocking.path
        self.parent = blocking.parent
        self.vm_id = blocking.vm_id
        self.warnings = blocking.warnings

    @property
    def is_committed(self) -> bool:
        """Whether it is a point, for everybody to see: also where `commit` was cancelled."""
        return self._blocking.is_committed

    async def add_disk(self, disk_id: str, size: int, parent_disk: PointDisk | None) -> NewImage:
        """Return the image that a disk is to have: empty, or an overlay on the same disk in the parent.

        The caller makes it (images.create), before `commit`.
        Errors: as BlockingUnfinishedPoint.add_disk.
        """
        return await to_thread_joined(self._blocking.add_disk, disk_id, size, parent_disk)

    def manifest_path(self, disk_id: str) -> Path:
        """Return where the manifest of a disk belongs."""
        return self._blocking.manifest_path(disk_id)

    def resume_paths(self, disk_id: str) -> ResumePaths:
        """Return where what is needed to go on with a disk belongs."""
        return self._blocking.resume_paths(disk_id)

    async def keep_resume(self, resume: StoredResume) -> None:
        """Let the capture be gone on with if it is interrupted.  Errors: TargetError."""
        await to_thread_joined(self._blocking.keep_resume, resume)

    async def keep_until(self, expires_at: datetime) -> None:
        """Change until when the cluster keeps the recovery point.  Errors: TargetError."""
        await to_thread_joined(self._blocking.keep_until, expires_at)

    async def keep_in_vain(self, times: int) -> None:
        """Change how often in a row the capture has failed without getting further.  Errors: TargetError."""
        await to_thread_joined(self._blocking.keep_in_vain, times)

    async def bytes_stored(self) -> int:
        """Return how many bytes of all disks a next capture would find stored."""
        return await to_thread_joined(self._blocking.bytes_stored)

    async def forget_disk(self, disk_id: str) -> None:
        """Remove what an interrupted capture left of a disk, which begins again.  Errors: TargetError."""
        await to_thread_joined(self._blocking.forget_disk, disk_id)

    async def has_progress(self) -> bool:
        """Say whether something is stored that a next capture can go on with.  Never fails."""
        return await to_thread_joined(self._blocking.has_progress)

    def leave(self) -> None:
        """Leave it for the next capture to go on with: `abort` does nothing any more."""
        self._blocking.leave()

    def disk_entry(self, disk_id: str, label: str, digest: str, *, writer: str = "") -> PointDisk:
        """Return what the record says of a disk that `add_disk` knows."""
        return self._blocking.disk_entry(disk_id, label, digest, writer=writer)

    async def distrust_chain(
        self, newest: Point, disk: PointDisk, offsets: Sequence[int], *, was_zero: bool
    ) -> list[str]:
        """Remember that changes of a disk were found by a tracker that is wrong; return the points that are distrusted.

        Errors: as BlockingUnfinishedPoint.distrust_chain.
        """
        return await to_thread_joined(self._blocking.distrust_chain, newest, disk, offsets, was_zero=was_zero)

    async def commit(self, record: PointRecord, *, vm_config: Mapping[str, Any] | None = None) -> Point:
        """Make the point visible, as a whole even if cancelled meanwhile: `is_committed` tells.

        `vm_config` is the VM as Prism gave it.  After an error nothing is visible, and `abort` is due.
        Errors: as BlockingUnfinishedPoint.commit.
        """
        return await to_thread_joined(self._blocking.commit, record, vm_config=vm_config)

    async def abort(self) -> None:
        """Remove all of it.  A second time, or after `commit`, does nothing.  Errors: TargetError."""
        await to_thread_joined(self._blocking.abort)

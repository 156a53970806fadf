"""A point that is being made.  It becomes visible as a whole, or never.

begin            .unfinished-<id>/            never listed as a point
keep_resume      .unfinished-<id>/resume      from here on a capture that is killed can be gone on with
add_disk ...     .unfinished-<id>/disk-...
commit           check, write JSON and its digests, sync files, sync folder
                 rename to <id>/, sync the VM's folder     <- from here on it is a point
                 enter into the catalog                     (healed by the next reader if we die before)
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from ntxengine.errors import NtxError, OptionsError, RepositoryError
from ntxengine.files import durable
from ntxengine.images import qemu_img
from ntxengine.images.create import NewImage
from ntxengine.repository import distrust, interrupted, layout, point, stored, sums
from ntxengine.repository.chain import images_of, open_manifest
from ntxengine.repository.distrust import Distrust
from ntxengine.repository.interrupted import StoredResume
from ntxengine.repository.lock import VmLock
from ntxengine.repository.point import Point, PointDisk, PointRecord
from ntxengine.repository.report import encode_report

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _NewDisk:
    size: int
    backing: str


@dataclass(frozen=True)
class ResumePaths:
    """Files beside a disk of an unfinished point: what is to be copied of it, and how far that is done."""

    changes: Path
    journal: Path


class BlockingUnfinishedPoint:
    """From PointStore.begin or `reopen` to `commit` or `abort`.  As a context manager it aborts what was not committed.

    `warnings` are of what its file system lacks.
    """

    def __init__(
        self,
        point_id: str,
        path: Path,
        parent: Point | None,
        *,
        lock: VmLock,
        committed: Callable[[Point], None],
        warnings: Sequence[str] = (),
        resume: StoredResume | None = None,
    ) -> None:
        """Not for callers: see PointStore.begin.  `lock` stays the caller's, and is held until the end."""
        self.id = point_id
        self.path = path
        self.parent = parent
        self.warnings = tuple(warnings)
        self._lock = lock
        self._committed = committed
        self._disks: dict[str, _NewDisk] = {}
        self._distrusting = threading.Lock()  # disks are audited in parallel, and the marks are one file
        self._resume = resume
        self._is_open = True
        self._is_committed = False

    @property
    def is_committed(self) -> bool:
        """Whether it is a point, for everybody to see."""
        return self._is_committed

    @property
    def vm_id(self) -> str:
        return self.path.parent.name

    def add_disk(self, disk_id: str, size: int, parent_disk: PointDisk | None) -> NewImage:
        """Return the image that a disk is to have: empty, or an overlay on the same disk in the parent.

        The caller makes it (images.create), before `commit`.  Blocks: a small read for each image below.
        Errors: RepositoryError (an id that is no UUID; a parent disk that is not the parent's, or damaged),
                OptionsError (size).
        """
        self._check_open()
        disk_id = layout.checked_uuid(disk_id, "disk id")
        if not 0 <= size <= point.MAX_DISK_SIZE:
            raise OptionsError(f"disk {disk_id}: {size} is not a size")
        if disk_id in self._disks:
            raise RepositoryError(f"{self.path}: disk {disk_id} is in the point already")
        backing: str = ""
        below: tuple[Path, ...] = ()
        if parent_disk is not None:
            if self.parent is None or parent_disk not in self.parent.disks or parent_disk.disk_id != disk_id:
                raise RepositoryError(f"{self.path}: disk {disk_id} is not in the parent of this point")
            below = images_of(self.parent, parent_disk)  # nothing is put on top of what cannot be read
            backing = layout.backing_name(self.parent.id, parent_disk.file)
        self._disks[disk_id] = _NewDisk(size, backing)
        return NewImage(self.path / layout.image_name(disk_id), size, backing, below)

    def manifest_path(self, disk_id: str) -> Path:
        """Return where the manifest of a disk belongs."""
        return self.path / layout.manifest_name(layout.checked_uuid(disk_id, "disk id"))

    def resume_paths(self, disk_id: str) -> ResumePaths:
        """Return where what is needed to go on with a disk belongs."""
        disk_id = layout.checked_uuid(disk_id, "disk id")
        return ResumePaths(self.path / layout.changes_name(disk_id), self.path / layout.journal_name(disk_id))

    def keep_resume(self, resume: StoredResume) -> None:
        """Let the capture be gone on with if it is interrupted.  Errors: TargetError."""
        self._check_open()
        interrupted.write(self.path, resume)
        self._resume = resume

    def keep_until(self, expires_at: datetime) -> None:
        """Change until when the cluster keeps the recovery point, if the capture can be gone on with.

        Errors: TargetError.
        """
        if self._resume is not None:
            self.keep_resume(replace(self._resume, expires_at=expires_at))

    def keep_in_vain(self, times: int) -> None:
        """Change how often in a row the capture has failed without getting further.  Errors: TargetError."""
        if self._resume is not None:
            self.keep_resume(replace(self._resume, in_vain=times))

    def bytes_stored(self) -> int:
        """Return how many bytes of all disks a next capture would find stored.  Blocks: a small read for each disk."""
        return 0 if self._resume is None else interrupted.bytes_stored(self.path, self._resume)

    def forget_disk(self, disk_id: str) -> None:
        """Remove what an interrupted capture left of a disk, which begins again.  Errors: TargetError."""
        self._check_open()
        disk_id = layout.checked_uuid(disk_id, "disk id")
        names = (layout.journal_name, layout.changes_name, layout.manifest_name, layout.image_name, layout.map_name)
        for name in names:  # the journal first: without it nobody goes on
            durable.remove_tree(self.path / name(disk_id))
        self._disks.pop(disk_id, None)

    def has_progress(self) -> bool:
        """Say whether something is stored that a next capture can go on with; not if the folder cannot be read."""
        disks = () if self._resume is None else self._resume.disks
        journals = [self.resume_paths(disk.disk_id).journal for disk in disks]
        return os.path.lexists(self.path / layout.RESUME_FILE) and any(map(os.path.lexists, journals))

    def disk_entry(self, disk_id: str, label: str, digest: str, *, writer: str = "") -> PointDisk:
        """Return what the record says of a disk that `add_disk` knows."""
        disk_id = layout.checked_uuid(disk_id, "disk id")
        disk = self._disks[disk_id]
        return PointDisk(
            disk_id=disk_id,
            label=label,
            size=disk.size,
            file=layout.image_name(disk_id),
            manifest=layout.manifest_name(disk_id),
            digest=digest,
            backing=disk.backing,
            writer=writer,
        )

    def distrust_chain(self, newest: Point, disk: PointDisk, offsets: Sequence[int], *, was_zero: bool) -> list[str]:
        """Remember, durably and whatever becomes of this point, that changes of a disk were found by a tracker that
        is wrong, and return the ids of the points that are distrusted: the newest before this one, whether or not
        this one goes on top of it, and those below, back to the last for which the disk was read as a whole.

        At `offsets` (bytes) the tracker was found wrong; `was_zero`: one of them is zero in the newest.
        Errors: TargetError, RepositoryError (what is remembered already cannot be read).
        """
        self._check_open()
        finding = Distrust(
            point_id=newest.id,
            disk_id=disk.disk_id,
            label=disk.label,
            found_by=self.id,
            found_at=layout.time_of(self.id),
            offsets=tuple(offsets),
        )
        found = distrust.of_chain(newest, finding, was_zero=was_zero)
        with self._distrusting:
            distrust.add(self.path.parent, found)
        return [each.point_id for each in found]

    def commit(self, record: PointRecord, *, vm_config: Mapping[str, Any] | None = None) -> Point:
        """Make the point visible, once all of it is on stable storage.  Blocks: syncs, and reads the manifests.

        `vm_config` is the VM as Prism gave it.  After an error nothing is visible, and `abort` is due.
        Errors: RepositoryError (the record does not fit what is in the folder), TargetError (file system full).
        """
        self._check_open()
        record = replace(record, vm_id=record.vm_id.lower(), sums=layout.SUMS_FILE)
        self._check(record)
        document = point.encode(record)
        files = {layout.POINT_FILE: document, layout.REPORT_FILE: stored.encode(encode_report(record.report))}
        if vm_config is not None:
            files[layout.VM_FILE] = stored.encode(vm_config)
        digests = sums.encode({name: [sums.digest_of(data)] for name, data in files.items()})
        for name, data in (files | {layout.SUMS_FILE: digests}).items():
            durable.write_file(self.path / name, data)
        final = self.path.parent / self.id
        committed = point.decode(document, file=self.path / layout.POINT_FILE, folder=final)
        for file in sorted(self.path.iterdir()):
            if not layout.is_for_resuming(file.name):
                durable.restrict(file)  # qemu-img, for one, makes what everybody may read
                durable.sync(file)
        interrupted.remove(self.path)
        durable.sync_folder(self.path)
        self._publish(final)
        self._is_open, self._is_committed = False, True
        self._committed(committed)
        return committed

    def leave(self) -> None:
        """Leave it for the next capture to go on with."""
        self._is_open = False

    def abort(self) -> None:
        """Remove all of it.  A second time, or after `commit` or `leave`, does nothing.  Errors: TargetError."""
        if not self._is_open:
            return
        self._is_open = False
        durable.remove_tree(self.path)

    def __enter__(self) -> BlockingUnfinishedPoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if value is None:
            self.abort()
            return
        try:
            self.abort()
        except NtxError as exc:
            log.warning("%s; the next capture of the VM removes it", exc)

    def _publish(self, final: Path) -> None:
        durable.rename(self.path, final)
        try:
            durable.sync_folder(final.parent)
        except NtxError:
            # Nobody knows whether the name would survive a power cut: take it back rather than promise.
            with suppress(OSError):
                os.rename(final, self.path)
            raise

    def _check(self, record: PointRecord) -> None:
        problem = point.find_problem(record)
        if not problem and (record.id, record.vm_id) != (self.id, self.vm_id):
            problem = f"the record is of point {record.id} of VM {record.vm_id}"
        # None is right also with a parent, where every disk turned out to be full: find_problem saw that none needs it.
        if not problem and record.parent_id not in (None, None if self.parent is None else self.parent.id):
            problem = f"the record's parent is {record.parent_id}"
        if not problem and {disk.disk_id for disk in record.disks} != self._disks.keys():
            problem = f"the record has {len(record.disks)} disks, not the {len(self._disks)} that were added"
        if problem:
            raise RepositoryError(f"{self.path}: cannot be committed: {problem}")
        for disk in record.disks:
            self._check_disk(disk)

    def _check_disk(self, disk: PointDisk) -> None:
        created = self._disks[disk.disk_id]
        if (disk.size, disk.backing) != (created.size, created.backing):
            raise RepositoryError(
                f"{self.path}: cannot be committed: disk {disk.disk_id} was created with {created.size} bytes on "
                f"{created.backing!r}, the record says {disk.size} on {disk.backing!r}"
            )
        qemu_img.check(self.path / disk.file, size=disk.size, backing=disk.backing)
        open_manifest(self.path, disk).close()

    def _check_open(self) -> None:
        if not self._is_open:
            raise RepositoryError(f"{self.path}: this point was committed or aborted already")
        self._lock.check_held()

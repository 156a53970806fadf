"""A disk of an interrupted capture, as far as it got: what is to be read of it, its digests, its journal.

A disk of which something lacks or is damaged begins again, from the same recovery point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ntxengine.capture.copying import bytes_from
from ntxengine.capture.plan import DiskPlan
from ntxengine.changes import Changes, read_kept
from ntxengine.concurrency.completion import acquire_in_thread, to_thread_joined
from ntxengine.dataplane import journal
from ntxengine.dataplane.journal import DigestsBelow, Journal
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import OptionsError, RepositoryError
from ntxengine.prism.models import DiskPoint
from ntxengine.repository import StoredAudit, UnfinishedPoint


@dataclass(frozen=True)
class ResumedDisk:
    """What there is of a disk.  Everything below `stored_to` (bytes) is in its image, and of `manifest`.

    `audit` is what the audit found, None if there was none.  `is_whole`: nothing is left to copy.
    """

    changes: Changes
    audit: StoredAudit | None
    manifest: Manifest
    stored_to: int
    is_whole: bool
    identity: Mapping[str, str]

    def close(self) -> None:
        """Close its files."""
        self.manifest.close()
        self.changes.extents.close()


def identity_of(unfinished: UnfinishedPoint, frozen: DiskPoint, *, changes: str) -> dict[str, str]:
    """Return what has to be the same when the copy of a disk is gone on with; `changes` is KeptChanges.digest."""
    return {
        "point": unfinished.id,
        "parent point": "none" if unfinished.parent is None else unfinished.parent.id,
        "recovery point": frozen.recovery_point_id,
        "disk recovery point": frozen.id,
        "disk": frozen.disk_id,
        "list of what is to be read": changes,
    }


async def open_resumed(
    unfinished: UnfinishedPoint, plan: DiskPlan, frozen: DiskPoint, *, warn: Callable[[str], None]
) -> ResumedDisk | None:
    """Return what there is of a disk, for the caller to close; None if it begins again, and nothing is there then.

    Errors: TargetError (what is of no use cannot be removed).
    """
    disk = plan.disk
    try:
        found = await _open(unfinished, plan, frozen)
    except (RepositoryError, OptionsError) as error:
        warn(f"disk {disk.label} ({disk.id}): is copied from its beginning again: {error}")
        found = None
    if found is None:
        await unfinished.forget_disk(disk.id)
    return found


async def _open(unfinished: UnfinishedPoint, plan: DiskPlan, frozen: DiskPoint) -> ResumedDisk | None:
    paths = unfinished.resume_paths(plan.disk.id)
    kept_to = await to_thread_joined(journal.read, paths.journal)
    if kept_to is None or kept_to.stored_to == 0:
        return None
    kept = await read_kept(paths.changes, unfinished.path)
    if kept is None:
        raise RepositoryError(f"{paths.changes}: is missing")
    with ExitStack() as stack:
        changes = kept.changes
        stack.callback(changes.extents.close)
        identity = identity_of(unfinished, frozen, changes=kept.digest)
        kept_to.check_same(identity, changes.size, path=paths.journal)
        if changes.is_incremental and plan.previous is None:
            raise RepositoryError(f"{paths.changes}: is of a disk that the point below has not")
        audit = _decode_audit(kept.note)
        path = unfinished.manifest_path(plan.disk.id)
        manifest = await acquire_in_thread(lambda: _reopen(path, kept_to), give_back=Manifest.close)
        stack.callback(manifest.close)
        left = await to_thread_joined(bytes_from, changes.extents, kept_to.stored_to)
        stack.pop_all()
    return ResumedDisk(changes, audit, manifest, kept_to.stored_to, left == 0, identity)


def _reopen(path: Path, kept: Journal) -> Manifest:
    manifest = Manifest.reopen(path, size=kept.size, unseal=True)
    try:
        if DigestsBelow(manifest).at(kept.stored_to) != kept.digests:
            raise RepositoryError(f"{path}: its digests are not those that were kept")
    except BaseException:
        manifest.close()
        raise
    return manifest


def encode_audit(audit: StoredAudit | None) -> str:
    """Return what `note` of the kept changes says of an audit."""
    return msgspec.json.encode(audit).decode()


def _decode_audit(note: str) -> StoredAudit | None:
    try:
        return msgspec.json.decode(note, type=StoredAudit | None)
    except msgspec.MsgspecError as exc:
        raise RepositoryError(f"what was kept of an audit cannot be read: {exc}") from exc

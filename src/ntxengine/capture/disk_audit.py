"""The audit as a step of the capture of a disk: what it goes on from, and what follows from what it finds.

nothing wrong     the changes are believed
a block is wrong  marked: the earlier points whose changes were believed; then everything is read
cannot be read    a warning, and the changes are believed: whether the copy needs that place will be seen
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from ntxengine.attach import Attached
from ntxengine.capture.audit import Audited, Auditor, cursor_after
from ntxengine.capture.options import CaptureOptions
from ntxengine.capture.plan import DiskPlan
from ntxengine.changes import Changes, read_all_instead
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.copy import OnProgress
from ntxengine.dataplane.coverage import Blocks, Cursor, blocks_of
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source
from ntxengine.errors import NbdError, NtxError, RepositoryError, SourceError, TransferTimeout
from ntxengine.repository import Point, StoredAudit, UnfinishedPoint
from ntxengine.units import format_size

log = logging.getLogger(__name__)


class DiskAudit:
    """The audit of one disk of an unfinished point, whose `changes` the cluster told.

    `newest` is the newest point before it, also where the unfinished one does not go on top of that.
    """

    def __init__(
        self,
        plan: DiskPlan,
        changes: Changes,
        newest: Point | None,
        *,
        unfinished: UnfinishedPoint,
        options: CaptureOptions,
        warn: Callable[[str], None],
        on_progress: OnProgress,
    ) -> None:
        self._plan = plan
        self._changes = changes
        self._newest = newest
        self._unfinished = unfinished
        self._options = options
        self._warn = warn
        self._on_progress = on_progress
        self._name = f"disk {plan.disk.label} ({plan.disk.id})"
        # Of a disk that is read as a whole nothing is left to audit.
        self._can_be = changes.size > 0 and not changes.must_compare and changes.tracking != "full"
        self._audited = self._as_before()

    @property
    def is_due(self) -> bool:
        """Whether there is something to audit, and it is asked for."""
        return self._can_be and self._plan.audit is not None

    def stored(self) -> StoredAudit | None:
        """Return what the point keeps: how far the audits of the disk are, also where there was none this time."""
        return None if self._audited is None else self._audited.stored()

    async def run(self, attached: Attached, before: Manifest | None) -> Changes | None:
        """Audit the disk; return what is to be read instead if the changes cannot be believed.  The caller closes it.

        Errors: NtxError (they cannot, and nothing else is allowed); RepositoryError (that cannot be remembered).
        """
        assert self._plan.audit is not None
        cursor = Cursor.begin(blocks_of(self._changes.size)) if self._audited is None else self._audited.cursor
        try:
            async with open_source(attached.location, timeout_s=self._options.copy.timeout_s) as source:
                auditor = Auditor(
                    source,
                    self._changes,
                    before,
                    directory=self._unfinished.path,
                    options=self._options.copy,
                    on_progress=self._on_progress,
                )
                audited = await auditor.run(self._plan.audit, cursor)
        except (SourceError, NbdError, TransferTimeout) as error:
            audited = Audited(cursor, problem=str(error))
        self._audited = audited
        if audited.problem:
            blocks = audited.blocks_sampled
            self._warn(f"{self._name}: the audit compared {blocks} blocks, not all could be read: {audited.problem}")
        return await self._distrust(audited) if len(audited.wrong) else None

    def _as_before(self) -> Audited | None:
        """Return how far the audits were, None if all of the disk is read now, or was by the last capture."""
        parent = self._unfinished.parent if self._changes.is_incremental and self._can_be else None
        cursor = cursor_after(parent, self._plan.disk.id, self._changes.size)
        return None if cursor is None else Audited(cursor)

    async def _distrust(self, audited: Audited) -> Changes:
        """Mark the points that believed this tracker, and read everything."""
        said = "unchanged" if self._changes.is_incremental else "zero or unallocated"
        reason = (
            f"an audit found that {len(audited.wrong)} of {audited.blocks_sampled} blocks that the cluster reported "
            f"as {said} are not"
        )
        places = ", ".join(str(offset) for offset in audited.offsets)
        more = ", ..." if len(audited.wrong) > len(audited.offsets) else ""
        found = f"{self._name}: {reason}, at offset {places}{more}"
        if marked := await self._mark(audited, found):
            found += f"; tracking distrusted: {', '.join(marked)} may lack changes of this disk"
        whole = format_size(self._changes.size)
        if self._options.on_lost_tracking == "fail":
            raise NtxError(
                f"{found}; reading the whole disk ({whole}) instead was not allowed: allow it with "
                f"--on-lost-tracking scan"
            )
        self._warn(f"{found}; reading the whole disk, {whole}")
        return await read_all_instead(self._changes, reason, self._unfinished.path)

    async def _mark(self, audited: Audited, found: str) -> list[str]:
        """Mark the points that believed this tracker before, whether or not this one goes on top of them."""
        newest = self._newest
        disk = None if newest is None else newest.find_disk(self._plan.disk.id)
        if newest is None or disk is None:
            return []
        was_zero = await to_thread_joined(_is_one_zero, newest.manifest_path(disk), audited.wrong)
        try:
            return await self._unfinished.distrust_chain(newest, disk, audited.offsets, was_zero=was_zero)
        except NtxError as error:
            raise RepositoryError(
                f"{found}; which points believed it could not be recorded: {error}; so the next capture would believe "
                f"the cluster again: capture with --scan, or audit again (--audit)"
            ) from error


def _is_one_zero(manifest: Path, blocks: Blocks) -> bool:
    """Say whether one of the blocks is zero in a point, and assume it where nobody can tell."""
    try:
        with Manifest.open(manifest) as opened:
            known = blocks[blocks < opened.blocks]
            return bool((~opened.digests_at(known).any(axis=1)).any())
    except NtxError as error:
        log.warning("%s: taken for zero where an audit found otherwise: %s", manifest, error)
        return True

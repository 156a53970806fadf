"""The audit of the cluster's tracker, as a step of a disk in a cycle: how far it is goes from one cycle to the next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ntxengine.attach import Attached
from ntxengine.capture.audit import Audited, Auditor
from ntxengine.capture.plan import DiskPlan
from ntxengine.changes import Changes
from ntxengine.dataplane.copy import CopyOptions, OnProgress
from ntxengine.dataplane.coverage import Cursor, blocks_of
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source
from ntxengine.errors import NbdError, SourceError, TransferTimeout
from ntxengine.replicate.state import StoredReplicaDisk
from ntxengine.repository import StoredAudit


class Tracked:
    """The audit of one disk whose `changes` the cluster told; `before` has how far the audits were."""

    def __init__(
        self, options: CopyOptions, plan: DiskPlan, changes: Changes, before: StoredReplicaDisk | None
    ) -> None:
        self._options = options
        self._plan = plan
        self._changes = changes
        # Of a disk that is read as a whole nothing is left to audit, and audits begin anew.
        self._can_be = changes.size > 0 and not changes.must_compare and changes.tracking != "full"
        audit = None if before is None or not self._can_be or not changes.is_incremental else before.audit
        cursor = None if audit is None else Cursor(audit.seed, audit.position, audit.blocks)
        is_of_disk = cursor is not None and cursor.fits(blocks_of(changes.size))
        self.stored: StoredAudit | None = audit if is_of_disk else None
        self._cursor = cursor if is_of_disk and cursor is not None else Cursor.begin(blocks_of(changes.size))

    @property
    def is_due(self) -> bool:
        """Whether there is something to audit, and it is asked for."""
        return self._can_be and self._plan.audit is not None

    async def run(
        self,
        attached: Attached,
        before: Manifest | None,
        directory: Path,
        on_progress: OnProgress,
        warn: Callable[[str], None],
    ) -> str:
        """Audit it; return what is wrong with what the cluster told, "" if nothing was found."""
        assert self._plan.audit is not None
        try:
            async with open_source(attached.location, timeout_s=self._options.timeout_s) as source:
                auditor = Auditor(
                    source,
                    self._changes,
                    before,
                    directory=directory,
                    options=self._options,
                    on_progress=on_progress,
                )
                audited = await auditor.run(self._plan.audit, self._cursor)
        except (SourceError, NbdError, TransferTimeout) as error:
            audited = Audited(self._cursor, problem=str(error))
        self.stored = audited.stored()
        if audited.problem:
            warn(
                f"disk {self._plan.disk.label} ({self._plan.disk.id}): the audit compared {audited.blocks_sampled} "
                f"blocks, not all could be read: {audited.problem}"
            )
        if not len(audited.wrong):
            return ""
        said = "unchanged" if self._changes.is_incremental else "zero or unallocated"
        places = ", ".join(str(offset) for offset in audited.offsets)
        return (
            f"an audit found that {len(audited.wrong)} of {audited.blocks_sampled} blocks that the cluster reported as "
            f"{said} are not, at offset {places}: earlier generations may lack changes of this disk"
        )

"""One disk in one cycle: what changed, where it is written, and what is known of what is there.

find       what the cluster says changed, or all                                 nothing is written
prepare    the place, beside what is there; what is in doubt; the extents of the intent
run        attach -> audit -> (read the place, where all of it is in doubt) -> copy -> read a sample back -> settle

in doubt           known of the place             extents
nothing            the old manifest               own changes
extents            the same, but nothing there    both
all                its digests, as it is read     own changes, and where these are not those of the old manifest
a place of zeros   all of it is zero              own changes
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

from ntxengine.attach import Attacher
from ntxengine.capture.options import CaptureOptions
from ntxengine.capture.plan import DiskPlan
from ntxengine.capture.reference import Reference
from ntxengine.changes import ChangeQuery, Changes, Previous, find_changes, keep_changes
from ntxengine.concurrency.completion import acquire_in_thread, to_thread_joined
from ntxengine.dataplane.copy import CopyOptions, CopyReport
from ntxengine.dataplane.extents import ExtentFile
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import RepositoryError
from ntxengine.events import Emitter, ProgressAdapter, Stage, StageBegan, Subject
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import DiskPoint
from ntxengine.replicate.extents import united, with_zeros
from ntxengine.replicate.intent import Doubt, doubt_of
from ntxengine.replicate.options import ReplicateOptions
from ntxengine.replicate.state import IntentDisk, ReplicaState, StoredReplicaDisk
from ntxengine.replicate.targets.base import Kept, Named, Place, Target, TargetDisk


@dataclass(frozen=True)
class Context:
    """What the disks of one cycle share.  `doubted` is told of a disk that was read back as something else."""

    prism: Prism
    state: ReplicaState
    target: Target
    named: Named
    attacher: Attacher
    attaching: Callable[[], AbstractAsyncContextManager[None]]
    options: ReplicateOptions
    copy: CopyOptions
    generation: int
    emit: Emitter
    subject: Subject
    warn: Callable[[str], None]
    doubted: Callable[[str], Awaitable[None]]

    @property
    def capture(self) -> CaptureOptions:
        """What is taken of a capture."""
        return self.options.capture


@dataclass(frozen=True)
class DiskResult:
    """A disk that is whole, and what that took; `report` is None where nothing was to be written."""

    stored: StoredReplicaDisk
    kept: Kept | None
    tracking: str
    bytes_changed: int
    report: CopyReport | None = None
    blocks_verified: int = 0


@dataclass
class DiskCycle:
    """See above.  `before` is what the target has of the disk, `dead` what a cycle was about to do that is dead."""

    context: Context
    plan: DiskPlan
    frozen: DiskPoint
    before: StoredReplicaDisk | None
    dead: IntentDisk | None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    old: Manifest | None = None
    place: Place | None = None
    changes: Changes = field(init=False)
    extents: ExtentFile = field(init=False)
    doubt: Doubt = field(default_factory=Doubt)

    def __str__(self) -> str:
        return f"disk {self.plan.disk.label} ({self.plan.disk.id})"

    async def close(self) -> None:
        """Close its files."""
        await self.stack.aclose()

    # ------------------------------------------------------------------------------------------------ what changed

    async def find(self, reference: Reference) -> None:
        """Find out what changed.  Errors: as find_changes."""
        context, disk = self.context, self.plan.disk
        self.began(Stage.CHANGES)
        self.doubt = await self.stack.enter_async_context(doubt_of(context.state, self.dead, self.before))
        await self._open_old()
        why = reference.why_not(disk)
        if self.old is None:
            previous = None
        elif why:
            previous = Previous(self.old.size, None, why)
        else:
            previous = reference.previous(disk, self.frozen)
        query = ChangeQuery(
            prism=context.prism,
            disk=self.frozen,
            name=str(self),
            size=disk.size,
            directory=context.state.path,
            warn=self.warn,
        )
        options = context.capture
        self.take(
            await find_changes(
                query,
                None if options.full else previous,
                on_lost_tracking="scan" if options.scan else options.on_lost_tracking,
                reason_without="" if self.before is None else self.doubt.reason or why,
                is_asked_for=options.full,
                distrusted=self.plan.distrusted,
            )
        )

    async def _open_old(self) -> None:
        """Open the manifest of what is there, if there is one that can be believed."""
        if self.before is None:
            return
        if self.doubt.is_all and not self.context.target.can_mend:
            return
        try:
            opened = await acquire_in_thread(
                partial(self.context.state.manifest, self.before), give_back=Manifest.close
            )
            self.old = self.stack.enter_context(opened)
        except RepositoryError as error:
            self.doubt = Doubt(is_all=True, reason=str(error))
            self.warn(f"{self}: {error}: the target is read instead")

    def take(self, changes: Changes) -> None:
        self.changes = changes
        self.extents = changes.extents
        self.stack.callback(changes.extents.close)

    # ------------------------------------------------------------------------------------------- before any write

    @property
    def is_untouched(self) -> bool:
        """Whether nothing is to be read or written."""
        same = self.before is not None and self.old is not None and self.changes.size == self.before.size
        return same and self.changes.extents.count == 0 and not self.doubt

    async def prepare(self) -> None:
        """Make the place, and find out all that is to be written.  Errors: as Place.prepare; TargetError."""
        context, changes = self.context, self.changes
        if self.is_untouched:
            return
        disk = TargetDisk(
            self.plan.disk.id,
            self.plan.disk.label,
            changes.size,
            self.before,
            () if self.dead is None else self.dead.begun,
        )
        place = context.target.place(
            context.named, disk, context.generation, is_incremental=changes.is_incremental and self.old is not None
        )
        await place.prepare()
        self.place = place
        if place.is_unknown and not self.doubt:
            self.doubt = Doubt(is_all=True, reason="what is there was left by a replica whose state is lost")
        await self.find_extents()

    async def find_extents(self) -> None:
        assert self.place is not None
        changes, directory = self.changes, self.context.state.path
        if not changes.is_incremental:
            if self.place.is_zero:
                return
            self.extents = await with_zeros(changes.extents, changes.size, directory)
        elif self.doubt.windows is not None and not changes.must_compare:
            self.extents = await united(changes.extents, self.doubt.windows(), changes.size, directory)
        else:
            return
        self.stack.callback(self.extents.close)

    async def intent(self) -> IntentDisk | None:
        """Return what is about to be written, its extents kept durably; None if nothing is.  Errors: TargetError."""
        place, changes = self.place, self.changes
        if place is None:
            return None
        path = await to_thread_joined(self.context.state.changes_path, self.plan.disk.id)
        said = dataclasses.replace(changes, extents=self.extents)
        await keep_changes(said, path)
        is_regions = changes.is_incremental and not changes.must_compare and not self.doubt.is_all
        return IntentDisk(
            disk_id=self.plan.disk.id.lower(),
            label=self.plan.disk.label,
            size=changes.size,
            kind="regions" if is_regions else "scan" if changes.is_incremental else "full",
            keeps=place.keeps,
            changes=path.name,
            bytes=said.bytes_data + said.bytes_zero,
            names=place.names,
        )

    async def give_up(self) -> None:
        """The cycle failed: remove what was made beside."""
        if self.place is not None:
            await self.place.give_up()

    @property
    def subject(self) -> Subject:
        disk = self.plan.disk
        return {**self.context.subject, "disk_id": disk.id, "disk_label": disk.label}

    def began(self, stage: Stage) -> None:
        self.context.emit(StageBegan(stage=stage, **self.subject))

    def progress(self, stage: Stage) -> ProgressAdapter:
        return ProgressAdapter(self.context.emit, stage, self.subject)

    def warn(self, text: str) -> None:
        self.context.warn(text)

"""One disk of a capture: find changes, attach, audit, copy, detach, read back.

    Prism  --changes-->  extents on disk
    attached disk  --audit-->  the changes are believed, or everything is read instead; kept for a resumption
    attached disk  --copy-->  overlay (or full image)       digests --> manifest
                                           image  --read back-->  compared with the manifest

Nothing is attached for a disk that did not change and is not audited.  One that an interrupted capture has begun goes
on where that got to: nobody is asked again what changed.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ntxengine.attach import Attached, Attacher
from ntxengine.capture.copying import AttachedDisk, Copied, Copying, JournalPlace, copy_disk, finish_image
from ntxengine.capture.disk_audit import DiskAudit
from ntxengine.capture.options import CaptureOptions
from ntxengine.capture.plan import DiskPlan
from ntxengine.capture.readback import read_back
from ntxengine.capture.report import Stages, disk_report
from ntxengine.capture.resumed_disk import ResumedDisk, encode_audit, identity_of, open_resumed
from ntxengine.changes import ChangeQuery, Changes, Previous, find_changes, keep_changes
from ntxengine.concurrency.completion import acquire_in_thread, to_thread_joined
from ntxengine.dataplane.copy import CopyReport
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.retry import Patience
from ntxengine.errors import ChecksumMismatch, MissingProgram, NbdReplyError, NtxError, PlaceError, ToolError
from ntxengine.events import DiskDone, Emitter, ProgressAdapter, Stage, StageBegan, Subject
from ntxengine.files import free_space
from ntxengine.images.create import WRITERS, NewImage, make_image
from ntxengine.images.open import open_image
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import Disk, DiskPoint
from ntxengine.repository import DiskReport, Point, PointDisk, StoredAudit, UnfinishedPoint
from ntxengine.units import format_size

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Context:
    """What all disks of one capture share.

    `keeps_progress`: what is done is kept, for whoever goes on if it is interrupted; `is_resumed`: somebody did so.
    `reading` is the context in which a disk recovery point is attached, `attaching` the one in which that is asked for.
    """

    prism: Prism
    attacher: Attacher
    emit: Emitter
    subject: Subject
    options: CaptureOptions
    parent: Point | None
    newest: Point | None
    unfinished: UnfinishedPoint
    keeps_progress: bool
    is_resumed: bool
    warn: Callable[[str, Subject], None]
    attaching: Callable[[], AbstractAsyncContextManager[None]]
    reading: Callable[[str], AbstractAsyncContextManager[None]]

    def subject_of(self, disk: Disk) -> Subject:
        """Return who the events of a disk are about."""
        return {**self.subject, "disk_id": disk.id, "disk_label": disk.label}


class BuiltOnDamage(ChecksumMismatch):
    """What was put on top of the previous point is read back wrong: most likely that, or what is below it, is damaged
    where only reading it shows it."""


@dataclass(frozen=True)
class CapturedDisk:
    """A disk that is whole in the unfinished point, and its numbers."""

    disk: PointDisk
    report: DiskReport


async def capture_disk(context: Context, plan: DiskPlan, frozen: DiskPoint) -> CapturedDisk:
    """Put one disk of a recovery point into the unfinished point.  Leaves nothing attached, whatever happens.

    Errors: as find_changes, Attacher.attach and copy.copy; ChecksumMismatch (what was read back is not what was
            written); RepositoryError, ToolError.
    """
    stages = Stages()
    subject = context.subject_of(plan.disk)
    async with AsyncExitStack() as stack:
        resumed = await _open_resumed(context, plan, frozen)
        if resumed is not None:
            stack.callback(resumed.close)
            changes = resumed.changes
        else:
            changes = await _find_changes(context, plan, frozen, stages)
            stack.callback(changes.extents.close)
        captured = await _DiskCapture(context, plan, frozen, changes, stages, resumed).run(stack)
    context.emit(DiskDone(**subject))
    return captured


async def _open_resumed(context: Context, plan: DiskPlan, frozen: DiskPoint) -> ResumedDisk | None:
    if not context.is_resumed:
        return None
    subject = context.subject_of(plan.disk)
    return await open_resumed(context.unfinished, plan, frozen, warn=lambda text: context.warn(text, subject))


async def _find_changes(context: Context, plan: DiskPlan, frozen: DiskPoint, stages: Stages) -> Changes:
    subject = context.subject_of(plan.disk)
    query = ChangeQuery(
        prism=context.prism,
        disk=frozen,
        name=f"disk {plan.disk.label} ({plan.disk.id})",
        size=plan.disk.size,
        directory=context.unfinished.path,
        warn=lambda text: context.warn(text, subject),
        options=context.options.copy,
    )
    context.emit(StageBegan(stage=Stage.CHANGES, **subject))
    with stages(Stage.CHANGES):
        return await find_changes(
            query,
            _previous(plan, frozen),
            on_lost_tracking="scan" if context.options.scan else context.options.on_lost_tracking,
            reason_without=plan.lost,
            is_asked_for=context.options.full,
            distrusted=plan.distrusted,
        )


def _previous(plan: DiskPlan, frozen: DiskPoint) -> Previous | None:
    if plan.previous is None:
        return None
    return Previous.of(plan.previous.size, plan.reference, plan.lost, now=frozen)


class _DiskCapture:
    """The steps after the changes are known."""

    def __init__(
        self,
        context: Context,
        plan: DiskPlan,
        frozen: DiskPoint,
        changes: Changes,
        stages: Stages,
        resumed: ResumedDisk | None,
    ) -> None:
        self._context = context
        self._disk = plan.disk
        self._storage = plan.storage
        self._previous = plan.previous if changes.is_incremental else None
        self._frozen = frozen
        self._changes = changes
        self._stages = stages
        self._resumed = resumed
        self._subject = context.subject_of(plan.disk)
        self._audit = DiskAudit(
            plan,
            changes,
            context.newest,
            unfinished=context.unfinished,
            options=context.options,
            warn=self._warn,
            on_progress=self._progress(Stage.AUDIT),
        )

    async def run(self, stack: AsyncExitStack) -> CapturedDisk:
        before = await self._open_previous_manifest(stack)
        copied: Copied | None = None
        source: AttachedDisk | None = None
        async with AsyncExitStack() as reading:
            if self._must_attach():
                source = await reading.enter_async_context(AttachedDisk(self._attached))
                await self._run_audit(stack, source.attached, before)
            new, manifest = await self._begin(stack, before)
            if self._resumed is not None and self._resumed.is_whole:
                await finish_image(new, self._context.options.copy)
            elif source is None or self._is_untouched():
                await make_image(new, new.options.format)
            else:
                copied = await self._copy(source, new, manifest, before)
        digest = await to_thread_joined(manifest.seal)
        verified: CopyReport | None = None
        if self._context.options.verify and (copied is not None or self._resumed is not None):
            self._began(Stage.VERIFY)
            with self._stages(Stage.VERIFY):
                verified = await self._read_back(new, manifest, before)
        entry = self._context.unfinished.disk_entry(
            self._disk.id, self._disk.label, digest, writer=WRITERS[new.options.format].version
        )
        report = disk_report(
            self._changes,
            copied,
            verified,
            label=self._disk.label,
            trusted_point_id=self._trusted(copied),
            audit=self._stored_audit(),
            resumed_from=0 if self._resumed is None else self._resumed.stored_to,
            locality=None if source is None else source.attached.locality,
            storage=self._storage,
            compression=new.options.compression,
            bytes_allocated=bytes_allocated(new.path),
            stages=self._stages,
        )
        return CapturedDisk(entry, report)

    def _must_attach(self) -> bool:
        if self._resumed is not None:
            return not self._resumed.is_whole
        return self._audit.is_due or not self._is_untouched()

    def _stored_audit(self) -> StoredAudit | None:
        return self._audit.stored() if self._resumed is None else self._resumed.audit

    def _is_untouched(self) -> bool:
        """Nothing to read, and nothing to find out by reading."""
        return self._changes.extents.count == 0 and self._changes.size == self._disk.size

    async def _open_previous_manifest(self, stack: AsyncExitStack) -> Manifest | None:
        if self._previous is None or self._context.parent is None:
            return None
        path = self._context.parent.manifest_path(self._previous)
        before = await acquire_in_thread(partial(Manifest.open, path), give_back=Manifest.close)
        return stack.enter_context(before)

    @asynccontextmanager
    async def _attached(self) -> AsyncIterator[Attached]:
        """The disk, readable here.  One that was read to its end and cannot be taken away costs a warning, no more:
        what the cluster keeps says nothing of the bytes, and those are compared when they are read back."""
        self._began(Stage.ATTACH)
        async with self._context.reading(self._frozen.id), AsyncExitStack() as stack:
            with self._stages(Stage.ATTACH):
                async with self._context.attaching():
                    attaching = self._context.attacher.attach(self._frozen, self._changes.size)
                    attached = await stack.enter_async_context(attaching)
            where = attached.locality
            host = f", host {where.host}" if where.host else ""
            log.info("disk %s is read from %s (%s%s)", self._disk.label, attached.location.text, where.kind, host)
            yield attached
            try:
                await stack.aclose()
            except NtxError as error:
                self._warn(f"disk {self._disk.label} ({self._disk.id}) was copied, but {error}")

    async def _run_audit(self, stack: AsyncExitStack, attached: Attached, before: Manifest | None) -> None:
        """Ask whether the changes can be believed; if they cannot, all is to be read."""
        if self._resumed is None and self._audit.is_due:
            self._began(Stage.AUDIT)
            with self._stages(Stage.AUDIT):
                instead = await self._audit.run(attached, before)
            if instead is not None:
                self._changes = instead
                stack.callback(instead.extents.close)

    async def _begin(self, stack: AsyncExitStack, before: Manifest | None) -> tuple[NewImage, Manifest]:
        """Return the image that is to be made, and make the manifest that it starts with; or those that are there."""
        unfinished = self._context.unfinished
        size = self._changes.size
        added = await unfinished.add_disk(self._disk.id, size, self._previous)
        image = self._context.options.image_in(is_compressed=self._storage.container.is_compressed)
        new = dataclasses.replace(added, options=image)
        if self._resumed is not None:
            return new, self._resumed.manifest
        path = unfinished.manifest_path(self._disk.id)
        make = partial(Manifest.create if before is None else partial(Manifest.copy_of, before), path, size=size)
        manifest = await acquire_in_thread(make, give_back=Manifest.close)
        return new, stack.enter_context(manifest)

    async def _copy(self, source: AttachedDisk, new: NewImage, manifest: Manifest, before: Manifest | None) -> Copied:
        """Copy the extents.  A block that has the digest of the previous point is not stored again."""
        options = self._context.options
        journal = await self._keep_changes()
        self._began(Stage.COPY)
        with self._stages(Stage.COPY):
            return await copy_disk(
                Copying(
                    name=f"disk {self._disk.label}",
                    source=source,
                    new=new,
                    manifest=manifest,
                    before=before,
                    changes=self._changes,
                    options=dataclasses.replace(options.copy, target_is_zero=self._previous is None),
                    patience=Patience(options.retry_for_s),
                    journal=journal,
                    stored_to=0 if self._resumed is None else self._resumed.stored_to,
                    naming=partial(self._naming, new.path),
                    on_progress=self._progress(Stage.COPY),
                    tell=self._warn,
                )
            )

    async def _keep_changes(self) -> JournalPlace | None:
        """Keep what is to be read, for whoever goes on; return where to keep how far it is read."""
        unfinished = self._context.unfinished
        paths = unfinished.resume_paths(self._disk.id)
        if self._resumed is not None:
            return JournalPlace(paths.journal, self._resumed.identity)
        if not self._context.keeps_progress:
            return None
        note = encode_audit(self._audit.stored())
        digest = await keep_changes(self._changes, paths.changes, note=note)
        return JournalPlace(paths.journal, identity_of(unfinished, self._frozen, changes=digest))

    @contextmanager
    def _naming(self, image: Path) -> Iterator[None]:
        """Say of an error at a place, which knows a socket, what disk and what image it is about."""
        try:
            yield
        except PlaceError as error:
            text = str(error).removeprefix(f"{image}: ")
            text = f"disk {self._disk.label} ({self._disk.id}), image {image}: {text}"
            if isinstance(error, NbdReplyError) and not free_space.remedy(error.errno, image):
                text += self._full_remedy()
            raise type(error)(
                free_space.remedied(text, error.errno, image),
                offset=error.offset,
                length=error.length,
                errno=error.errno,
            ) from error
        except MissingProgram:
            raise
        except ToolError as error:
            raise ToolError(f"{error}{self._full_remedy()}") from error

    def _full_remedy(self) -> str:
        """Headers were looked at before; what else may be wrong below only qemu knows, when it opens the chain."""
        below = "; if an image below is damaged, a full point needs none of them (--full)"
        return "" if self._previous is None else below

    async def _read_back(self, new: NewImage, manifest: Manifest, before: Manifest | None) -> CopyReport:
        options = self._context.options.copy
        try:
            chain = (new.path, *new.below)
            connections = options.most_connections
            async with open_image(chain, timeout_s=options.timeout_s, connections=connections) as device:
                return await read_back(
                    device,
                    manifest,
                    before,
                    self._changes,
                    directory=new.path.parent,
                    options=options,
                    on_progress=self._progress(Stage.VERIFY),
                )
        except ChecksumMismatch as error:
            text = (
                f"disk {self._disk.label} ({self._disk.id}): what was just written is read back as something else: "
                f"{error}; the point was not kept"
            )
            parent = self._context.parent
            if self._previous is None or parent is None:
                raise ChecksumMismatch(text, offsets=error.offsets, blocks=error.blocks) from error
            raise BuiltOnDamage(
                f"{text}; point {parent.id}, which it went on top of, may be damaged: `ntx verify {parent.id}` tells, "
                f"and a full point needs nothing of it (--full)",
                offsets=error.offsets,
                blocks=error.blocks,
            ) from error

    def _trusted(self, copied: Copied | None) -> str | None:
        """Return the point of which a scan took blocks by their digest alone, and say so; None if there is none."""
        parent = self._context.parent
        unchanged = 0 if copied is None else copied.report.bytes_unchanged
        if not self._changes.must_compare or parent is None or not (unchanged or self._resumed):
            return None
        amount = format_size(unchanged) if self._resumed is None else "blocks"
        self._warn(
            f"disk {self._disk.label} ({self._disk.id}): {amount} have the digests that "
            f"they have in point {parent.id} and were not stored again; that the repository still holds these bytes "
            f"was not looked at: `ntx verify {parent.id}` does"
        )
        return parent.id

    def _began(self, stage: Stage) -> None:
        self._context.emit(StageBegan(stage=stage, **self._subject))

    def _progress(self, stage: Stage) -> ProgressAdapter:
        return ProgressAdapter(self._context.emit, stage, self._subject)

    def _warn(self, text: str) -> None:
        self._context.warn(text, self._subject)


def bytes_allocated(image: Path) -> int:
    """Return the bytes that a file takes on its file system."""
    return os.stat(image).st_blocks * 512

"""The writes of one disk in one cycle: read, compared with what is known of its place, written, and read back."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from ntxengine.attach import Attached
from ntxengine.capture.copying import AttachedDisk
from ntxengine.changes import read_all_instead
from ntxengine.concurrency.completion import acquire_in_thread, to_thread_joined
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.blocks import block_extents
from ntxengine.dataplane.copy import Checkpoints, CopyReport
from ntxengine.dataplane.coverage import Shuffled, blocks_of
from ntxengine.dataplane.differing import differing_extents
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.retry import Patience, retrying
from ntxengine.errors import ChecksumMismatch, NtxError
from ntxengine.events import DiskDone, Stage
from ntxengine.files import durable
from ntxengine.replicate import tracker
from ntxengine.replicate.disk import DiskCycle, DiskResult
from ntxengine.replicate.extents import disown, sample_of, united
from ntxengine.replicate.intent import IntentFile
from ntxengine.replicate.state import StoredImage, StoredReplicaDisk
from ntxengine.replicate.targets.base import Place
from ntxengine.repository import StoredAudit
from ntxengine.units import BLOCK_SIZE


class DiskWriting:
    """Brings a disk of a cycle, whose place is prepared, to what was frozen."""

    def __init__(self, disk: DiskCycle) -> None:
        self._disk = disk
        self._context = disk.context

    async def run(self, intent: IntentFile) -> DiskResult:
        """Bring the disk to what was frozen.  Errors: as Attacher.attach and copy.copy; ChecksumMismatch."""
        audited = tracker.Tracked(self._context.capture.copy, self._disk.plan, self._disk.changes, self._disk.before)
        if self._disk.place is None and not audited.is_due:
            result = self._as_before(audited.stored)
        else:
            async with AttachedDisk(self._attached) as source:
                audit = await self._audit(audited, source.attached, intent)
                if self._disk.place is None:
                    result = self._as_before(audit)
                else:
                    result = await self._copy(source, self._disk.place, audit)
        self._context.emit(DiskDone(**self._disk.subject))
        return result

    def _as_before(self, audit: StoredAudit | None) -> DiskResult:
        """Return the disk as it is there already: only its label may be another."""
        assert self._disk.before is not None
        stored = dataclasses.replace(self._disk.before, label=self._disk.plan.disk.label, audit=audit)
        return DiskResult(stored, None, self._disk.changes.tracking, 0)

    async def _audit(self, audited: tracker.Tracked, attached: Attached, intent: IntentFile) -> StoredAudit | None:
        """Ask whether the changes can be believed; if they cannot, all is to be read."""
        if not audited.is_due:
            return audited.stored
        self._disk.began(Stage.AUDIT)
        directory = self._context.state.path
        wrong = await audited.run(
            attached, self._disk.old, directory, self._disk.progress(Stage.AUDIT), self._disk.warn
        )
        if wrong:
            if self._context.capture.on_lost_tracking == "fail":
                raise NtxError(
                    f"{self._disk}: {wrong}, and reading the disk instead was not allowed (--on-lost-tracking)"
                )
            self._disk.warn(f"{self._disk}: {wrong}: reading the whole disk")
            self._disk.take(await read_all_instead(self._disk.changes, wrong, directory))
            if self._disk.place is None:
                await self._disk.prepare()
                said = await self._disk.intent()
                assert said is not None
                await intent.add(said)
            else:
                await intent.widen(self._disk.plan.disk.id.lower())
                await self._disk.find_extents()
        return audited.stored

    async def _copy(self, source: AttachedDisk, place: Place, audit: StoredAudit | None) -> DiskResult:
        state, disk, size = self._context.state, self._disk.plan.disk, self._disk.changes.size
        await place.begin()
        async with AsyncExitStack() as stack:
            known = await self._known(stack, place)
            name = state.manifest_name(self._context.generation, disk.id)
            old = self._disk.old if self._disk.changes.is_incremental else None
            make = Manifest.create if old is None else partial(Manifest.copy_of, old)
            made = await acquire_in_thread(partial(make, state.path / name, size=size), give_back=Manifest.close)
            manifest = stack.enter_context(made)
            report = await self._write(source, place, manifest, known)
            digest = await to_thread_joined(manifest.seal)
            await to_thread_joined(durable.sync_folder, state.path)
            blocks, cursor = await self._read_back(place, manifest)
        kept = await place.settle()
        below = {} if self._disk.before is None else {image.name: image for image in self._disk.before.files}
        stored = StoredReplicaDisk(
            disk_id=disk.id.lower(),
            label=disk.label,
            size=size,
            files=(StoredImage(kept.files[0], name), *(below[each] for each in kept.files[1:])),
            digest=digest,
            audit=audit,
            seed=cursor.seed,
            position=cursor.position,
        )
        changed = self._disk.changes.bytes_data + self._disk.changes.bytes_zero
        return DiskResult(stored, kept, self._disk.changes.tracking, changed, report, blocks)

    async def _known(self, stack: AsyncExitStack, place: Place) -> Manifest | None:
        """Return what the place is known to hold, None if nothing is, or it is all zero; and let the extents have all
        of it that is not what the manifest of before says."""
        if place.is_zero:
            return None
        directory = self._context.state.path
        if self._disk.doubt.is_all:
            self._disk.began(Stage.COMPARE)
            there = stack.enter_context(Manifest.temporary(size=self._disk.changes.size, directory=directory))
            await self._read_place(place, there)
            if self._disk.old is not None and self._disk.changes.is_incremental:
                differing = differing_extents(there, self._disk.old)
                self._disk.extents = await united(self._disk.extents, differing, self._disk.changes.size, directory)
                stack.callback(self._disk.extents.close)
            return there
        if self._disk.old is None or self._disk.doubt.windows is None:
            return self._disk.old
        known = await acquire_in_thread(
            partial(Manifest.temporary_copy_of, self._disk.old, directory=directory), give_back=Manifest.close
        )
        stack.enter_context(known)
        await to_thread_joined(disown, known, self._disk.doubt.windows())
        return known

    async def _read_place(self, place: Place, there: Manifest) -> None:
        options, checkpoints = self._context.copy, Checkpoints()

        async def once() -> CopyReport:
            async with place.reading(options) as device:
                return await dataplane.digest(
                    device,
                    there,
                    options=options,
                    reads_all=not place.tells_zeros,
                    checkpoints=checkpoints,
                    on_progress=self._disk.progress(Stage.COMPARE),
                )

        self._disk.warn(f"{self._disk}: the target is read first, because {self._disk.doubt.reason}")
        await retrying(once, checkpoints, self._patience, name=str(self._disk), tell=self._disk.warn)

    async def _write(
        self, source: AttachedDisk, place: Place, manifest: Manifest, known: Manifest | None
    ) -> CopyReport:
        self._disk.began(Stage.COPY)
        options = dataclasses.replace(self._context.copy, target_is_zero=place.is_zero)
        checkpoints = Checkpoints(lambda stored_to: place.keep())

        async def once() -> CopyReport:
            again = checkpoints.has_begun
            async with (
                place.writing(options, checkpoints.stored_to) as target,
                source.open(timeout_s=options.timeout_s, again=again) as device,
            ):
                return await dataplane.copy(
                    device,
                    target,
                    self._disk.extents.windows(),
                    options=options,
                    manifest=manifest,
                    reference=known,
                    bytes_expected=self._disk.extents.bytes_data + self._disk.extents.bytes_zero,
                    checkpoints=checkpoints,
                    on_progress=self._disk.progress(Stage.COPY),
                )

        report = await retrying(once, checkpoints, self._patience, name=str(self._disk), tell=self._disk.warn)
        if not report.is_flushed and not place.keeps:
            self._disk.warn(f"{self._disk}: the target cannot flush: what was written may be lost in a power cut there")
        return report.after(checkpoints.failed)

    async def _read_back(self, place: Place, manifest: Manifest) -> tuple[int, Shuffled]:
        """Compare what was written, or a sample of it, with what the target gives back."""
        size, options = self._disk.changes.size, self._context.options
        cursor = self._cursor()
        most = options.sample_bytes // BLOCK_SIZE
        if not most and not options.verify_all:
            return 0, cursor
        chosen, cursor = await to_thread_joined(sample_of, self._disk.extents, size, most, cursor)
        places = [block_extents(chosen, chosen + 1, size)]
        self._disk.began(Stage.VERIFY)
        checkpoints = Checkpoints()
        try:
            with Manifest.temporary(size=size, directory=self._context.state.path) as found:

                async def once() -> CopyReport:
                    async with place.reading(self._context.copy) as device:
                        return await dataplane.verify(
                            device,
                            manifest,
                            options=self._context.copy,
                            extents=self._disk.extents.windows if options.verify_all else lambda: places,
                            checkpoints=checkpoints,
                            found=found,
                            on_progress=self._disk.progress(Stage.VERIFY),
                        )

                await retrying(once, checkpoints, self._patience, name=str(self._disk), tell=self._disk.warn)
        except ChecksumMismatch as error:
            await self._context.doubted(self._disk.plan.disk.id)
            raise ChecksumMismatch(
                f"{self._disk}: what the target gives back is not what was written there: {error}; the next cycle "
                f"reads all of it, and writes what differs",
                offsets=error.offsets,
                blocks=error.blocks,
            ) from error
        return len(chosen), cursor

    def _cursor(self) -> Shuffled:
        blocks = blocks_of(self._disk.changes.size)
        if self._disk.before is not None and self._disk.before.position:
            found = Shuffled(self._disk.before.seed, self._disk.before.position, blocks)
            if found.fits(blocks):
                return found
        return Shuffled.begin(blocks)

    @asynccontextmanager
    async def _attached(self) -> AsyncIterator[Attached]:
        """The disk, readable here.  One that was read to its end and cannot be taken away costs a warning, no more."""
        self._disk.began(Stage.ATTACH)
        async with AsyncExitStack() as stack:
            async with self._context.attaching():
                attaching = self._context.attacher.attach(self._disk.frozen, self._disk.changes.size)
                attached = await stack.enter_async_context(attaching)
            yield attached
            try:
                await stack.aclose()
            except NtxError as error:
                self._disk.warn(f"{self._disk} was copied, but {error}")

    @property
    def _patience(self) -> Patience:
        return Patience(self._context.capture.retry_for_s)

"""A capture from beginning to end.

    lock VM -> plan -> begin point -> freeze -> every disk in parallel -> commit -> release the older recovery point
               |<------------- undone in reverse order when anything fails or is cancelled ------->|
                 or: reopen the point of a capture that was interrupted (resume.py)

The commit is where it turns: before it, all traces are removed; after it, the point and its recovery point stay.  What
was copied stays, too, where the next capture can go on with it: after a kill or a signal, a connection that is lost for
long, a full file system.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from contextlib import AbstractAsyncContextManager, nullcontext

from ntxengine.attach import Attacher, Attachers
from ntxengine.capture.copying import CannotResume
from ntxengine.capture.disk import BuiltOnDamage, CapturedDisk, Context, capture_disk
from ntxengine.capture.expiry import kept_by_cluster
from ntxengine.capture.freeze import Frozen, check_frozen, leave_out_untold
from ntxengine.capture.gathering import Gathering
from ntxengine.capture.options import CaptureOptions
from ntxengine.capture.plan import CapturePlan, DiskPlan, plan_capture
from ntxengine.capture.record import point_record
from ntxengine.capture.recorded import Recorder
from ntxengine.capture.report import Stages
from ntxengine.capture.resume import Resumer, is_kept, resume_of
from ntxengine.capture.shorten import shorten_chain
from ntxengine.concurrency.completion import run_to_completion
from ntxengine.concurrency.parallel import map_limited
from ntxengine.concurrency.rollback import Rollback
from ntxengine.dataplane.buffers import split_buffers
from ntxengine.events import (
    Emitter,
    OnEvent,
    Planned,
    PointCommitted,
    Stage,
    StageBegan,
    StartedOver,
    Subject,
    Warned,
    log_event,
)
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import Vm
from ntxengine.repository import Point, PointRecord, Repository, StoredResume, UnfinishedPoint, VmLock
from ntxengine.units import utc_now

log = logging.getLogger(__name__)


async def capture(
    prism: Prism,
    repository: Repository,
    vm: Vm,
    *,
    options: CaptureOptions,
    attacher: Attachers,
    on_event: OnEvent = log_event,
    gathering: Gathering | None = None,
) -> Point:
    """Capture a VM: in full the first time, then what changed.  Return the committed point.

    The VM is read from Prism again once it is locked.  Warnings go to `on_event` and into the point's report.  Times
    in the report that is returned are of the whole workflow; those in the stored one end before the commit.
    What went on top of a damaged point is not kept: a full point is made instead, loudly, unless `on_lost_tracking` is
    "fail", or the VM is frozen with others (`gathering`): the full point would be of another moment.
    Errors: LockedError; whatever a part of the workflow, or `on_event`, raises first.  Nothing is left behind then,
            neither here nor on the cluster, except what the log says could not be removed (`ntx sweep` removes it), and
            what the next capture can go on with, of which a warning tells.
            What `on_event` raises when the point is committed comes too late for that: the point stays.
    """
    emit = Emitter(on_event)
    damage = given_up = ""
    async with repository.lock(vm.id) as lock:
        await shorten_chain(repository, lock, vm, options, emit)
        while True:
            alone = Gathering(prism, [vm], options, at_once=1)
            one = _Capture(prism, repository, lock, vm, options, attacher, emit, gathering or alone)
            try:
                return await one.run(damage=damage, given_up=given_up)
            except CannotResume as error:
                if gathering is not None or given_up:
                    raise
                given_up = str(error)
            except BuiltOnDamage as error:
                if options.on_lost_tracking == "fail" or gathering is not None or damage:
                    raise
                damage = str(error)
            # Not silently: a full point warns with the reason of each disk, and records it.
            emit(StartedOver(vm_id=vm.id, vm_name=vm.name, reason=damage or given_up))


class _Capture:
    """One capture, while the VM is locked."""

    def __init__(
        self,
        prism: Prism,
        repository: Repository,
        lock: VmLock,
        vm: Vm,
        options: CaptureOptions,
        attacher: Attachers,
        emit: Emitter,
        gathering: Gathering,
    ) -> None:
        self._prism = prism
        self._repository = repository
        self._lock = lock
        self._vm = vm
        self._options = options
        self._attachers = attacher
        self._emit = emit
        self._subject: Subject = {"vm_id": vm.id, "vm_name": vm.name}
        self._unfinished: UnfinishedPoint | None = None
        self._resume: StoredResume | None = None
        self._gathering = gathering
        self._undo = Rollback()
        self._stages = Stages()
        self._warnings: list[str] = []
        self._attacher: Attacher
        self._recorder: Recorder

    async def run(self, *, damage: str, given_up: str) -> Point:
        """Capture it; `damage` is as in find_parent, `given_up` says why no interrupted capture is gone on with."""
        started_s = time.monotonic()
        try:
            self._began(Stage.PLAN)
            plan = await plan_capture(
                self._prism,
                self._repository,
                self._vm.id,
                self._options,
                attacher=self._attachers,
                damage=damage,
            )
            assert plan.attacher is not None
            self._attacher = plan.attacher
            self._recorder = Recorder(self._prism, self._repository, self._lock, plan.vm, self._warn)
            self._tell_plan(plan)
            if plan.removed:
                self._warn(
                    f"VM {plan.vm.name!r} no longer has {', '.join(plan.removed)}: older points keep what it was"
                )
            for remark in plan.remarks:
                self._warn(remark)
            if given_up:
                self._tell_given_up(plan, given_up)
            found = None if damage or given_up else await self._resumed(plan)
            plan, unfinished, frozen = found or await self._begun(plan)
            async with self._gathering.turn(), self._kept_by_cluster(frozen, unfinished):
                disks = await self._capture_disks(plan, unfinished, frozen)
            await self._recorder.end_attaching()
            record = self._record(plan, unfinished, frozen, disks, time.monotonic() - started_s)
            self._emit.raise_failure()
            with self._stages(Stage.COMMIT):
                point = await self._commit(unfinished, record, plan)
        except BaseException as error:
            await run_to_completion(self._end_early(error))
            raise
        self._emit(PointCommitted(**self._subject))
        with self._stages(Stage.RELEASE):
            await self._release(plan, point)
        self._emit.raise_failure()
        return self._with_the_end(point, started_s)

    async def _end_early(self, error: BaseException) -> None:
        """Undo what was done, or leave it for the next capture.  Errors: what the callback raised, if it did."""
        is_of_callback = self._emit.has_failed
        try:
            unfinished = self._unfinished
            if unfinished is not None and await is_kept(error, unfinished, self._resume):
                unfinished.leave()
                self._undo.forget()
                if not is_of_callback:
                    self._tell_kept(unfinished)
            else:
                self._tell_undo()
        finally:
            await self._undo.run()
        if is_of_callback:
            self._emit.raise_failure()

    def _tell_kept(self, unfinished: UnfinishedPoint) -> None:
        try:
            self._warn(
                f"what was copied is kept as point {unfinished.id}, unfinished: the same command goes on with it; "
                f"--no-resume, or `ntx sweep --unfinished`, gives it up"
            )
        except Exception as error:  # noqa: BLE001  logged: the first error is the one that is raised
            log.warning("on_event failed when it was told that what was copied is kept: %s", error)

    def _tell_given_up(self, plan: CapturePlan, why: str) -> None:
        self._warn(f"VM {plan.vm.name!r}: the capture that was interrupted is given up, and a new one begins: {why}")

    async def _resumed(self, plan: CapturePlan) -> tuple[CapturePlan, UnfinishedPoint, Frozen] | None:
        """Go on with an interrupted capture."""
        resumer = Resumer(self._prism, self._repository, self._lock, self._options, self._attacher, self._warn)
        if self._gathering.is_of_several:
            await resumer.require_none(plan)
            return None
        found = await resumer.find(plan)
        if found is None:
            return None
        self._unfinished, self._resume = found.unfinished, found.resume
        self._undo.add(f"remove the unfinished point {found.unfinished.path}", found.unfinished.abort)
        self._recorder.take_over(found.record)
        self._undo.add(f"remove recovery point {found.record.name}", self._recorder.take_back)
        self._subject = {"vm_id": plan.vm.id, "vm_name": plan.vm.name, "point_id": found.unfinished.id}
        await self._settle_site()
        return found.plan, found.unfinished, found.frozen

    async def _begun(self, plan: CapturePlan) -> tuple[CapturePlan, UnfinishedPoint, Frozen]:
        """Begin a point, and freeze the VM."""
        unfinished = await self._begin(plan)
        await self._settle_site()
        plan, frozen = await self._freeze(plan, unfinished)
        if not self._gathering.is_of_several:
            await unfinished.keep_resume(resume_of(plan, unfinished, frozen, self._options))
        return plan, unfinished, frozen

    def _kept_by_cluster(self, frozen: Frozen, unfinished: UnfinishedPoint) -> AbstractAsyncContextManager[None]:
        """Let the cluster keep the recovery point while the disks are copied."""
        until = frozen.point.expires_at or utc_now() + self._options.expiry
        return kept_by_cluster(
            self._prism,
            frozen.point,
            until=until if self._resume is None else self._resume.expires_at,
            lifetime=self._options.expiry,
            extended=unfinished.keep_until,
            warn=self._warn,
        )

    def _began(self, stage: Stage) -> None:
        self._emit(StageBegan(stage=stage, **self._subject))

    def _tell_undo(self) -> None:
        """What is raised here is not why the capture failed: that is on its way already."""
        if not self._undo.has_steps:
            return
        try:
            self._began(Stage.UNDO)
        except Exception as error:  # noqa: BLE001  logged: the first error is the one that is raised
            log.warning("on_event failed when it was told that the capture is undone: %s", error)

    def _tell_plan(self, plan: CapturePlan) -> None:
        self._subject = {"vm_id": plan.vm.id, "vm_name": plan.vm.name}
        self._emit(
            Planned(
                **self._subject,
                parent_id=None if plan.parent is None else plan.parent.id,
                consistency=plan.consistency,
                consistency_reason=plan.consistency_reason,
            )
        )

    async def _settle_site(self) -> None:
        if mismatch := await self._repository.settle_site():
            self._warn(f"{mismatch}; if it is to be a repository of its own: `ntx repository adopt DIR`")

    async def _begin(self, plan: CapturePlan) -> UnfinishedPoint:
        unfinished = self._unfinished = await self._repository.begin(self._lock, plan.parent)
        self._subject["point_id"] = unfinished.id
        self._undo.add(f"remove the unfinished point {unfinished.path}", unfinished.abort)
        for warning in unfinished.warnings:
            self._warn(warning)
        return unfinished

    async def _freeze(self, plan: CapturePlan, unfinished: UnfinishedPoint) -> tuple[CapturePlan, Frozen]:
        """Make the recovery point; return it with the plan, which lacks what cannot be had of it."""
        gathering = self._gathering
        plan = await gathering.agree(plan, unfinished.id)
        self._emit(StageBegan(stage=Stage.FREEZE, consistency=plan.consistency, **self._subject))
        recorder = self._recorder
        with self._stages(Stage.FREEZE):
            name = await recorder.announce(unfinished.id, self._attacher, gathering.members)
            self._undo.add(f"remove recovery point {name}", recorder.take_back)
            point = await gathering.freeze(plan.vm.id, name, self._warn)
            # Recorded before anything else is looked at: undoing it needs the id.
            await recorder.complete(point)
        plan = leave_out_untold(plan, point, self._warn)
        return plan, check_frozen(plan, point, name, self._options, self._warn)

    async def _capture_disks(
        self, plan: CapturePlan, unfinished: UnfinishedPoint, frozen: Frozen
    ) -> dict[str, CapturedDisk]:
        """All disks, a few at a time.  The first error cancels the others; each cleans up after itself."""
        at_once = min(self._options.parallel, len(plan.disks))
        copies = at_once * self._options.captures_at_once
        context = Context(
            prism=self._prism,
            attacher=self._attacher,
            emit=self._emit,
            subject=self._subject,
            options=self._options,
            parent=plan.parent,
            newest=plan.newest,
            unfinished=unfinished,
            keeps_progress=not self._gathering.is_of_several,
            is_resumed=self._resume is not None,
            warn=self._warn,
            attaching=self._recorder.attaching if self._attacher.makes_clones else nullcontext,
            reading=self._gathering.reading,
        )

        async def capture_one(disk_plan: DiskPlan) -> CapturedDisk:
            copy = split_buffers(self._options.copy.on(disk_plan.storage.tier), copies)
            of_disk = dataclasses.replace(context, options=dataclasses.replace(self._options, copy=copy))
            return await capture_disk(of_disk, disk_plan, frozen.disks[disk_plan.disk.id])

        captured = await map_limited(plan.disks, capture_one, at_once=at_once)
        return {disk_plan.disk.id: disk for disk_plan, disk in zip(plan.disks, captured, strict=True)}

    def _record(
        self,
        plan: CapturePlan,
        unfinished: UnfinishedPoint,
        frozen: Frozen,
        disks: dict[str, CapturedDisk],
        took_s: float,
    ) -> PointRecord:
        return point_record(
            plan,
            unfinished.id,
            frozen,
            disks,
            consistency_requested=self._options.consistency,
            source=self._attacher.name,
            together=self._gathering.members,
            resume=self._resume,
            warnings=tuple(self._warnings),
            stages_s=self._stages.as_dict(),
            seconds=round(took_s, 3),
        )

    async def _commit(self, unfinished: UnfinishedPoint, record: PointRecord, plan: CapturePlan) -> Point:
        """Make the point visible.  It happens as a whole even if we are cancelled meanwhile."""

        self._began(Stage.COMMIT)
        try:
            return await unfinished.commit(record, vm_config=plan.vm.config)
        finally:
            if unfinished.is_committed:
                self._undo.forget()

    async def _release(self, plan: CapturePlan, point: Point) -> None:
        """Delete the recovery point that the new one replaces.  If it stays, that costs space, not the point."""
        if plan.replaced is not None:
            recovery_point_id = plan.replaced.recovery_point_id
            self._emit(StageBegan(stage=Stage.RELEASE, recovery_point_id=recovery_point_id, **self._subject))
        try:
            await self._recorder.release(point, plan.replaced)
        except asyncio.CancelledError:
            left = "what older points have on the cluster is left to the next capture or `ntx sweep`"
            log.warning("VM %r is captured, as point %s; %s", plan.vm.name, point.id, left)
            raise

    def _with_the_end(self, point: Point, started_s: float) -> Point:
        """Return the point with what was not known yet when it was written."""
        report = dataclasses.replace(
            point.report,
            warnings=tuple(self._warnings),
            stages_s=self._stages.as_dict(),
            seconds=round(time.monotonic() - started_s, 3),
        )
        return dataclasses.replace(point, report=report)

    def _warn(self, text: str, subject: Subject | None = None) -> None:
        self._warnings.append(text)
        self._emit(Warned(text=text, **(self._subject if subject is None else subject)))

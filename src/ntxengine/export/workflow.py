"""An export from beginning to end.

    lock VM -> plan -> freeze -> what changed -> attach -> serve -> notify -> wait -> end the servers -> detach
               |<----- undone in reverse order when anything fails or is cancelled, or time is up ----->|
                            the control plane says "success": the recovery point is kept as the reference,
                            and replaces that of the export before

The state folder is a repository without points: it has the lock of each VM, and the records of what was made on the
cluster, each written before it is asked for.  So `ntx sweep` removes what a killed export leaves.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ntxengine.attach import Attachers
from ntxengine.capture.expiry import kept_by_cluster
from ntxengine.capture.freeze import Frozen, freeze_recorded
from ntxengine.capture.plan import stored_disk_point
from ntxengine.capture.recorded import Recorder
from ntxengine.changes import ChangeQuery, Changes, find_changes
from ntxengine.concurrency.completion import run_to_completion
from ntxengine.concurrency.parallel import map_limited
from ntxengine.concurrency.rollback import Rollback
from ntxengine.errors import ControlPlaneError, ControlPlaneTimeout, NtxError
from ntxengine.events import Emitter, OnEvent, Planned, Stage, StageBegan, Subject, Warned, log_event
from ntxengine.export.access import Access, Place, access_of, served_of
from ntxengine.export.ending import Done, Ending
from ntxengine.export.links import ChangedDisk, Links
from ntxengine.export.message import ExportedDisk, notification
from ntxengine.export.notify import notify
from ntxengine.export.options import ExportOptions
from ntxengine.export.plan import ExportPlan, plan_export
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import Disk, Vm
from ntxengine.repository import Repository, StoredReferenceDisk, VmLock
from ntxengine.units import format_time, utc_now

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """An export that a control plane took whole.  `recovery_point_id` is what it names next time (`since`)."""

    export_id: str
    vm: Vm
    recovery_point_id: str
    expires_at: datetime
    reference_id: str
    reference_reason: str
    consistency: str
    consistency_reason: str
    disks: tuple[dict[str, Any], ...]
    message: str
    warnings: tuple[str, ...]
    seconds: float


async def export(
    prism: Prism,
    state: Repository,
    vm: Vm,
    *,
    options: ExportOptions,
    attacher: Attachers,
    on_event: OnEvent = log_event,
) -> Exported:
    """Freeze a VM, let a control plane read its disks, and wait until it says that it is done.

    Errors: LockedError; ControlPlaneError (not told, refused, or it failed), ControlPlaneTimeout; whatever a part of
            the workflow, or `on_event`, raises first.  Nothing is left behind then, neither here nor on the cluster,
            except what the log says could not be removed (`ntx sweep` removes it).
    """
    async with state.lock(vm.id) as lock:
        return await _Export(prism, state, lock, vm, options, attacher, Emitter(on_event)).run()


class _Export:
    """One export, while the VM is locked."""

    def __init__(
        self,
        prism: Prism,
        state: Repository,
        lock: VmLock,
        vm: Vm,
        options: ExportOptions,
        attacher: Attachers,
        emit: Emitter,
    ) -> None:
        self._prism = prism
        self._state = state
        self._lock = lock
        self._vm = vm
        self._options = options
        self._attachers = attacher
        self._emit = emit
        self._subject: Subject = {"vm_id": vm.id, "vm_name": vm.name}
        self._undo = Rollback()
        self._warnings: list[str] = []
        self._id = state.new_point_id()
        self._expires_at = utc_now() + options.capture.expiry
        self._ending = Ending(self._keep)
        self._kept: tuple[StoredReferenceDisk, ...] = ()
        self._recorder: Recorder

    async def run(self) -> Exported:
        """Do it."""
        started_s = time.monotonic()
        try:
            plan, frozen, disks, done = await self._run()
        except BaseException:
            await run_to_completion(self._end_early())
            self._emit.raise_failure()
            raise
        await self._release(frozen.point.id)
        self._emit.raise_failure()
        return Exported(
            export_id=self._id,
            vm=plan.capture.vm,
            recovery_point_id=frozen.point.id,
            expires_at=self._expires_at,
            reference_id=plan.reference.id,
            reference_reason=plan.reference.lost,
            consistency=frozen.point.consistency,
            consistency_reason=frozen.consistency_reason,
            disks=tuple({"disk_id": disk.disk.id, **disk.fields()} for disk in disks),
            message=done.message,
            warnings=tuple(self._warnings),
            seconds=round(time.monotonic() - started_s, 3),
        )

    async def _release(self, recovery_point_id: str) -> None:
        """Delete the recovery points that the new one replaces, to the end, also if somebody cancels meanwhile."""
        self._began(Stage.RELEASE)
        try:
            await run_to_completion(self._recorder.release_replaced())
        except asyncio.CancelledError:
            log.warning("VM %r is exported: its control plane has recovery point %s", self._vm.name, recovery_point_id)
            raise

    async def _run(self) -> tuple[ExportPlan, Frozen, list[ExportedDisk], Done]:
        plan = await self._plan()
        access = access_of(self._options.way, connections=self._options.connections)
        async with access:  # before anything is made: what it was told may be wrong
            plan, frozen = await self._freeze(plan)
            keeping = kept_by_cluster(
                self._prism,
                frozen.point,
                until=frozen.point.expires_at or self._expires_at,
                lifetime=self._options.capture.expiry,
                extended=self._extended,
                warn=self._warn,
            )
            async with keeping, AsyncExitStack() as stack:
                disks = await self._find_changes(stack, plan, frozen)
                async with AsyncExitStack() as serving:
                    disks, served = await self._serve(serving, access, plan, frozen, disks)
                    done = await self._notify_and_wait(serving, access, plan, frozen, disks, served)
                    await self._close(serving)
        await self._recorder.end_attaching()
        return plan, frozen, disks, done

    async def _plan(self) -> ExportPlan:
        self._began(Stage.PLAN)
        plan = await plan_export(self._prism, self._state, self._vm.id, self._options, attacher=self._attachers)
        vm = plan.capture.vm
        self._subject = {"vm_id": vm.id, "vm_name": vm.name, "point_id": self._id}
        self._recorder = Recorder(self._prism, self._state, self._lock, vm, self._warn)
        self._emit(
            Planned(
                **self._subject,
                parent_id=plan.reference.id or None,
                consistency=plan.capture.consistency,
                consistency_reason=plan.capture.consistency_reason,
            )
        )
        for remark in plan.capture.remarks:
            self._warn(remark)
        if plan.reference.lost:
            self._warn(f"VM {vm.name!r} is exported in full: {plan.reference.lost}")
        if mismatch := await self._state.settle_site():
            self._warn(f"{mismatch}; if it is to be a state folder of its own: `ntx repository adopt DIR`")
        return plan

    async def _freeze(self, plan: ExportPlan) -> tuple[ExportPlan, Frozen]:
        self._emit(StageBegan(stage=Stage.FREEZE, consistency=plan.capture.consistency, **self._subject))
        capture, frozen = await freeze_recorded(
            self._prism,
            plan.capture,
            self._recorder,
            self._undo,
            record_id=self._id,
            options=self._options.capture,
            warn=self._warn,
        )
        return dataclasses.replace(plan, capture=capture), frozen

    async def _find_changes(self, stack: AsyncExitStack, plan: ExportPlan, frozen: Frozen) -> list[ExportedDisk]:
        folder = self._state.check_lock(self._lock)

        async def of_one(disk: Disk) -> ExportedDisk:
            self._began(Stage.CHANGES, disk)
            changes = await self._changes_of(plan, frozen, disk, folder)
            stack.callback(changes.extents.close)
            return ExportedDisk(disk, changes, plan.reference.id if changes.is_incremental else None)

        disks = await map_limited(plan.disks, of_one, at_once=self._options.capture.parallel)
        self._kept = tuple(
            StoredReferenceDisk(each.changes.size, stored_disk_point(frozen.disks[each.disk.id])) for each in disks
        )
        return disks

    async def _changes_of(self, plan: ExportPlan, frozen: Frozen, disk: Disk, folder: Path) -> Changes:
        query = ChangeQuery(
            prism=self._prism,
            disk=frozen.disks[disk.id],
            name=f"disk {disk.label} ({disk.id})",
            size=disk.size,
            directory=folder,
            warn=self._warn,
            options=self._options.capture.copy,
        )
        return await find_changes(
            query,
            plan.reference.previous(disk, frozen.disks[disk.id]),
            on_lost_tracking=self._options.capture.on_lost_tracking,
            reason_without=plan.reference.why_not(disk),
            is_asked_for=bool(plan.reference.lost),  # of all disks that was said already
        )

    async def _serve(
        self,
        stack: AsyncExitStack,
        access: Access,
        plan: ExportPlan,
        frozen: Frozen,
        disks: Sequence[ExportedDisk],
    ) -> tuple[list[ExportedDisk], list[Place]]:
        """Attach every disk, and serve it.

        LIMIT: one after the other, as each is taken away again by whoever attached it: a VM of many disks takes as many
        times what one takes.
        """
        attacher = plan.capture.attacher
        assert attacher is not None
        served: list[Place] = []
        for number, each in enumerate(disks):
            self._began(Stage.ATTACH, each.disk)
            async with self._recorder.attaching() if attacher.makes_clones else nullcontext():
                attaching = attacher.attach(frozen.disks[each.disk.id], each.changes.size)
                attached = await stack.enter_async_context(attaching)
            self._began(Stage.SERVE, each.disk)
            name = f"{self._id}-{number}"
            served.append(await stack.enter_async_context(access.disk(served_of(attached), each.disk.id, name)))
        return [dataclasses.replace(each, uri=at.uri) for each, at in zip(disks, served, strict=True)], served

    async def _notify_and_wait(
        self,
        stack: AsyncExitStack,
        access: Access,
        plan: ExportPlan,
        frozen: Frozen,
        disks: Sequence[ExportedDisk],
        served: Sequence[Place],
    ) -> Done:
        changed = [ChangedDisk(each.disk.id, each.since, each.changes.extents) for each in disks]
        links = Links(changed, frozen.point.id, self._ending)
        links_at = await stack.enter_async_context(access.links(links.app, f"{self._id}-links"))
        ends_at = utc_now() + timedelta(seconds=self._options.time_limit_s)
        body = notification(
            plan,
            frozen,
            disks,
            export_id=self._id,
            expires_at=self._expires_at,
            ends_at=ends_at,
            base=links_at.uri,
            done=links.done,
            pages={each.disk.id: links.pages(number) for number, each in enumerate(disks)},
        )
        self._began(Stage.NOTIFY)
        notifying = asyncio.create_task(notify(self._options.notify, body, key=self._id, warn=self._warn))
        watching = [asyncio.create_task(each.ended()) for at in (*served, links_at) for each in at.watched]
        try:
            await self._wait(notifying, watching)
        except NtxError:
            if await self._ending.result() is None:  # else the control plane was first, and all it said is recorded
                raise
        finally:
            for task in (notifying, *watching):
                task.cancel()
            await asyncio.wait({notifying, *watching})
        done = await self._ending.result()
        if done is None:
            raise ControlPlaneTimeout(
                f"{self._options.notify.url}: the control plane did not say that it is done with VM {self._vm.name!r} "
                f"until {format_time(ends_at)} (--time-limit)"
            )
        if done.result == "failure":
            disks_text = f" (disks {', '.join(done.failed_disks)})" if done.failed_disks else ""
            said = f": {' '.join(done.message.split())}" if done.message else ""
            raise ControlPlaneError(
                f"{self._options.notify.url}: the control plane says that it failed to take VM "
                f"{self._vm.name!r}{disks_text}{said}"
            )
        return done

    async def _wait(self, notifying: asyncio.Task[None], watching: Sequence[asyncio.Task[NtxError]]) -> None:
        """Return when the control plane has said that it is done, or time is up.

        Errors: ControlPlaneError (it could not be told), ServerEnded, as Tunnel.ended; none if the control plane was
                first.
        """
        over = asyncio.create_task(self._ending.over.wait())
        pending: set[asyncio.Task[Any]] = {over, notifying, *watching}
        try:
            async with asyncio.timeout(self._options.time_limit_s):
                while not over.done():
                    ended, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    if over in ended:
                        return
                    for task in ended:
                        if task is notifying:
                            task.result()
                            self._emit(StageBegan(stage=Stage.WAIT, **self._subject))
                        else:
                            raise task.result()
        except TimeoutError:
            pass
        finally:
            self._ending.claim()
            over.cancel()

    async def _close(self, serving: AsyncExitStack) -> None:
        """End the servers and detach.  The disks were taken whole: what stays is a warning."""
        try:
            await serving.aclose()
        except NtxError as error:
            self._warn(f"VM {self._vm.name!r} was exported, but {error}")

    async def _keep(self) -> None:
        """Record the recovery point as the next reference; from here on it is not taken back."""
        await self._recorder.keep(self._kept)
        self._undo.forget()

    async def _extended(self, until: datetime) -> None:
        self._expires_at = until

    async def _end_early(self) -> None:
        """Undo what was done; not a recovery point that the control plane was promised."""
        self._ending.claim()
        try:
            done = await self._ending.result()
            if done is not None and done.result == "success":
                self._undo.forget()
        except NtxError:
            pass  # it could not be recorded, and nobody was promised anything
        if self._undo.has_steps:
            try:
                self._began(Stage.UNDO)
            finally:
                await self._undo.run()

    def _began(self, stage: Stage, disk: Disk | None = None) -> None:
        subject = self._subject
        if disk is not None:
            subject = {**subject, "disk_id": disk.id, "disk_label": disk.label}
        self._emit(StageBegan(stage=stage, **subject))

    def _warn(self, text: str) -> None:
        self._warnings.append(text)
        self._emit(Warned(text=text, **self._subject))

"""One cycle of a replica, from generation N to N + 1.

    lock VM -> plan -> recover -> freeze -> what changed -> places -> INTENT -> attach, copy, read back, settle
            -> finish -> the recovery point becomes the reference -> COMMIT -> intent removed -> publish -> release N's

    killed before the intent    nothing of N was changed
    after it                    between N and N + 1, where the target writes in place: the next cycle redoes the intent
    after the commit            N + 1; the next cycle does what is left to be done

The state folder is a repository without points, as that of an export: `ntx sweep` removes what a killed cycle leaves
on the cluster.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from datetime import datetime

from ntxengine.attach import Attachers
from ntxengine.capture.expiry import kept_by_cluster
from ntxengine.capture.freeze import Frozen, freeze_recorded
from ntxengine.capture.plan import DiskPlan, stored_disk_point
from ntxengine.capture.recorded import Recorder
from ntxengine.concurrency.completion import run_to_completion, to_thread_joined
from ntxengine.concurrency.parallel import map_limited
from ntxengine.concurrency.rollback import Rollback
from ntxengine.dataplane.buffers import split_buffers
from ntxengine.errors import NtxError, OptionsError, RepositoryError
from ntxengine.events import (
    Emitter,
    GenerationCommitted,
    OnEvent,
    Planned,
    Stage,
    StageBegan,
    Subject,
    Warned,
    log_event,
)
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import Vm
from ntxengine.replicate.disk import Context, DiskCycle, DiskResult
from ntxengine.replicate.generation import Made, generation_of, intent_of
from ntxengine.replicate.history import merge_needless
from ntxengine.replicate.intent import IntentFile
from ntxengine.replicate.options import ReplicateOptions
from ntxengine.replicate.others import check_others, needed_by_others
from ntxengine.replicate.packing import packed
from ntxengine.replicate.plan import ReplicaPlan, plan_replica
from ntxengine.replicate.state import Replica, ReplicaState
from ntxengine.replicate.targets.base import Finished, Kept, Target
from ntxengine.replicate.writing import DiskWriting
from ntxengine.repository import Repository, StoredReferenceDisk, VmLock
from ntxengine.units import utc_now


@dataclass(frozen=True)
class Cycle:
    """A generation that is whole: `replica`, and what was said while it was made."""

    replica: Replica
    reference_id: str
    reference_reason: str
    consistency_reason: str
    warnings: tuple[str, ...]


async def replicate(
    prism: Prism,
    state: Repository,
    vm: Vm,
    target: Target,
    *,
    options: ReplicateOptions | None = None,
    attacher: Attachers,
    on_event: OnEvent = log_event,
    lock: VmLock | None = None,
) -> Cycle:
    """Bring a replica of a VM to what the VM is now.  `lock` is that of the VM, if the caller holds it.

    Errors: LockedError; whatever a part of the workflow, or `on_event`, raises first.  What was made on the cluster is
            removed then.  Of a target that is written in place, what was written stays, and the next cycle goes on.
    """
    async with state.lock(vm.id) if lock is None else nullcontext(lock) as held:
        return await _Cycle(prism, state, held, vm, target, options or ReplicateOptions(), attacher, on_event).run()


class _Cycle:
    """One cycle, while the VM is locked."""

    def __init__(
        self,
        prism: Prism,
        state: Repository,
        lock: VmLock,
        vm: Vm,
        target: Target,
        options: ReplicateOptions,
        attacher: Attachers,
        on_event: OnEvent,
    ) -> None:
        self._prism = prism
        self._repository = state
        self._lock = lock
        self._vm = vm
        self._target = target
        self._options = options
        self._attachers = attacher
        self._emit = Emitter(on_event)
        self._subject: Subject = {"vm_id": vm.id, "vm_name": vm.name}
        self._warnings: list[str] = []
        self._undo = Rollback()
        self._id = state.new_point_id()
        self._began_at = utc_now()
        self._state = ReplicaState(state.check_lock(lock), target.id)
        self._writing = asyncio.Lock()
        self._is_committed = False
        self._disks: list[DiskCycle] = []
        self._recorder: Recorder
        self._replica: Replica | None = None

    async def run(self) -> Cycle:
        """Do it."""
        started_s = time.monotonic()
        try:
            async with AsyncExitStack() as stack:
                plan, frozen, replica = await self._run(stack, started_s)
        except BaseException:
            await run_to_completion(self._end_early())
            self._emit.raise_failure()
            raise
        self._began(Stage.RELEASE)
        if not self._target.follows:
            await self._recorder.release_own()
        await self._recorder.release_replaced(await to_thread_joined(needed_by_others, self._state, self._warn))
        self._emit.raise_failure()
        replica = await self._merge(plan, replica)
        return Cycle(replica, plan.reference.id, plan.reference.lost, frozen.consistency_reason, tuple(self._warnings))

    async def _run(self, stack: AsyncExitStack, started_s: float) -> tuple[ReplicaPlan, Frozen, Replica]:
        plan = await self._plan()
        plan, frozen = await self._freeze(plan)
        keeping = kept_by_cluster(
            self._prism,
            frozen.point,
            until=frozen.point.expires_at or utc_now() + self._options.capture.expiry,
            lifetime=self._options.capture.expiry,
            extended=_nothing,
            warn=self._warn,
        )
        async with keeping:
            await self._find_changes(stack, plan, frozen)
            intent = await self._prepare(plan, frozen)
            results = await self._write(intent)
        await self._recorder.end_attaching()
        self._emit.raise_failure()
        finished = await self._finish(plan, results)
        self._began(Stage.COMMIT)
        if self._target.follows:
            await self._recorder.keep(
                tuple(
                    StoredReferenceDisk(each.changes.size, stored_disk_point(frozen.disks[each.plan.disk.id]))
                    for each in self._disks
                )
            )
        made = Made(self._target, self._id, self._began_at, time.monotonic() - started_s, self._options)
        replica = generation_of(plan, frozen, results, finished, made)
        await run_to_completion(self._commit(plan, replica))
        return plan, frozen, replica

    # ------------------------------------------------------------------------------------------------- before it

    async def _plan(self) -> ReplicaPlan:
        self._began(Stage.PLAN)
        plan = await plan_replica(
            self._prism, self._repository, self._vm.id, self._target, self._options, attacher=self._attachers
        )
        vm = plan.capture.vm
        self._subject = {"vm_id": vm.id, "vm_name": vm.name, "point_id": self._id}
        self._recorder = Recorder(self._prism, self._repository, self._lock, vm, self._warn)
        self._emit(
            Planned(
                **self._subject,
                parent_id=plan.reference.id or None,
                consistency=plan.capture.consistency,
                consistency_reason=plan.capture.consistency_reason,
            )
        )
        for remark in plan.remarks:
            self._warn(remark)
        if mismatch := await self._repository.settle_site():
            self._warn(f"{mismatch}; if it is to be a state folder of its own: `ntx repository adopt DIR`")
        self._replica = plan.replica
        if not plan.is_strange:  # what an older copy of the state does not name may be the newest generation
            await self._target.recover(plan.named, plan.replica, plan.dead)
        await to_thread_joined(self._state.make)
        await to_thread_joined(self._state.tidy, plan.replica, plan.dead)
        return plan

    async def _freeze(self, plan: ReplicaPlan) -> tuple[ReplicaPlan, Frozen]:
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
        return plan.frozen(capture), frozen

    async def _find_changes(self, stack: AsyncExitStack, plan: ReplicaPlan, frozen: Frozen) -> None:
        at_once = max(1, min(self._options.capture.parallel, len(plan.capture.disks)))
        copies = at_once * self._options.capture.captures_at_once
        attacher = plan.capture.attacher
        assert attacher is not None

        def begun(disk: DiskPlan) -> DiskCycle:
            context = Context(
                prism=self._prism,
                state=self._state,
                target=self._target,
                named=plan.named,
                attacher=attacher,
                attaching=self._recorder.attaching if attacher.makes_clones else nullcontext,
                options=self._options,
                copy=split_buffers(self._options.capture.copy.on(disk.storage.tier), copies),
                generation=plan.generation,
                emit=self._emit,
                subject=self._subject,
                warn=self._warn,
                doubted=self._doubted,
            )
            disk_id = disk.disk.id
            return DiskCycle(context, disk, frozen.disks[disk_id], plan.before(disk_id), plan.dead_disk(disk_id))

        self._disks = [begun(disk) for disk in plan.capture.disks]
        for each in self._disks:
            stack.push_async_callback(each.close)
        await map_limited(self._disks, lambda each: each.find(plan.reference), at_once=at_once)

    async def _prepare(self, plan: ReplicaPlan, frozen: Frozen) -> IntentFile:
        """Make all places, and say durably what is about to be written.  From here on the target may change."""
        known = [each for each in self._disks if not each.changes.must_compare]
        needed = sum(each.changes.bytes_data for each in known if each.before is None)
        await self._target.check_room(plan.named, needed)
        await self._target.claim(plan.named)
        for each in self._disks:
            await each.prepare()
        rooms = [await each.place.room_for(each.changes.bytes_data) for each in known if each.place is not None]
        await self._target.check_room(plan.named, sum(rooms))
        said = [disk for each in self._disks if (disk := await each.intent()) is not None]
        # Of a disk that is not read this time, what is in doubt stays so: it may come back.
        present = {each.plan.disk.id.lower() for each in self._disks}
        said += [disk for disk in (plan.dead.disks if plan.dead else ()) if disk.disk_id not in present]
        intent = IntentFile(self._state, intent_of(plan, frozen, self._target, self._id, self._began_at))
        await intent.write(said)
        await self._check_others(plan)
        if plan.is_strange and plan.replica is not None:  # once we are marked, nobody sees it any more
            await to_thread_joined(self._state.write_replica, plan.replica)
        await self._target.mark(plan.named, self._id)
        return intent

    async def _check_others(self, plan: ReplicaPlan) -> None:
        """Look again, now that others see us: their first cycle may have begun at the moment that ours did."""
        try:
            disks = plan.target_disks(plan.capture.disks)
            await check_others(self._repository, self._target, plan.named, disks)
        except OptionsError:
            if plan.dead is None:
                await to_thread_joined(self._state.remove_intent)
            raise

    # ------------------------------------------------------------------------------------------------- the writes

    async def _write(self, intent: IntentFile) -> list[DiskResult]:
        at_once = max(1, min(self._options.capture.parallel, len(self._disks)))
        return await map_limited(self._disks, lambda each: DiskWriting(each).run(intent), at_once=at_once)

    async def _finish(self, plan: ReplicaPlan, results: Sequence[DiskResult]) -> Finished:
        kept = [
            each.kept or Kept(disk, tuple(image.name for image in each.stored.files))
            for each, disk in zip(results, plan.target_disks(plan.capture.disks), strict=True)
        ]
        if self._target.packs:
            self._began(Stage.PACK)
            tell = packed(self._emit, self._subject, sum(each.disk.size for each in kept))
            await self._target.pack(plan.named, plan.generation, kept, plan.machine, tell)
        finished = await self._target.finish(plan.named, plan.generation, kept, plan.machine, self._state.path)
        for remark in finished.remarks:
            self._warn(f"VM {plan.capture.vm.name!r}: {remark}")
        return finished

    async def _commit(self, plan: ReplicaPlan, replica: Replica) -> None:
        """Make the generation the one that there is.  From here on nothing is taken back."""
        try:
            await to_thread_joined(self._state.write_replica, replica)
        except NtxError:
            # It may have its name and not be on stable storage: what it names stays, and the next cycle finds which.
            if await to_thread_joined(self._may_be_committed):
                self._keep()
            raise
        self._keep()
        await self._publish(plan, replica)
        self._emit(GenerationCommitted(**self._subject, replica_id=replica.id, generation=replica.generation))

    def _keep(self) -> None:
        self._undo.forget()
        self._is_committed = True

    def _may_be_committed(self) -> bool:
        try:
            found = self._state.replica()
        except RepositoryError:
            return True
        return found is not None and found.record_id == self._id

    async def _publish(self, plan: ReplicaPlan, replica: Replica) -> None:
        """Do what the commit decided.  What cannot be done now is done by the next cycle: it is a warning."""
        try:
            await to_thread_joined(self._state.remove_intent)
            await self._target.recover(plan.named, replica, None)
            await to_thread_joined(self._state.tidy, replica, None)
        except NtxError as error:
            self._warn(f"generation {replica.generation} is whole, but {error}; the next cycle does what is left")

    async def _merge(self, plan: ReplicaPlan, replica: Replica) -> Replica:
        """Merge images that no generation needs by itself.  Where that fails they stay: it is a warning."""
        folder = self._target.chain_folder(plan.named)
        if folder is None:
            return replica
        try:
            merged = await merge_needless(
                folder, self._state, replica, options=self._options.capture.copy, emit=self._emit
            )
            if merged is not replica:
                await self._publish(plan, merged)
            return merged
        except NtxError as error:
            self._warn(f"images of older generations could not be merged, and stay: {error}")
            return replica

    # ------------------------------------------------------------------------------------------------------- small

    async def _doubted(self, disk_id: str) -> None:
        """Remember that the target does not give back what was written of a disk."""
        async with self._writing:
            if self._replica is not None and self._replica.find(disk_id) is not None:
                disks = tuple(
                    dataclasses.replace(disk, is_doubted=True) if disk.disk_id == disk_id.lower() else disk
                    for disk in self._replica.disks
                )
                self._replica = dataclasses.replace(self._replica, disks=disks)
                await to_thread_joined(self._state.write_replica, self._replica)

    async def _end_early(self) -> None:
        for each in () if self._is_committed else self._disks:
            self._undo.add(f"remove what was made of {each}", each.give_up)
        if self._undo.has_steps:
            try:
                self._began(Stage.UNDO)
            finally:
                await self._undo.run()

    def _began(self, stage: Stage) -> None:
        self._emit(StageBegan(stage=stage, **self._subject))

    def _warn(self, text: str) -> None:
        self._warnings.append(text)
        self._emit(Warned(text=text, **self._subject))


async def _nothing(_: datetime) -> None:
    return

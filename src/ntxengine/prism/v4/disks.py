"""Hot-add by v4: a clone of a disk recovery point becomes a disk of the worker VM (vmm 4.1 or later).

The new disk is found by comparing the worker VM's disks before and after, so attaches to one worker VM go one by one.
LIMIT: two programs that attach to one worker VM at once are told apart only by what Prism says the clones come from.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import defaultdict
from collections.abc import Awaitable

from ntxengine.errors import PrismAnswerError, PrismError, PrismStatusError
from ntxengine.prism.http.error_body import is_not_found, not_found_as, one_line
from ntxengine.prism.http.parse import decode, given_id
from ntxengine.prism.http.session import Answer
from ntxengine.prism.listing import readable
from ntxengine.prism.models import AttachedDisk, DiskPoint
from ntxengine.prism.tasks import (
    REMOVAL_TIMEOUT_S,
    SETTLE_TIMEOUT_S,
    UNDO_TIMEOUT_S,
    UNKNOWN_TIMEOUT_S,
    Accepted,
    Deadline,
    appearing,
    ask_twice_if_absent,
    log,
    poll,
    remove_each,
    undo,
    warn_of_unseen,
)
from ntxengine.prism.v4.api import CentralApi
from ntxengine.prism.v4.etags import until_not_stale, with_etag
from ntxengine.prism.v4.pages import entities
from ntxengine.prism.v4.schema import Entity, TaskState, VmDisk
from ntxengine.prism.v4.tasks import CentralTasks

_DISK_REL = "vmm:ahv:config:vm:disk"
UNTOLD_WAIT_S = 5.0
"""How long a new disk may be the only one before it is taken for ours where Prism says nothing of it."""


class CentralDisks:
    """Attaches disk recovery points to worker VMs and takes them off."""

    def __init__(self, api: CentralApi, tasks: CentralTasks) -> None:
        self._api = api
        self._tasks = tasks
        self._clock = api.session.clock
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def attach(self, worker_id: str, disk: DiskPoint) -> AttachedDisk:
        """Hot-add a clone of `disk`; if that fails or is cancelled half-way, take it off again."""
        if not self._api.revisions.can_hot_add:
            raise PrismError(
                f"Prism {self._api.session.name}: a recovery point cannot be hot-added with vmm v4.0, it needs v4.1:"
                " update Prism Central, or read the disks another way"
            )
        given_id(worker_id, "worker VM")
        what = f"hot-add of disk recovery point {disk.id} to worker VM {worker_id}"
        async with self._locks[worker_id]:
            with not_found_as(f"worker VM {worker_id}"):
                before = {slot.ext_id for slot in await self._slots(worker_id)}
            accepted = Accepted()
            try:
                return await self._added(worker_id, disk, before, accepted, what)
            except (Exception, asyncio.CancelledError):
                if not accepted.was_rejected:
                    await undo(
                        self._remove_new(worker_id, disk, before, accepted.id, what), what=f"a disk of the {what}"
                    )
                raise

    async def _added(
        self, worker_id: str, disk: DiskPoint, before: set[str], accepted: Accepted, what: str
    ) -> AttachedDisk:
        """Ask for the disk, wait for the task, and return the disk that it made."""
        deadline = Deadline(self._clock)
        task, lost = TaskState(status=""), None
        try:
            with not_found_as(f"worker VM {worker_id} or disk recovery point {disk.id}"):
                task_id = await accepted.ask(self._api.create_vm_disk(worker_id, disk))
        except PrismError as exc:
            if accepted.was_rejected:
                raise
            log.warning("%s: the answer is lost (%s): looking for a new disk", what, exc)
            lost = exc
        else:
            task = await self._tasks.wait(task_id, what=what, deadline=deadline)

        affected = task.affected(_DISK_REL)

        async def told() -> list[VmDisk] | None:
            """Return the new disks that are ours by Prism's word."""
            new = await self._new(worker_id, disk, before)
            return [slot for slot in new if slot.cloned_from == disk.id or slot.ext_id in affected] or None

        async def possible() -> list[VmDisk] | None:
            return await self._new(worker_id, disk, before) or None

        # Where no task ended well, a disk is ours only if Prism says what it comes from.
        look = told if lost is not None else possible
        new = await appearing(look, what=what, deadline=deadline, wait_s=UNKNOWN_TIMEOUT_S)
        if new is None and lost is not None:
            raise lost
        if await told() is None:
            # Somebody else's disk may have come before ours.
            await appearing(told, what=what, deadline=deadline, wait_s=UNTOLD_WAIT_S)
            new = await possible()
        picked = _pick(new or [], disk, affected, what)
        is_told = picked.cloned_from == disk.id or picked.ext_id in affected
        return dataclasses.replace(_attached(picked, worker_id, disk.id), is_told=is_told)

    async def _new(self, worker_id: str, disk: DiskPoint, before: set[str]) -> list[VmDisk]:
        """Return the disks that were not there before, but for those that come from something else."""
        slots = await self._slots(worker_id)
        return [slot for slot in slots if slot.ext_id not in before and slot.cloned_from in (None, disk.id)]

    async def attached(self, worker_id: str) -> list[AttachedDisk]:
        """Return the worker VM's disks that are clones of disk recovery points."""
        with not_found_as(f"worker VM {worker_id}"):
            slots = await self._slots(given_id(worker_id, "worker VM"))
        return [_attached(slot, worker_id, slot.cloned_from) for slot in slots if slot.cloned_from is not None]

    async def detach(self, disk: AttachedDisk) -> None:
        """Take a disk off its worker VM, and wait until that is done."""
        what = f"removal of disk {disk.id} from worker VM {disk.worker_id}"
        deadline = Deadline(self._clock, REMOVAL_TIMEOUT_S)

        async def begun() -> str | None:
            """Return the id of the task, empty if the disk is not there."""
            etag = await self._etag(disk)
            task_id = await with_etag(lambda tag: self._api.delete_vm_disk(disk.worker_id, disk.id, tag), etag, what)
            return "" if task_id is None and await self._is_gone(disk) else task_id

        async def removed() -> None:
            try:
                if task_id := await poll(begun, what=what, deadline=deadline.within(UNKNOWN_TIMEOUT_S)):
                    await self._tasks.wait(task_id, what=what, deadline=deadline)
            except PrismError:
                if not await self._is_gone(disk):
                    raise

        await until_not_stale(removed, what=what, thing="the worker VM")

    async def _etag(self, disk: AttachedDisk) -> str | None:
        """Return the version of the disk, or of its VM; None where neither is told, or the disk is not there."""
        try:
            answer = await self._api.get_vm_disk(disk.worker_id, disk.id)
            slot = decode(answer.decode(Entity).data, VmDisk, request=answer.request)
            if slot.cloned_from not in (None, disk.source):
                raise PrismAnswerError(
                    f"{answer.request}: the disk comes from {one_line(slot.cloned_from or '')}, not from"
                    f" {disk.source}: it is not removed"
                )
            return answer.etag or (await self._api.get_vm(disk.worker_id)).etag or None
        except PrismStatusError as exc:
            if is_not_found(exc):
                return None
            raise

    async def _is_gone(self, disk: AttachedDisk) -> bool:
        try:
            await ask_twice_if_absent(lambda: self._api.get_vm_disk(disk.worker_id, disk.id), self._clock)
        except PrismStatusError as exc:
            return is_not_found(exc)
        return False

    async def _slots(self, worker_id: str) -> list[VmDisk]:
        def listing(page: int, limit: int, *, filter_text: str, order_by: str) -> Awaitable[Answer]:
            return self._api.list_vm_disks(worker_id, page, limit)

        return await readable(entities(listing), VmDisk, what=f"disk of worker VM {worker_id}")

    async def _remove_new(
        self, worker_id: str, disk: DiskPoint, before: set[str], task_id: str | None, what: str
    ) -> None:
        """Take off what a failed attach added: new disks that come from `disk` by Prism's word, no others."""
        task = await self._tasks.settle(task_id, what=what) if task_id is not None else None
        affected = task.affected(_DISK_REL) if task is not None else []

        async def look() -> list[VmDisk] | None:
            new = [slot for slot in await self._slots(worker_id) if slot.ext_id not in before]
            return [slot for slot in new if slot.cloned_from == disk.id or slot.ext_id in affected] or None

        # Also after the end of a task: whoever lists may learn of the disk later than the task says.
        wait_s, deadline = UNKNOWN_TIMEOUT_S if affected else SETTLE_TIMEOUT_S, Deadline(self._clock, UNDO_TIMEOUT_S)
        found = await appearing(look, what=what, deadline=deadline, wait_s=wait_s) or []
        if not found:
            warn_of_unseen(what)
        for slot in found:
            log.info("removing disk %s from worker VM %s: its attach did not succeed", slot.ext_id, worker_id)
        await remove_each([_attached(slot, worker_id, disk.id) for slot in found], self.detach)


def _pick(new: list[VmDisk], disk: DiskPoint, affected: list[str], what: str) -> VmDisk:
    """Return the one disk that the task added: by its source, by the task's word, or because it is the only new one."""
    for choice in (
        [slot for slot in new if slot.ext_id in affected],
        [slot for slot in new if slot.cloned_from == disk.id],
        new,
    ):
        if len(choice) == 1:
            return choice[0]
    raise PrismAnswerError(
        f"{what}: {len(new)} new disks on the worker VM may be it: which one is not clear; none is removed, as somebody"
        f" else may have added them: remove by hand in Prism what nobody needs"
    )


def _attached(slot: VmDisk, worker_id: str, source: str) -> AttachedDisk:
    backing = slot.backing_info
    vmdisk_id = (backing.disk_ext_id if backing else None) or slot.ext_id
    return AttachedDisk(id=slot.ext_id, vmdisk_id=vmdisk_id, worker_id=worker_id, source=source)

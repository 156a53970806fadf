"""Hot-add by v2: a clone of a snapshot file becomes a disk of the worker VM.

The new disk is the one that was not there before and whose source is our path, so attaches to one worker VM take turns.
LIMIT: two programs that attach the same file to one worker VM at once cannot be told apart.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from ntxengine.errors import OptionsError, PrismAnswerError, PrismError, PrismStatusError
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.error_body import is_not_found, not_found_as
from ntxengine.prism.http.parse import given_id
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
from ntxengine.prism.v3.api import ElementApi
from ntxengine.prism.v3.schema_v2 import V2Disk, V2Vm
from ntxengine.prism.v3.tasks import ElementTasks


class ElementDisks:
    """Attaches snapshot files to worker VMs and takes them off."""

    def __init__(self, api: ElementApi, clock: Clock) -> None:
        self._api = api
        self._tasks = ElementTasks(api)
        self._clock = clock
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def attach(self, worker_id: str, disk: DiskPoint) -> AttachedDisk:
        """Hot-add a clone of `disk`; if that fails or is cancelled half-way, take it off again."""
        if disk.path is None:
            raise OptionsError(
                f"recovery point disk {disk.id} has no storage path: it was not made by this Prism Element"
            )
        given_id(worker_id, "worker VM")
        what = f"hot-add of {disk.path} to worker VM {worker_id}"
        async with self._locks[worker_id]:
            before = {found.vmdisk_id for found in await self._slots(worker_id)}
            accepted = Accepted()
            try:
                return await self._added(worker_id, disk.path, before, accepted, what)
            except (Exception, asyncio.CancelledError):
                if not accepted.was_rejected:
                    await undo(self._remove_new(worker_id, disk.path, before, accepted.id, what), what=what)
                raise

    async def _added(
        self, worker_id: str, path: str, before: set[str | None], accepted: Accepted, what: str
    ) -> AttachedDisk:
        """Ask for the disk, wait for the task, and return the disk that it made."""
        deadline, lost = Deadline(self._clock), None
        try:
            with not_found_as(f"worker VM {worker_id} or {path}"):
                task_id = await accepted.ask(self._api.attach_disk_v2(worker_id, path))
        except PrismError as exc:
            if accepted.was_rejected:
                raise
            log.warning("%s: the answer is lost (%s): looking for a new disk", what, exc)
            lost = exc
        else:
            await self._tasks.wait(task_id, what, deadline)
        new = await self._appearing(worker_id, path, before, what, deadline, UNKNOWN_TIMEOUT_S)
        if not new and lost is not None:
            raise lost
        if len(new) != 1:
            raise PrismAnswerError(f"{what}: {len(new)} new disks on the worker VM come from it, not one")
        return _attached(new[0], worker_id, path)

    async def attached(self, worker_id: str) -> list[AttachedDisk]:
        """Return the worker VM's disks that are clones of snapshot files."""
        return [
            _attached(vmdisk_id, worker_id, slot.cloned_from)
            for slot in await self._slots(given_id(worker_id, "worker VM"))
            if (vmdisk_id := slot.vmdisk_id) is not None and slot.cloned_from is not None
        ]

    async def detach(self, disk: AttachedDisk) -> None:
        """Take a disk off its worker VM, and wait until that is done."""
        what = f"removal of disk {disk.vmdisk_id} from worker VM {disk.worker_id}"
        deadline = Deadline(self._clock, REMOVAL_TIMEOUT_S)

        async def begun() -> str | None:
            """Return the id of the task, empty if the disk is not there."""
            if not await self._is_there(disk):
                return ""
            try:
                return await self._api.detach_disk_v2(disk.worker_id, disk.vmdisk_id)
            except PrismStatusError as exc:
                if not is_not_found(exc):
                    raise
                return None

        task_id = await poll(begun, what=what, deadline=deadline.within(UNKNOWN_TIMEOUT_S))
        if not task_id:
            return
        try:
            await self._tasks.wait(task_id, what, deadline)
        except PrismError:
            if await self._is_there(disk):
                raise

    async def _is_there(self, disk: AttachedDisk) -> bool:
        try:
            vm = await ask_twice_if_absent(lambda: self._api.get_vm_v2(disk.worker_id), self._clock)
        except PrismStatusError as exc:
            if is_not_found(exc):
                return False
            raise
        return any(slot.vmdisk_id == disk.vmdisk_id for slot in _disks_of(vm))

    async def _slots(self, worker_id: str) -> list[V2Disk]:
        with not_found_as(f"worker VM {worker_id}"):
            vm = await self._api.get_vm_v2(worker_id)
        slots = _disks_of(vm)
        if odd := len(vm.vm_disk_info or ()) - len(slots):
            log.warning("worker VM %s: %d of its disks cannot be read: they are left alone", worker_id, odd)
        return slots

    async def _new(self, worker_id: str, path: str, before: set[str | None]) -> list[str]:
        found = ((slot.vmdisk_id, slot.source_path) for slot in await self._slots(worker_id))
        return [vmdisk_id for vmdisk_id, source in found if vmdisk_id not in before and vmdisk_id and source == path]

    async def _remove_new(
        self, worker_id: str, path: str, before: set[str | None], task_id: str | None, what: str
    ) -> None:
        """Take off what a failed attach added: disks that were not there before and come from our path."""
        if task_id is not None:
            await self._tasks.settle(task_id, what)
        # Also after the end of a task: what is asked for the disks may learn of it later than the task says.
        deadline = Deadline(self._clock, UNDO_TIMEOUT_S)
        found = await self._appearing(worker_id, path, before, what, deadline, SETTLE_TIMEOUT_S)
        if not found:
            warn_of_unseen(what)
        for vmdisk_id in found:
            log.info("removing disk %s from worker VM %s: its attach did not succeed", vmdisk_id, worker_id)
        await remove_each([_attached(vmdisk_id, worker_id, path) for vmdisk_id in found], self.detach)

    async def _appearing(
        self, worker_id: str, path: str, before: set[str | None], what: str, deadline: Deadline, wait_s: float
    ) -> list[str]:
        """Return what appears within a while."""

        async def look() -> list[str] | None:
            return await self._new(worker_id, path, before) or None

        return await appearing(look, what=what, deadline=deadline, wait_s=wait_s) or []


def _disks_of(worker: V2Vm) -> list[V2Disk]:
    """Return the disks of a worker VM.  It runs, so it has one: no list is no answer, above all not "detached"."""
    if worker.vm_disk_info is None:
        raise PrismAnswerError(f"worker VM {worker.uuid}: Prism's answer has no vm_disk_info, though it was asked for")
    return worker.slots()


def _attached(vmdisk_id: str, worker_id: str, source: str) -> AttachedDisk:
    return AttachedDisk(id=vmdisk_id, vmdisk_id=vmdisk_id, worker_id=worker_id, source=source)

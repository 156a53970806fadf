"""Recovery points through Prism Central: made, found, deleted.

Making one must not leak: from the moment that Prism may have accepted it, whatever goes wrong (also a cancellation,
also a task that fails after having done the work) deletes it before going on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any

from ntxengine.errors import (
    NotFoundError,
    OptionsError,
    PrismAnswerError,
    PrismBusy,
    PrismError,
    PrismProtected,
    PrismStatusError,
    PrismTimeout,
)
from ntxengine.ids import is_uuid
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.error_body import is_not_found, not_found_as, one_line
from ntxengine.prism.http.parse import check_same_id, given_id
from ntxengine.prism.listing import readable
from ntxengine.prism.models import Consistency, RecoveryPoint, Vm, VssBackup
from ntxengine.prism.tasks import (
    EXTENSION_TIMEOUT_S,
    SETTLE_TIMEOUT_S,
    UNDO_TIMEOUT_S,
    UNKNOWN_TIMEOUT_S,
    Accepted,
    Deadline,
    appearing,
    ask_twice_if_absent,
    if_there,
    log,
    poll,
    remove_each,
    undo,
    warn_of_unseen,
)
from ntxengine.prism.v4.api import CentralApi
from ntxengine.prism.v4.calls import name_begins, name_is, new_request_id
from ntxengine.prism.v4.pages import entities
from ntxengine.prism.v4.schema import TaskState
from ntxengine.prism.v4.schema_points import (
    RecoveryPointState,
    disk_points_from,
    group_disk_points_from,
    recovery_point_from,
    untold_groups,
)
from ntxengine.prism.v4.tasks import CentralTasks

_POINT_REL = "dataprotection:config:recovery-point"
MAX_NAME_LENGTH = 256
MAX_ENTITIES = 32
"""VMs and volume groups of one recovery point."""
PROTECTION_LOOK_S = 15.0
"""How long a deletion may take before we look whether it waits for somebody's approval."""


class CentralPoints:
    """Makes, finds and deletes them."""

    def __init__(self, api: CentralApi, tasks: CentralTasks, clock: Clock) -> None:
        self._api = api
        self._tasks = tasks
        self._clock = clock

    async def create(
        self,
        vms: Sequence[Vm],
        *,
        name: str,
        consistency: Consistency,
        expires_at: datetime,
        vss: Mapping[str, VssBackup | None],
    ) -> list[RecoveryPoint]:
        """Freeze all disks of `vms`, and return the recovery point as each of them sees it; delete what was made if
        that does not come to a good end."""
        if not 0 < len(name) <= MAX_NAME_LENGTH:
            raise OptionsError(f"the name of a recovery point has 1 to {MAX_NAME_LENGTH} characters, not {len(name)}")
        if problem := too_many(vms):
            raise OptionsError(problem)
        what = f"recovery point {name!r} of VM {', '.join(given_id(vm.id, 'VM') for vm in vms)}"
        accepted = Accepted()
        deadline = Deadline(self._clock, self._api.session.snapshot_timeout_s)
        asking = self._api.create_recovery_point(
            {vm.id: vss[vm.id] for vm in vms},
            group_ids(vms),
            name,
            expires_at=expires_at,
            with_application=consistency == "application",
        )
        try:
            point_id = await self._created(asking, accepted, vms, name, what, deadline)
            found, points = await poll(lambda: self._whole(point_id, vms, name), what=what, deadline=deadline)
            for vm, point in zip(vms, points, strict=True):
                if absent := _absent(vm, point, found):
                    raise PrismAnswerError(f"{what}: recovery point {point_id} does not hold {', '.join(absent)}")
            return points
        except (Exception, asyncio.CancelledError):
            if not accepted.was_rejected:
                await undo(self._remove_unfinished(vms, name, accepted.id, what), what=what)
            raise

    async def get(self, recovery_point_id: str, vm: Vm) -> RecoveryPoint:
        """Return a recovery point with those of the disks of `vm` that it holds."""
        given_id(recovery_point_id, "recovery point")
        with not_found_as(f"recovery point {recovery_point_id}"):
            return await ask_twice_if_absent(lambda: self._look_up(recovery_point_id, vm), self._clock)

    async def listed(self, name: str, name_prefix: str) -> list[RecoveryPoint]:
        """Return every recovery point that we may see; `vm_id` is empty for one of several VMs."""
        found = await self._list_points(name, name_prefix)
        return [
            recovery_point_from(point, vm_id=next(iter(point.vm_ids())) if len(point.vm_ids()) == 1 else "")
            for point in found
        ]

    async def extend(self, point: RecoveryPoint, expires_at: datetime) -> None:
        """Let the cluster keep it until then, and wait until it says that it does."""
        what = f"extension of recovery point {point.id}"
        task_id = await self._api.set_expiration_time(point.id, expires_at)
        await self._tasks.wait(task_id, what=what, deadline=Deadline(self._clock).within(EXTENSION_TIMEOUT_S))

    async def delete(self, recovery_point_id: str) -> None:
        """Delete, and wait until it is gone."""
        given_id(recovery_point_id, "recovery point")
        what = f"deletion of recovery point {recovery_point_id}"
        deadline = Deadline(self._clock, self._api.session.snapshot_timeout_s)
        try:
            task_id = await self._begin_deletion(recovery_point_id, what, deadline)
            if task_id:
                await self._wait_until_deleted(task_id, recovery_point_id, what, deadline)
        except PrismError as exc:
            found = await self._state(recovery_point_id)
            if found is None:
                return
            if found.protection:
                raise PrismProtected(f"{what}: {found.protection}: {exc}") from exc
            raise

    async def _list_points(self, name: str, name_prefix: str = "") -> list[RecoveryPointState]:
        """Return all recovery points, those of a name, or those whose names begin so.

        A filter that Prism does not honour must not cost somebody else's recovery point: compared again here.
        """
        filter_text = name_is(name) if name else name_begins(name_prefix) if name_prefix else ""
        listed = entities(self._api.list_recovery_points, filter_text=filter_text, order_by="creationTime")
        found = await readable(listed, RecoveryPointState, what="recovery point")
        names = ((point, point.name or "") for point in found)
        return [point for point, called in names if name in ("", called) and called.startswith(name_prefix)]

    async def _created(
        self,
        asking: Coroutine[Any, Any, str],
        accepted: Accepted,
        vms: Sequence[Vm],
        name: str,
        what: str,
        deadline: Deadline,
    ) -> str:
        """Ask for a recovery point, wait for its task, and return its id.

        If the answer is lost nobody knows what became of the request.  Asked again it could freeze the VM a second
        time, so the recovery point is looked for by its name, which is of this one alone.
        """
        try:
            with not_found_as(_what_is_frozen(vms)):
                task_id = await accepted.ask(asking)
        except PrismError as exc:
            if accepted.was_rejected:
                raise
            log.warning("%s: the answer is lost (%s): looking for it by its name", what, exc)
            return await self._only_one(vms, name, what, deadline, lost=exc)
        task = await self._tasks.wait(task_id, what=what, deadline=deadline)
        point_id = _told_id(task)
        if point_id is None:
            missing = PrismAnswerError(f"{what}: the task succeeded without the id of a recovery point")
            return await self._only_one(vms, name, what, deadline, lost=missing)
        if not is_uuid(point_id):
            raise PrismAnswerError(f"{what}: the task succeeded without the id of a recovery point")
        return point_id

    async def _only_one(self, vms: Sequence[Vm], name: str, what: str, deadline: Deadline, *, lost: PrismError) -> str:
        """Return the id of the one recovery point of this name; raise `lost` if there is none, or are several."""
        ids = await self._appearing(vms, name, what, deadline)
        if len(ids) != 1:
            raise lost
        return ids.pop()

    async def _appearing(
        self, vms: Sequence[Vm], name: str, what: str, deadline: Deadline, told: str | None = None
    ) -> set[str]:
        """Return what has this name within a while, be it listed, or the one that a task told of."""

        async def look() -> set[str] | None:
            ids = {told} if is_uuid(told) and await self._is_of(told, name, vms) else set()
            return ids | await self._named(name, vms) or None

        wait_s = SETTLE_TIMEOUT_S if told is None else UNKNOWN_TIMEOUT_S
        return await appearing(look, what=what, deadline=deadline, wait_s=wait_s) or set()

    async def _look_up(self, point_id: str, vm: Vm) -> RecoveryPoint:
        return await self._as_seen_by(await self._complete(point_id), vm)

    async def _complete(self, point_id: str) -> RecoveryPointState:
        found = await self._api.get_recovery_point(point_id)
        if found.status not in (None, "COMPLETE"):
            raise NotFoundError(f"recovery point {point_id} cannot be used: its status is {one_line(found.status)}")
        return found

    async def _as_seen_by(self, found: RecoveryPointState, vm: Vm) -> RecoveryPoint:
        """Return a recovery point with the disks of one of its VMs."""
        subject = f"recovery point {found.ext_id}"
        vm_points = [item for item in found.vm_recovery_points or () if item.vm_ext_id == vm.id]
        if not vm_points:
            raise NotFoundError(f"{subject} does not hold VM {vm.id}")
        if len(vm_points) > 1:
            raise PrismAnswerError(f"{subject} holds VM {vm.id} {len(vm_points)} times")
        # The disks may be null in the answer for the whole recovery point (nutanix-api, 5.1).
        vm_point = await self._api.get_vm_recovery_point(found.ext_id, vm_points[0].ext_id)
        check_same_id(
            vm_point.vm_ext_id, vm.id, field="vmExtId", request=f"{subject}: VM recovery point {vm_point.ext_id}"
        )
        disks = disk_points_from(vm_point, vm=vm, recovery_point_id=found.ext_id)
        disks += group_disk_points_from(found, vm)
        return recovery_point_from(found, vm_id=vm.id, disks=disks, vm_type=vm_point.recovery_point_type)

    async def _whole(
        self, point_id: str, vms: Sequence[Vm], name: str
    ) -> tuple[RecoveryPointState, list[RecoveryPoint]]:
        """Return a new recovery point once its disks are listed, and as each VM sees it.

        Errors: NotFoundError if they are not yet; PrismAnswerError if it has another name: the task named another one.
        """
        found = await self._complete(point_id)
        if found.name != name:
            called = f"which is called {one_line(found.name)!r}" if found.name else "which has no name"
            raise PrismAnswerError(
                f"the task for {name!r} names recovery point {point_id}, {called}: it is neither used nor deleted; it"
                f" goes when it expires, or when somebody deletes it in Prism"
            )
        points = [await self._as_seen_by(found, vm) for vm in vms]
        for vm, point in zip(vms, points, strict=True):
            if not point.disks and _absent(vm, point, found):
                raise NotFoundError(f"recovery point {point_id} lists no disk of VM {vm.id}")
        return found, points

    async def _begin_deletion(self, point_id: str, what: str, deadline: Deadline) -> str:
        """Return the id of the task, empty if there is nothing to delete."""
        request_id = new_request_id()

        async def ask() -> str | None:
            try:
                return await self._api.delete_recovery_point(point_id, request_id=request_id)
            except PrismStatusError as exc:
                if not is_not_found(exc):
                    raise
            return "" if await self._state(point_id) is None else None

        return await poll(ask, what=what, deadline=deadline.within(UNKNOWN_TIMEOUT_S))

    async def _wait_until_deleted(self, task_id: str, point_id: str, what: str, deadline: Deadline) -> None:
        try:
            await self._tasks.wait(task_id, what=what, deadline=deadline.within(PROTECTION_LOOK_S))
        except (PrismTimeout, PrismBusy):
            found = await self._state(point_id)
            if found is None:
                return
            if found.protection:
                raise
            await self._tasks.wait(task_id, what=what, deadline=deadline)

    async def _state(self, point_id: str) -> RecoveryPointState | None:
        """Return a recovery point as it stands, None if the cluster has not got it."""
        return await if_there(lambda: self._api.get_recovery_point(point_id), self._clock)

    async def _remove_unfinished(self, vms: Sequence[Vm], name: str, task_id: str | None, what: str) -> None:
        """Delete what a create that went wrong has made: by the id that its task names, and by name and VMs."""
        task = await self._tasks.settle(task_id, what=what) if task_id is not None else None
        # Also after the end of a task: whoever lists and looks up may learn of the point later than the task says.
        deadline, told = Deadline(self._clock, UNDO_TIMEOUT_S), _told_id(task) if task is not None else None
        ids = await self._appearing(vms, name, what, deadline, told)
        if not ids and (task is None or told is not None or not task.has_failed):
            warn_of_unseen(what)
        for point_id in ids:
            log.info("deleting recovery point %s: making it did not succeed (%s)", point_id, what)
        await remove_each(ids, self.delete)

    async def _is_of(self, point_id: str, name: str, vms: Sequence[Vm]) -> bool:
        """Whether the cluster has this recovery point, with this name and no other VM: a task may name another one."""
        found = await self._state(point_id)
        return found is not None and found.name == name and found.vm_ids() <= {vm.id for vm in vms}

    async def _named(self, name: str, vms: Sequence[Vm]) -> set[str]:
        """Return the ids of the recovery points of this name that hold these VMs alone."""
        return {point.ext_id for point in await self._list_points(name) if point.vm_ids() <= {vm.id for vm in vms}}


def _told_id(task: TaskState) -> str | None:
    """Return what a task names as the recovery point that it made, which may be no id at all."""
    return task.detail("recoveryPointExtId") or next(iter(task.affected(_POINT_REL)), None)


def _absent(vm: Vm, point: RecoveryPoint, found: RecoveryPointState) -> list[str]:
    """Return the disks that a recovery point lacks, but for those of groups of which it tells no disk at all."""
    held, untold = {disk.disk_id for disk in point.disks}, untold_groups(found)
    wanted = [disk for disk in vm.disks if disk.group is None or disk.group.id not in untold]
    return [disk.label for disk in wanted if disk.id not in held]


def group_ids(vms: Sequence[Vm]) -> list[str]:
    """Return the volume groups that the disks of these VMs are in, each once."""
    return list(dict.fromkeys(disk.group.id for vm in vms for disk in vm.disks if disk.group is not None))


def too_many(vms: Sequence[Vm]) -> str:
    """Return why one recovery point cannot hold these VMs, "" if it can."""
    groups = len(group_ids(vms))
    if len(vms) + groups <= MAX_ENTITIES:
        return ""
    of_vms = "1 VM" if len(vms) == 1 else f"{len(vms)} VMs"
    return (
        f"{of_vms} and {groups} volume groups are {len(vms) + groups}, and one recovery point holds {MAX_ENTITIES} at "
        f"most: leave out some of them (--no-volume-groups leaves out all groups)"
    )


def _what_is_frozen(vms: Sequence[Vm]) -> str:
    groups = group_ids(vms)
    named = f"VM {', '.join(vm.id for vm in vms)}"
    return f"{named} or volume group {', '.join(groups)}" if groups else named

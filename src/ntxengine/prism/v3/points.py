"""Snapshots of a Prism Element: made, found, deleted.

Which storage file is which disk comes from v2, asked anew for every snapshot, never from sizes or built paths.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

from ntxengine.errors import NotFoundError, OptionsError, PrismAnswerError, PrismError, PrismStatusError, TaskFailed
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.error_body import is_not_found, not_found_as
from ntxengine.prism.http.parse import given_id
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
from ntxengine.prism.v3 import schema
from ntxengine.prism.v3.api import ElementApi
from ntxengine.prism.v3.pages import entities

MAX_NAME_LENGTH = 64

_LISTED = "the list of snapshots"


class ElementPoints:
    """Makes, finds and deletes them."""

    def __init__(self, api: ElementApi, clock: Clock) -> None:
        self._api = api
        self._clock = clock

    async def create(
        self, vm: Vm, *, name: str, consistency: Consistency, expires_at: datetime, vss: VssBackup | None = "copy"
    ) -> RecoveryPoint:
        """Freeze all disks of `vm`; delete what was made if that does not come to a good end."""
        if not 0 < len(name) <= MAX_NAME_LENGTH:
            raise OptionsError(f"the name of a snapshot has 1 to {MAX_NAME_LENGTH} characters, not {len(name)}")
        given_id(vm.id, "VM")
        if problem := not_ahv(vm):
            raise PrismError(f"VM {vm.id}: {problem}")
        what = f"snapshot {name!r} of VM {vm.id}"
        accepted = Accepted()
        deadline = Deadline(self._clock, self._api.session.snapshot_timeout_s)
        snapshot_id = await self._new_identifier()
        asking = self._create(vm, name, consistency, expires_at, snapshot_id)
        try:
            made_id = await self._accepted_id(asking, accepted, vm, name, snapshot_id, what, deadline)
            is_chosen = snapshot_id is not None
            point = await self._finished(made_id, vm, name, what, deadline, is_chosen=is_chosen)
            absent = [disk.label for disk in vm.disks if disk.id not in {found.disk_id for found in point.disks}]
            if absent:
                raise PrismAnswerError(f"{what}: snapshot {point.id} does not hold {', '.join(absent)}")
            return point
        except (Exception, asyncio.CancelledError):
            if not accepted.was_rejected:
                await undo(self._remove_unfinished(vm, name, snapshot_id, accepted.id, what), what=what)
            raise

    async def get(self, recovery_point_id: str, vm: Vm) -> RecoveryPoint:
        """Return a snapshot with those of the disks of `vm` that it holds."""
        subject = f"snapshot {recovery_point_id}"
        given_id(recovery_point_id, "snapshot")
        with not_found_as(subject):
            answer = await ask_twice_if_absent(lambda: self._api.get_snapshot(recovery_point_id), self._clock)
        found = answer.decode(schema.Snapshot)
        if not found.is_complete:
            raise NotFoundError(f"{subject} cannot be used: its state is {found.state}")
        point = await self._with_disks(found, vm, answer.request)
        if point.vm_id != vm.id:
            raise NotFoundError(f"{subject} is not of VM {vm.id}")
        return point

    async def listed(self, name: str, name_prefix: str) -> list[RecoveryPoint]:
        """Return every snapshot that we may see, of one name or whose names begin so: there is no filter for it."""
        listed = [schema.recovery_point_from(found, request=_LISTED) for found in await self._snapshots("")]
        return [point for point in listed if name in ("", point.name) and point.name.startswith(name_prefix)]

    async def extend(self, point: RecoveryPoint, expires_at: datetime) -> None:
        """Let the cluster keep it until then, and wait until it says that it does."""
        what = f"extension of snapshot {point.id}"
        wanted = int(expires_at.timestamp())
        with not_found_as(f"snapshot {point.id}"):
            await self._api.extend_snapshot(point, expires_at)

        async def is_extended() -> bool | None:
            found = await self._state(point.id)
            if found is None:
                raise NotFoundError(f"snapshot {point.id} is gone")
            told = schema.recovery_point_from(found, request=what).expires_at
            return True if told is not None and told.timestamp() >= wanted else None

        await poll(is_extended, what=what, deadline=Deadline(self._clock).within(EXTENSION_TIMEOUT_S))

    async def delete(self, recovery_point_id: str) -> None:
        """Delete, and wait until it is gone."""
        given_id(recovery_point_id, "snapshot")
        what = f"deletion of snapshot {recovery_point_id}"
        deadline = Deadline(self._clock, self._api.session.snapshot_timeout_s)

        async def looked() -> tuple[schema.Snapshot | None]:
            return (await self._state(recovery_point_id),)

        async def begun() -> bool | None:
            try:
                await self._api.delete_snapshot(recovery_point_id)
            except PrismStatusError as exc:
                if not is_not_found(exc):
                    raise
                return True if await self._state(recovery_point_id) is None else None
            return True

        async def is_gone() -> bool | None:
            found = await self._state(recovery_point_id)
            if found is not None and found.has_failed and not had_failed:
                raise TaskFailed(f"{what}: {found.state}: {found.complaint()}")
            return True if found is None else None

        (before,) = await poll(looked, what=what, deadline=deadline.within(UNKNOWN_TIMEOUT_S))
        had_failed = before is not None and before.has_failed
        await poll(begun, what=what, deadline=deadline.within(UNKNOWN_TIMEOUT_S))
        await poll(is_gone, what=what, deadline=deadline)

    async def _snapshots(self, filter_text: str) -> list[schema.Snapshot]:
        listed = entities(self._api, "vm_snapshot", filter_text=filter_text)
        return await readable(listed, schema.Snapshot, what="snapshot")

    async def _new_identifier(self) -> str | None:
        try:
            # The same client gets the same uuid again, so every snapshot has a client of its own.
            return await self._api.new_identifier(f"ntx-{uuid.uuid4()}")
        except PrismStatusError as exc:
            if exc.status not in (403, 404, 405, 501):
                raise
            log.debug("no idempotence identifiers here, going on without: %s", exc)
            return None

    async def _create(
        self, vm: Vm, name: str, consistency: Consistency, expires_at: datetime, snapshot_id: str | None
    ) -> str:
        try:
            return await self._api.create_snapshot(
                vm.id,
                name,
                expires_at=expires_at,
                with_application=consistency == "application",
                snapshot_id=snapshot_id,
            )
        except PrismStatusError as exc:
            # The first of two equal requests arrived, but its answer did not.
            if snapshot_id is not None and exc.reason == "ENTITY_ALREADY_EXISTS":
                return snapshot_id
            raise

    async def _accepted_id(
        self,
        asking: Coroutine[Any, Any, str],
        accepted: Accepted,
        vm: Vm,
        name: str,
        snapshot_id: str | None,
        what: str,
        deadline: Deadline,
    ) -> str:
        """Ask for a snapshot and return its id, also where the answer is lost: it is never asked for blindly again."""
        try:
            with not_found_as(f"VM {vm.id}"):
                return await accepted.ask(asking)
        except PrismError as exc:
            if accepted.was_rejected:
                raise
            log.warning("%s: the answer is lost (%s): looking for it", what, exc)
            if snapshot_id is not None:
                return snapshot_id
            found = await self._appearing(vm, name, what, deadline)
            if len(found) != 1:
                raise
            return found.pop()

    async def _finished(
        self, snapshot_id: str, vm: Vm, name: str, what: str, deadline: Deadline, *, is_chosen: bool
    ) -> RecoveryPoint:
        """Wait until the snapshot is complete and return it with its disks.

        An id that Prism told (not `is_chosen`) may be of another one: it is taken only if it says that it is ours.
        """

        async def ask() -> RecoveryPoint | None:
            answer = await self._api.get_snapshot(snapshot_id)
            found = answer.decode(schema.Snapshot)
            if not found.is_of(name, vm):
                raise PrismAnswerError(f"{what}: snapshot {snapshot_id}, which Prism says was made, is another one")
            if found.has_failed:
                raise TaskFailed(f"{what}: Prism ended it as {found.state}: {found.complaint()}")
            if not found.is_complete:
                return None
            if not is_chosen and not found.is_told_of(name, vm):
                raise PrismAnswerError(f"{what}: snapshot {snapshot_id} does not say whose it is, or has no name")
            return await self._with_disks(found, vm, answer.request)

        return await poll(ask, what=what, deadline=deadline)

    async def _state(self, snapshot_id: str) -> schema.Snapshot | None:
        """Return a snapshot as it stands, None if the cluster has not got it."""
        answer = await if_there(lambda: self._api.get_snapshot(snapshot_id), self._clock)
        return answer.decode(schema.Snapshot) if answer is not None else None

    async def _appearing(self, vm: Vm, name: str, what: str, deadline: Deadline) -> set[str]:
        """Return the ids of the snapshots of this name and VM that appear within a while."""

        async def look() -> set[str] | None:
            found = await self._snapshots(f"entity_uuid=={vm.id}")
            points = (schema.recovery_point_from(snapshot, request=_LISTED) for snapshot in found)
            # A filter that Prism does not honour must not cost somebody else's snapshot: compare again.
            return {point.id for point in points if point.name == name and point.vm_id == vm.id} or None

        return await appearing(look, what=what, deadline=deadline, wait_s=SETTLE_TIMEOUT_S) or set()

    async def _with_disks(self, found: schema.Snapshot, vm: Vm, request: str) -> RecoveryPoint:
        with not_found_as(f"VM {vm.id}"):
            files = schema.vm_files(vm, await self._api.get_vm_v2(vm.id))
        return schema.recovery_point_from(found, files=files, vm=vm, request=request)

    async def _settled(self, snapshot_id: str, what: str, deadline: Deadline) -> schema.Snapshot | None:
        """Return a snapshot when it is complete or has failed, or as it stands after a while; it may still appear."""

        found: schema.Snapshot | None = None

        async def ended() -> bool | None:
            nonlocal found
            found = await self._state(snapshot_id)
            return True if found is not None and (found.is_complete or found.has_failed) else None

        await appearing(ended, what=what, deadline=deadline, wait_s=SETTLE_TIMEOUT_S)
        return found

    async def _remove_unfinished(
        self, vm: Vm, name: str, chosen_id: str | None, told_id: str | None, what: str
    ) -> None:
        """Delete what a create that went wrong has made: by its id, or by name and VM if it has none that we know.

        An id that was made for it (`chosen_id`) is deleted also unseen; one that Prism told may be of another one.
        """
        deadline = Deadline(self._clock, UNDO_TIMEOUT_S)
        made_id = chosen_id or told_id
        if made_id is None:
            ids = await self._appearing(vm, name, what, deadline)
            is_seen = bool(ids)
        else:
            found = await self._settled(made_id, what, deadline)
            is_seen = found is not None
            if found is None:
                is_ours = chosen_id is not None
            else:
                is_ours = found.is_of(name, vm) if chosen_id is not None else found.is_told_of(name, vm)
            if is_seen and not is_ours:
                log.warning("snapshot %s is left alone: Prism does not say that it is the %s", made_id, what)
            ids = {made_id} if is_ours else set()
        if not is_seen:
            warn_of_unseen(what)
        for point_id in ids:
            log.info("deleting snapshot %s: making it did not succeed (%s)", point_id, what)
        await remove_each(ids, self.delete)


def not_ahv(vm: Vm) -> str:
    """Return why a VM cannot be captured because of its hypervisor, "" if it can."""
    hypervisor = schema.hypervisor_of(vm)
    return "" if hypervisor in ("", "AHV") else f"it runs on {hypervisor}: only VMs on AHV can be captured"

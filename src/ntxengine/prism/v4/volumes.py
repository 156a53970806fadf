"""Volume groups by v4: a clone of a disk recovery point, offered over iSCSI to one initiator.

Making one must not leak, as making a recovery point must not: from the moment that Prism may have accepted it, whatever
goes wrong deletes it before going on.  Initiators are taken off first: a group that has any is not deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from ntxengine.errors import (
    NotFoundError,
    OptionsError,
    PrismAnswerError,
    PrismError,
    PrismProtected,
    PrismStatusError,
)
from ntxengine.ids import is_uuid
from ntxengine.prism.http.error_body import is_not_found, not_found_as, one_line
from ntxengine.prism.http.parse import given_id
from ntxengine.prism.http.session import Answer
from ntxengine.prism.iscsi import GroupSecrets, check_initiator, check_secret
from ntxengine.prism.listing import readable
from ntxengine.prism.models import DiskPoint, VolumeGroup
from ntxengine.prism.tasks import (
    SETTLE_TIMEOUT_S,
    TASK_TIMEOUT_S,
    UNDO_TIMEOUT_S,
    UNKNOWN_TIMEOUT_S,
    Accepted,
    Deadline,
    appearing,
    if_there,
    log,
    log_not_told,
    may_pass,
    poll,
    remove_each,
    those_named,
    undo,
    warn_of_unseen,
)
from ntxengine.prism.v4.api import CentralApi
from ntxengine.prism.v4.calls import name_begins, name_is
from ntxengine.prism.v4.etags import until_not_stale, with_etag
from ntxengine.prism.v4.pages import entities
from ntxengine.prism.v4.schema_volumes import GROUP_REL, IscsiAttachmentState, VolumeDisk, VolumeGroupState
from ntxengine.prism.v4.tasks import CentralTasks
from ntxengine.prism.v4.volumes_api import VolumesApi

T = TypeVar("T")

MAX_NAME_LENGTH = 256
_PROTECTED_TIMEOUT_S = 15.0
"""How long to wait for a deletion that somebody has to approve."""


class CentralVolumes:
    """Makes volume groups, opens them to initiators, deletes them.  `no_volumes` is why that cannot be done here."""

    def __init__(self, central: CentralApi, volumes: VolumesApi, tasks: CentralTasks, no_volumes: str) -> None:
        self._no_volumes = no_volumes
        self._central = central
        self._volumes = volumes
        self._tasks = tasks
        self._clock = volumes.session.clock
        self._secrets = GroupSecrets(volumes.session.forget)

    async def data_services(self, cluster_id: str) -> str:
        """Return the address that a cluster tells for iSCSI, "" if it has none, or does not tell it.

        Errors: PrismError that may pass: a Prism that is busy has not said that there is none.
        """
        try:
            return (await self._central.get_cluster(cluster_id)).data_services
        except PrismError as exc:
            if may_pass(exc):
                raise
            log_not_told(f"the data services IP of cluster {cluster_id}", exc)
            return ""

    async def make(self, disk: DiskPoint, *, name: str, cluster_id: str, secret: str) -> VolumeGroup:
        """Make a volume group with a clone of `disk`; delete what was made if that does not come to a good end."""
        self._check_usable()
        if not 0 < len(name) <= MAX_NAME_LENGTH:
            raise OptionsError(f"the name of a volume group has 1 to {MAX_NAME_LENGTH} characters, not {len(name)}")
        check_secret(secret)
        given_id(disk.id, "disk recovery point")
        given_id(cluster_id, "cluster")
        what = f"volume group {name!r} of disk recovery point {disk.id}"
        accepted, deadline = Accepted(), Deadline(self._clock)
        asking = self._volumes.create_volume_group(name, cluster_id, disk.id, self._secrets.keep(name, secret))
        try:
            group_id = await self._made(asking, accepted, name, cluster_id, what, deadline)
            return await self._whole(group_id, name, what, deadline)
        except (Exception, asyncio.CancelledError):
            if accepted.was_rejected:
                self._secrets.gone(name)
            else:
                await undo(self._remove_made(name, cluster_id, accepted.id, what), what=what)
            raise

    async def admit(self, group: VolumeGroup, initiator: str, secret: str) -> None:
        """Let the initiator of this name log in to the target."""
        self._check_usable()
        check_initiator(initiator)
        check_secret(secret)
        what = f"attachment of an iSCSI client to volume group {group.name!r}"
        deadline = Deadline(self._clock)
        hidden = self._secrets.keep(group.name, secret)

        async def admitted() -> None:
            etag = await self._etag(group.id)
            task_id = await with_etag(
                lambda tag: self._volumes.attach_iscsi_client(group.id, initiator, hidden, tag), etag, what
            )
            if task_id is None:
                raise NotFoundError(f"volume group {group.name!r} ({group.id}) is not on the cluster")
            await self._tasks.wait(task_id, what=what, deadline=deadline)

        await until_not_stale(admitted, what=what, thing="the volume group")

    async def found(self, name_prefix: str) -> list[VolumeGroup]:
        """Return the volume groups whose names begin so, without their targets: one that is odd must not hide them."""
        self._check_usable()
        listed = await self._listed(name_begins(name_prefix))
        return [group.bare() for group in listed if (group.name or "").startswith(name_prefix)]

    async def remove(self, group: VolumeGroup) -> None:
        """Take its initiators off, delete it, and wait until it is gone."""
        self._check_usable()
        given_id(group.id, "volume group")
        what = f"deletion of volume group {group.name!r}"
        found = await self._state(group.id)
        if found is not None and found.name != group.name:
            raise PrismAnswerError(f"{what}: {group.id} is called {one_line(found.name or '')!r}: it is left alone")
        if found is not None:
            await self._remove(group, found, what)
        self._secrets.gone(group.name)

    # -- making one

    def _check_usable(self) -> None:
        if self._no_volumes:
            raise PrismError(f"Prism {self._volumes.session.name}: {self._no_volumes}")

    async def _made(
        self,
        asking: Coroutine[Any, Any, str],
        accepted: Accepted,
        name: str,
        cluster_id: str,
        what: str,
        deadline: Deadline,
    ) -> str:
        """Ask for a volume group, wait for its task, and return its id.

        A task may name others, that which it was cloned from above all.  If the answer is lost, or the task names none
        of ours, it is looked for by its name, which is of this one alone.
        """
        told: list[str] = []
        try:
            with not_found_as(f"cluster {cluster_id} or the disk recovery point of {what}"):
                task_id = await accepted.ask(asking)
        except PrismError as exc:
            if accepted.was_rejected:
                raise
            log.warning("%s: the answer is lost (%s): looking for it by its name", what, exc)
            lost = exc
        else:
            task = await self._tasks.wait(task_id, what=what, deadline=deadline)
            told = [group_id for group_id in task.affected(GROUP_REL) if is_uuid(group_id)]
            if ours := await appearing(lambda: self._called(name, told), what=what, deadline=deadline, wait_s=0.0):
                return ours[0].ext_id
            lost = PrismAnswerError(
                f"{what}: the task names volume group {', '.join(told)}, which has another name, or is not to be seen"
                if told
                else f"{what}: the task succeeded without the id of a volume group"
            )
        found = await self._appearing(name, cluster_id, what, deadline, told)
        if len(found) != 1:
            raise lost
        return found[0].ext_id

    async def _whole(self, group_id: str, name: str, what: str, deadline: Deadline) -> VolumeGroup:
        """Return a new volume group once it tells its disk and its target.

        Errors: PrismAnswerError if it is another one, has not one disk, or tells no target within a while.
        """

        async def look() -> VolumeGroup | None:
            found, _ = await self._volumes.get_volume_group(group_id)
            if found.name != name:
                raise PrismAnswerError(f"{what}: {group_id} was renamed to {one_line(found.name or '')!r} meanwhile")
            disks = await self._sub_list(self._volumes.list_volume_disks, group_id, VolumeDisk, "disk")
            if not disks:
                raise NotFoundError(f"volume group {group_id} lists no disk")
            if len(disks) != 1 or disks[0].index is None or disks[0].index < 0:
                raise PrismAnswerError(f"{what}: it has {len(disks)} disks, or one without a number")
            group = found.model(disks[0].index)
            return group if group.target else None

        group = await appearing(look, what=what, deadline=deadline, wait_s=UNKNOWN_TIMEOUT_S)
        if group is None:
            raise PrismAnswerError(f"{what}: Prism does not tell the name of its iSCSI target")
        return group

    async def _remove_made(self, name: str, cluster_id: str, task_id: str | None, what: str) -> None:
        """Delete what a create that went wrong has made: what its task names, if it has our name, and what has it."""
        task = await self._tasks.settle(task_id, what=what) if task_id is not None else None
        told = [group_id for group_id in task.affected(GROUP_REL) if is_uuid(group_id)] if task is not None else []
        # Also after the end of a task: whoever lists and looks up may learn of the group later than the task says.
        found = await self._appearing(name, cluster_id, what, Deadline(self._clock, UNDO_TIMEOUT_S), told)
        if not found:
            warn_of_unseen(what)
        for group in found:
            log.info("deleting volume group %s: making it did not succeed (%s)", group.ext_id, what)
        await remove_each([VolumeGroup(group.ext_id, name, cluster_id) for group in found], self.remove)

    # -- finding it

    async def _called(self, name: str, ids: Sequence[str]) -> list[VolumeGroupState] | None:
        """Return which of these have this name, None if none has."""
        return await those_named(name, ids, self._state) or None

    async def _appearing(
        self, name: str, cluster_id: str, what: str, deadline: Deadline, told: Sequence[str] = ()
    ) -> list[VolumeGroupState]:
        """Return what has this name within a while, be it listed, or one of those that a task told of.

        One that is listed, and cannot be looked up yet, could not be deleted either.
        """

        async def look() -> list[VolumeGroupState] | None:
            return await self._called(name, [*told, *await self._named(name, cluster_id)])

        wait_s = UNKNOWN_TIMEOUT_S if told else SETTLE_TIMEOUT_S
        return await appearing(look, what=what, deadline=deadline, wait_s=wait_s) or []

    async def _named(self, name: str, cluster_id: str) -> list[str]:
        """Return the ids of those of exactly this name, whatever a server makes of a filter."""
        listed = await self._listed(name_is(name))
        return [group.ext_id for group in listed if group.name == name and group.is_on(cluster_id)]

    async def _listed(self, filter_text: str) -> list[VolumeGroupState]:
        listed = entities(self._volumes.list_volume_groups, filter_text=filter_text, order_by="name")
        return await readable(listed, VolumeGroupState, what="volume group")

    async def _state(self, group_id: str) -> VolumeGroupState | None:
        """Return a volume group as it stands, None if the cluster has not got it."""
        found = await if_there(lambda: self._volumes.get_volume_group(group_id), self._clock)
        return found[0] if found is not None else None

    async def _etag(self, group_id: str) -> str | None:
        """Return its version, None where none is told, or it is not there."""
        try:
            return (await self._volumes.get_volume_group(group_id))[1]
        except PrismStatusError as exc:
            if is_not_found(exc):
                return None
            raise

    async def _clients(self, group_id: str) -> list[str]:
        """Return the ids of the iSCSI clients that are attached, none if it is gone."""
        try:
            call = self._volumes.list_iscsi_attachments
            found = await self._sub_list(call, group_id, IscsiAttachmentState, "iSCSI client")
        except PrismStatusError as exc:
            if is_not_found(exc):
                return []
            raise
        return [client.ext_id for client in found]

    async def _sub_list(
        self, call: Callable[..., Awaitable[Answer]], group_id: str, kind: type[T], what: str
    ) -> list[T]:
        """Return what is in a list of a volume group."""
        return await readable(entities(partial(call, group_id)), kind, what=f"{what} of volume group {group_id}")

    # -- changing it

    async def _remove(self, group: VolumeGroup, found: VolumeGroupState, what: str) -> None:
        deadline = Deadline(self._clock, _PROTECTED_TIMEOUT_S if found.protection else TASK_TIMEOUT_S)
        try:
            for client_id in await self._clients(group.id):
                await self._detach(group, client_id, deadline)
            await self._delete(group, what, deadline)
        except PrismError as exc:
            if found.protection:
                raise PrismProtected(f"{what}: {found.protection}: {exc}") from exc
            raise

    async def _detach(self, group: VolumeGroup, client_id: str, deadline: Deadline) -> None:
        async def is_detached() -> bool:
            return client_id not in await self._clients(group.id)

        def send(etag: str | None) -> Awaitable[str]:
            return self._volumes.detach_iscsi_client(group.id, client_id, etag)

        what = f"removal of an iSCSI client from volume group {group.name!r}"
        await self._change(group.id, send, what, deadline, is_done=is_detached)

    async def _delete(self, group: VolumeGroup, what: str, deadline: Deadline) -> None:
        async def is_gone() -> bool:
            return await self._state(group.id) is None

        def send(etag: str | None) -> Awaitable[str]:
            return self._volumes.delete_volume_group(group.id, etag)

        await self._change(group.id, send, what, deadline, is_done=is_gone)

    async def _change(
        self,
        group_id: str,
        send: Callable[[str | None], Awaitable[str]],
        what: str,
        deadline: Deadline,
        *,
        is_done: Callable[[], Awaitable[bool]],
    ) -> None:
        """Do a change to its end; whatever goes wrong on the way, it is done once `is_done` says so."""

        async def begun() -> str | None:
            """Return the id of the task, empty if there is nothing to do."""
            task_id = await with_etag(send, await self._etag(group_id), what)
            return "" if task_id is None and await is_done() else task_id

        async def changed() -> None:
            try:
                if task_id := await poll(begun, what=what, deadline=deadline.within(UNKNOWN_TIMEOUT_S)):
                    await self._tasks.wait(task_id, what=what, deadline=deadline)
            except PrismError:
                if not await is_done():
                    raise

        await until_not_stale(changed, what=what, thing="the volume group")

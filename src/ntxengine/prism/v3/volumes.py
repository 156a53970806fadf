"""Volume groups by v2: a clone of a snapshot file, offered over iSCSI to one initiator.

Making one must not leak, as making a snapshot must not: from the moment that Prism may have accepted it, whatever goes
wrong deletes it before going on.  A task of v2 may name what it made, or not: it is ours if it has our name.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from ntxengine.errors import OptionsError, PrismAnswerError, PrismError
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.error_body import not_found_as, one_line
from ntxengine.prism.http.parse import given_id
from ntxengine.prism.http.secret import Secret
from ntxengine.prism.iscsi import GroupSecrets, check_initiator, check_secret
from ntxengine.prism.listing import readable
from ntxengine.prism.models import DiskPoint, VolumeGroup
from ntxengine.prism.tasks import (
    SETTLE_TIMEOUT_S,
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
from ntxengine.prism.v3.api import ElementApi
from ntxengine.prism.v3.pages import v2_entities
from ntxengine.prism.v3.schema_v2 import V2Group
from ntxengine.prism.v3.tasks import ElementTasks

_NAME = re.compile(r"[^\[\]?*'\",]{1,256}")


class ElementVolumes:
    """Makes volume groups, opens them to initiators, deletes them."""

    def __init__(self, api: ElementApi, clock: Clock) -> None:
        self._api = api
        self._tasks = ElementTasks(api)
        self._clock = clock
        self._secrets = GroupSecrets(api.session.forget)

    async def data_services(self, cluster_id: str) -> str:
        """Return the address that the cluster tells for iSCSI, "" if it has none, or does not tell it.

        Errors: PrismError that may pass: a Prism that is busy has not said that there is none.
        """
        try:
            return (await self._api.get_cluster_v2()).data_services
        except PrismError as exc:
            if may_pass(exc):
                raise
            log_not_told(f"the data services IP of cluster {cluster_id}", exc)
            return ""

    async def make(self, disk: DiskPoint, *, name: str, cluster_id: str, secret: str) -> VolumeGroup:
        """Make a volume group with a clone of `disk`; delete what was made if that does not come to a good end."""
        if disk.path is None:
            raise OptionsError(
                f"recovery point disk {disk.id} has no storage path: it was not made by this Prism Element"
            )
        if _NAME.fullmatch(name) is None:
            raise OptionsError(f"the name of a volume group has 1 to 256 characters, none of []?*'\", in it: {name!r}")
        check_secret(secret)
        what = f"volume group {name!r} of {disk.path}"
        accepted, deadline = Accepted(), Deadline(self._clock)
        try:
            told = await self._make(name, disk.path, self._secrets.keep(name, secret), accepted, what, deadline)
            return await self._whole(name, told, cluster_id, what, deadline)
        except (Exception, asyncio.CancelledError):
            if accepted.was_rejected:
                self._secrets.gone(name)
            else:
                await undo(self._remove_made(name, accepted.id, what), what=what)
            raise

    async def admit(self, group: VolumeGroup, initiator: str, secret: str) -> None:
        """Let the initiator of this name log in to the target."""
        check_initiator(initiator)
        check_secret(secret)
        with not_found_as(f"volume group {group.name!r} ({group.id})"):
            is_done = await self._api.open_volume_group_v2(group.id, initiator, self._secrets.keep(group.name, secret))
        if not is_done:
            raise PrismAnswerError(f"volume group {group.name!r}: Prism did not open it to an iSCSI client")

    async def found(self, name_prefix: str) -> list[VolumeGroup]:
        """Return the volume groups whose names begin so, without their targets: one that is odd must not hide them."""
        return [
            VolumeGroup(group.uuid, group.name or "", "")
            for group in await self._listed()
            if (group.name or "").startswith(name_prefix)
        ]

    async def remove(self, group: VolumeGroup) -> None:
        """Take its initiators off, delete it, and wait until it is gone."""
        given_id(group.id, "volume group")
        what = f"deletion of volume group {group.name!r}"
        deadline = Deadline(self._clock)

        async def begun() -> str | None:
            """Return the id of the task, empty if it is gone."""
            found = await self._state(group.id)
            if found is None:
                return ""
            if found.name != group.name:
                other = one_line(found.name or "")
                raise PrismAnswerError(f"{what}: {group.id} is called {other!r}: it is left alone")
            for attachment in found.attachment_list or ():
                if attachment.initiator:
                    await self._api.close_volume_group_v2(group.id, attachment.initiator)
            return await self._api.delete_volume_group_v2(group.id)

        try:
            if task_id := await poll(begun, what=what, deadline=deadline.within(UNKNOWN_TIMEOUT_S)):
                await self._tasks.wait(task_id, what, deadline)
        except PrismError:
            if await self._state(group.id) is not None:
                raise
        self._secrets.gone(group.name)

    async def _make(
        self, name: str, path: str, secret: Secret, accepted: Accepted, what: str, deadline: Deadline
    ) -> list[str]:
        """Ask for a volume group, wait for its task, and return what that told of.

        If the answer is lost, it may be there all the same.
        """
        try:
            with not_found_as(path):
                task_id = await accepted.ask(self._api.create_volume_group_v2(name, path, secret))
        except PrismError as exc:
            if accepted.was_rejected:
                raise
            log.warning("%s: the answer is lost (%s): looking for it by its name", what, exc)
            if not await self._appearing(name, what, deadline):
                raise
            return []
        return (await self._tasks.wait(task_id, what, deadline)).groups

    async def _whole(
        self, name: str, told: Sequence[str], cluster_id: str, what: str, deadline: Deadline
    ) -> VolumeGroup:
        """Return a new volume group once it tells its disk and its target.

        Errors: PrismAnswerError if there is not one of this name, or it has not one disk, or tells no target.
        """
        seen = "no volume group of this name is listed"

        async def look() -> VolumeGroup | None:
            nonlocal seen
            found = await self._named(name, told)
            if len(found) > 1:
                raise PrismAnswerError(f"{what}: {len(found)} volume groups have this name")
            if not found:
                return None
            [group] = found
            if group.luns and (len(group.luns) != 1 or group.luns[0] is None or group.luns[0] < 0):
                raise PrismAnswerError(f"{what}: it has {len(group.luns)} disks, or one without a number")
            seen = "Prism does not tell the name of its iSCSI target" if group.luns else "it has no disk"
            model = group.model(cluster_id)
            return model if group.luns and model.target else None

        group = await appearing(look, what=what, deadline=deadline, wait_s=UNKNOWN_TIMEOUT_S)
        if group is None:
            raise PrismAnswerError(f"{what}: {seen}")
        return group

    async def _remove_made(self, name: str, task_id: str | None, what: str) -> None:
        """Delete what a create that went wrong has made."""
        task = await self._tasks.settle(task_id, what) if task_id is not None else None
        # Also after the end of a task: whoever lists and looks up may learn of the group later than the task says.
        deadline = Deadline(self._clock, UNDO_TIMEOUT_S)
        found = await self._appearing(name, what, deadline, task.groups if task is not None else ())
        if not found:
            warn_of_unseen(what)
        for group in found:
            log.info("deleting volume group %s: making it did not succeed (%s)", group.uuid, what)
        await remove_each([VolumeGroup(group.uuid, name, "") for group in found], self.remove)

    async def _appearing(self, name: str, what: str, deadline: Deadline, told: Sequence[str] = ()) -> list[V2Group]:
        """Return what has this name within a while."""

        async def look() -> list[V2Group] | None:
            return await self._named(name, told) or None

        wait_s = UNKNOWN_TIMEOUT_S if told else SETTLE_TIMEOUT_S
        return await appearing(look, what=what, deadline=deadline, wait_s=wait_s) or []

    async def _named(self, name: str, told: Sequence[str]) -> list[V2Group]:
        """Return what has this name, be it listed, or one of those that a task told of.

        One that is listed, and cannot be looked up yet, could not be deleted either.
        """
        listed = [group.uuid for group in await self._listed() if group.name == name]
        return await those_named(name, [*told, *listed], self._state)

    async def _listed(self) -> list[V2Group]:
        listed = v2_entities(self._api.list_volume_groups_v2)
        found = await readable(listed, V2Group, what="volume group")
        return [group for group in found if not group.is_deleted]

    async def _state(self, group_id: str) -> V2Group | None:
        """Return a volume group as it stands, None if the cluster has not got it."""
        found = await if_there(lambda: self._api.get_volume_group_v2(group_id), self._clock)
        return None if found is None or found.is_deleted else found

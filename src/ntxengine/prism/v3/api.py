"""The v3 and v2 calls of a Prism Element, one method each, without policy."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ntxengine.prism.http.parse import check_same_id, id_in_path
from ntxengine.prism.http.secret import Secret
from ntxengine.prism.http.session import Answer, Request, Session
from ntxengine.prism.models import RecoveryPoint
from ntxengine.prism.v3 import schema, schema_v2

PAGE_LENGTH = 100
"""`length` of a list: far below any limit that was seen."""

V2_COUNT = 500
"""`count` of a list of v2."""

V3 = "/api/nutanix/v3"
V2 = "/PrismGateway/services/rest/v2.0"

_IDENTIFIER_MINUTES = 60


class ElementApi:
    """A Prism Element."""

    def __init__(self, session: Session) -> None:
        self.session = session

    async def list_entities(
        self, kind: str, offset: int, *, length: int = PAGE_LENGTH, filter_text: str = "", order_by: str = ""
    ) -> Answer:
        """One page of `kind` (EntityList): `vm`, `vm_snapshot`, `cluster`, `host`, `disk`."""
        body: dict[str, Any] = {"kind": kind, "length": length, "offset": offset}
        if filter_text:
            body["filter"] = filter_text
        if order_by:
            body |= {"sort_attribute": order_by, "sort_order": "ASCENDING"}
        return await self.session.ask(Request("POST", f"{V3}/{kind}s/list", body=body))

    async def get_vm(self, vm_id: str) -> Answer:
        """One VM."""
        return await self._get("vms", vm_id)

    async def new_identifier(self, client: str) -> str:
        """Return a uuid for something that is yet to be made: making it twice with it makes it once."""
        body = {"client_identifier": client, "count": 1, "valid_duration_in_minutes": _IDENTIFIER_MINUTES}
        answer = await self.session.ask(Request("POST", f"{V3}/idempotence_identifiers", body=body))
        return answer.decode(schema.Identifiers).uuid_list[0]

    async def create_snapshot(
        self, vm_id: str, name: str, *, expires_at: datetime, with_application: bool, snapshot_id: str | None
    ) -> str:
        """Freeze a VM; return the snapshot's id.  Repeatable only with a `snapshot_id` of `new_identifier`."""
        metadata = {"kind": "vm_snapshot"}
        if snapshot_id is not None:
            metadata["uuid"] = snapshot_id
        body = {
            "api_version": "3.1",
            "metadata": metadata,
            "spec": {
                "name": name,
                "snapshot_type": "APPLICATION_CONSISTENT" if with_application else "CRASH_CONSISTENT",
                "expiration_time_msecs": int(expires_at.timestamp() * 1000),
                "resources": {"entity_uuid": vm_id},
            },
        }
        request = Request("POST", f"{V3}/vm_snapshots", body=body, is_repeatable=snapshot_id is not None)
        answer = await self.session.ask(request)
        made = answer.decode(schema.Snapshot).metadata.uuid
        check_same_id(made, snapshot_id or made, field="uuid", request=answer.request)
        return made

    async def get_snapshot(self, snapshot_id: str) -> Answer:
        """One snapshot (Snapshot)."""
        return await self._get("vm_snapshots", snapshot_id)

    async def extend_snapshot(self, point: RecoveryPoint, expires_at: datetime) -> None:
        """Begin to let a snapshot expire then; all else of it is given as it is."""
        body = {
            "api_version": "3.1",
            "metadata": {"kind": "vm_snapshot", "uuid": point.id},
            "spec": {
                "name": point.name,
                "snapshot_type": "APPLICATION_CONSISTENT" if point.consistency == "application" else "CRASH_CONSISTENT",
                "expiration_time_msecs": int(expires_at.timestamp() * 1000),
                "resources": {"entity_uuid": point.vm_id},
            },
        }
        await self.session.ask(Request("PUT", f"{V3}/vm_snapshots/{id_in_path(point.id)}", body=body))

    async def delete_snapshot(self, snapshot_id: str) -> None:
        """Begin to delete a snapshot."""
        await self.session.ask(Request("DELETE", f"{V3}/vm_snapshots/{id_in_path(snapshot_id)}"))

    async def changed_regions(
        self, path: str | None, reference: str | None, start: int, end: int | None = None
    ) -> Answer:
        """One page of changed regions.  Offsets are numbers, a missing reference is left out: anything else is 422."""
        body: dict[str, Any] = {} if path is None else {"snapshot_file_path": path, "start_offset": start}
        if reference is not None:
            body["reference_snapshot_file_path"] = reference
        if end is not None:
            body["end_offset"] = end
        return await self.session.ask(Request("POST", f"{V3}/data/changed_regions", body=body))

    async def get_cluster_v2(self) -> schema_v2.V2Cluster:
        """The cluster."""
        return (await self.session.ask(Request("GET", f"{V2}/cluster"))).decode(schema_v2.V2Cluster)

    async def list_storage_containers_v2(self, page: int, count: int) -> Answer:
        """A page of the storage containers (V2List): the one call that tells who may mount them."""
        return await self._list_v2("storage_containers", page, count)

    async def list_virtual_disks_v2(self, page: int, count: int) -> Answer:
        """A page of the files of disks (V2List), with what they take."""
        return await self._list_v2("virtual_disks", page, count)

    async def get_vm_v2(self, vm_id: str) -> schema_v2.V2Vm:
        """One VM with its storage files."""
        path = f"{V2}/vms/{id_in_path(vm_id)}"
        answer = await self.session.ask(Request("GET", path, query={"include_vm_disk_config": "true"}))
        found = answer.decode(schema_v2.V2Vm)
        check_same_id(found.uuid, vm_id, field="uuid", request=answer.request)
        return found

    async def attach_disk_v2(self, vm_id: str, path: str) -> str:
        """Hot-add a clone of a storage file; return the task's id.  Twice would be two disks: not repeatable."""
        clone = {"disk_address": {"device_bus": "SCSI", "ndfs_filepath": path}}
        body = {"uuid": vm_id, "vm_disks": [{"vm_disk_clone": clone}]}
        return await self._change_disks(vm_id, "attach", body, is_repeatable=False)

    async def detach_disk_v2(self, vm_id: str, vmdisk_id: str) -> str:
        """Remove a disk by its vmdisk uuid; return the task's id."""
        body = {"uuid": vm_id, "vm_disks": [{"disk_address": {"vmdisk_uuid": vmdisk_id}}]}
        return await self._change_disks(vm_id, "detach", body, is_repeatable=True)

    async def set_power_state_v2(self, vm_id: str, transition: str) -> str:
        """Change whether a VM runs (`ON`, `ACPI_SHUTDOWN`); return the task's id.  Twice is once."""
        path = f"{V2}/vms/{id_in_path(vm_id)}/set_power_state"
        answer = await self.session.ask(Request("POST", path, body={"uuid": vm_id, "transition": transition}))
        return answer.decode(schema_v2.V2TaskAccepted).task_uuid

    async def list_volume_groups_v2(self, page: int, count: int) -> Answer:
        """A page of the volume groups (V2List), with their disks and attachments."""
        return await self._list_v2("volume_groups", page, count)

    async def get_volume_group_v2(self, group_id: str) -> schema_v2.V2Group:
        """One volume group."""
        answer = await self.session.ask(Request("GET", self._group_path(group_id)))
        found = answer.decode(schema_v2.V2Group)
        check_same_id(found.uuid, group_id, field="uuid", request=answer.request)
        return found

    async def create_volume_group_v2(self, name: str, path: str, secret: Secret) -> str:
        """Make a volume group with a clone of a storage file, its first disk; return the task's id.

        Twice would be two: not repeatable.
        """
        body = {
            "name": name,
            "description": "made to read a snapshot by ntx; may be deleted",
            "usage_type": "TEMPORARY",
            "is_hidden": True,
            "is_shared": False,
            "iscsi_target_prefix": "ntx",
            "enabled_authentications": _chap(secret),
            "disk_list": [{"clone_config": {"disk_address": {"ndfs_filepath": path}}}],
        }
        request = Request("POST", f"{V2}/volume_groups", body=body, is_repeatable=False)
        return (await self.session.ask(request)).decode(schema_v2.V2TaskAccepted).task_uuid

    async def open_volume_group_v2(self, group_id: str, initiator: str, secret: Secret) -> bool:
        """Let an initiator log in, which proves itself by `secret`; return whether that was done."""
        client = {"client_address": initiator, "enabled_authentications": _chap(secret)}
        return await self._act_on_group(group_id, "open", {"iscsi_client": client, "operation": "ATTACH"})

    async def close_volume_group_v2(self, group_id: str, initiator: str) -> bool:
        """Let an initiator, by its name or address, in no longer; return whether that was done."""
        client = {"client_address": initiator}
        return await self._act_on_group(group_id, "close", {"iscsi_client": client, "operation": "DETACH"})

    async def delete_volume_group_v2(self, group_id: str) -> str:
        """Delete a volume group; return the task's id."""
        answer = await self.session.ask(Request("DELETE", self._group_path(group_id)))
        return answer.decode(schema_v2.V2TaskAccepted).task_uuid

    async def get_task_v2(self, task_id: str) -> schema_v2.V2Task:
        """One task."""
        answer = await self.session.ask(Request("GET", f"{V2}/tasks/{id_in_path(task_id)}"))
        found = answer.decode(schema_v2.V2Task)
        check_same_id(found.uuid, task_id, field="uuid", request=answer.request)
        return found

    async def _list_v2(self, kinds: str, page: int, count: int) -> Answer:
        """One page, counted from 1, or all at once for page 0."""
        query = {"count": str(count), "page": str(page)} if page else {}
        return await self.session.ask(Request("GET", f"{V2}/{kinds}", query=query))

    async def _get(self, kinds: str, asked_id: str) -> Answer:
        """Return the answer about one thing of v3, which must not be another one."""
        answer = await self.session.ask(Request("GET", f"{V3}/{kinds}/{id_in_path(asked_id)}"))
        check_same_id(answer.decode(schema.IdAnswer).metadata.uuid, asked_id, field="uuid", request=answer.request)
        return answer

    async def _act_on_group(self, group_id: str, verb: str, body: dict[str, Any]) -> bool:
        request = Request("POST", f"{self._group_path(group_id)}/{verb}", body={"uuid": group_id, **body})
        return (await self.session.ask(request)).decode(schema_v2.V2Value).value is True

    def _group_path(self, group_id: str) -> str:
        return f"{V2}/volume_groups/{id_in_path(group_id)}"

    async def _change_disks(self, vm_id: str, verb: str, body: dict[str, Any], *, is_repeatable: bool) -> str:
        path = f"{V2}/vms/{id_in_path(vm_id)}/disks/{verb}"
        answer = await self.session.ask(Request("POST", path, body=body, is_repeatable=is_repeatable))
        return answer.decode(schema_v2.V2TaskAccepted).task_uuid


def _chap(secret: Secret) -> list[dict[str, Any]]:
    return [{"auth_type": "CHAP", "password": secret}]

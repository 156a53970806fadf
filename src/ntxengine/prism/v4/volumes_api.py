"""The v4 calls of the name space of volume groups, one method each, without policy."""

from __future__ import annotations

from typing import Any

from ntxengine.prism.http.parse import id_in_path
from ntxengine.prism.http.secret import Secret
from ntxengine.prism.http.session import Answer, Session
from ntxengine.prism.v4.calls import Calls, request
from ntxengine.prism.v4.schema_volumes import VolumeGroupAnswer, VolumeGroupState

TARGET_PREFIX = "ntx"
"""What the names of our targets begin with."""


class VolumesApi(Calls):
    """Volume groups of a Prism Central.  `project` is the extId of the project that they are made in, if any."""

    def __init__(self, session: Session, revision: str, project: str | None = None) -> None:
        super().__init__(session)
        self._project = project
        self._groups = f"/api/volumes/{revision}/config/volume-groups"

    async def list_volume_groups(self, page: int, limit: int, *, filter_text: str = "", order_by: str = "") -> Answer:
        """One page of volume groups (EntityList)."""
        return await self._list(self._groups, page, limit, filter_text, order_by)

    async def get_volume_group(self, group_id: str) -> tuple[VolumeGroupState, str | None]:
        """One volume group, and its ETag if one is told; its disks may be missing."""
        answer = await self._get(self._path(group_id), group_id)
        return answer.decode(VolumeGroupAnswer).data, answer.etag or None

    async def create_volume_group(self, name: str, cluster_id: str, disk_point_id: str, secret: Secret) -> str:
        """Make a volume group with a clone of a disk recovery point, its first disk; return the task's id."""
        source = {
            "$objectType": "common.v1.config.EntityReference",
            "extId": disk_point_id,
            "entityType": "DISK_RECOVERY_POINT",
        }
        body: dict[str, Any] = {
            "name": name,
            "description": "made to read a recovery point by ntx; may be deleted",
            "clusterReference": cluster_id,
            "usageType": "TEMPORARY",
            "sharingStatus": "NOT_SHARED",
            "isHidden": True,
            "targetPrefix": TARGET_PREFIX,
            "iscsiFeatures": {"enabledAuthentications": "CHAP", "targetSecret": secret},
            "disks": [{"diskDataSourceReference": source}],
        }
        if self._project is not None:
            body["projectExtId"] = self._project
        return await self._start(request("POST", self._groups, body=body))

    async def list_volume_disks(
        self, group_id: str, page: int, limit: int, *, filter_text: str = "", order_by: str = ""
    ) -> Answer:
        """One page of the disks of a volume group (EntityList)."""
        return await self._list(f"{self._path(group_id)}/disks", page, limit, filter_text, order_by)

    async def list_iscsi_attachments(
        self, group_id: str, page: int, limit: int, *, filter_text: str = "", order_by: str = ""
    ) -> Answer:
        """One page of the iSCSI clients that are attached to a volume group (EntityList)."""
        path = f"{self._path(group_id)}/external-iscsi-attachments"
        return await self._list(path, page, limit, filter_text, order_by)

    async def attach_iscsi_client(self, group_id: str, initiator: str, secret: Secret, etag: str | None) -> str:
        """Let an initiator log in, which proves itself by `secret`; return the task's id."""
        body = {"iscsiInitiatorName": initiator, "enabledAuthentications": "CHAP", "clientSecret": secret}
        return await self._act(group_id, "attach-iscsi-client", body, etag)

    async def detach_iscsi_client(self, group_id: str, client_id: str, etag: str | None) -> str:
        """Let an iSCSI client in no longer; return the task's id."""
        return await self._act(group_id, "detach-iscsi-client", {"extId": client_id}, etag)

    async def delete_volume_group(self, group_id: str, etag: str | None) -> str:
        """Delete a volume group; return the task's id."""
        return await self._start(request("DELETE", self._path(group_id), headers=_if_match(etag)))

    async def _act(self, group_id: str, action: str, body: dict[str, Any], etag: str | None) -> str:
        path = f"{self._path(group_id)}/$actions/{action}"
        return await self._start(request("POST", path, body=body, headers=_if_match(etag)))

    def _path(self, group_id: str) -> str:
        return f"{self._groups}/{id_in_path(group_id)}"


def _if_match(etag: str | None) -> dict[str, str]:
    return {} if etag is None else {"If-Match": etag}

"""The v4 calls, one method each, without policy: paths, bodies, headers, and what the answer is decoded into.

Everything but the content call is asked of Prism Central.  Every call carries an NTNX-Request-Id, the same one when the
session repeats it, so that repeating does no harm (nutanix-api, 2.2).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from ntxengine.errors import PrismAnswerError
from ntxengine.prism.findings import Revisions
from ntxengine.prism.http.endpoint import Secret
from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.http.parse import TASK_ID_PATTERN, id_in_path
from ntxengine.prism.http.session import Answer, Session
from ntxengine.prism.models import DiskPoint, VssBackup
from ntxengine.prism.v4 import schema, schema_discovery, schema_points
from ntxengine.prism.v4.calls import Calls, request
from ntxengine.prism.v4.clusters import ClusterAnswer, ClusterState
from ntxengine.units import format_time

PAGE_LIMIT = 100
"""$limit: the most that v4 takes."""

BLOCK_SIZE_BYTE = 32768
"""The smallest granularity of changed regions that can be asked for, and Prism's default."""

_REVISION = re.compile(r"v4\.\d{1,3}(?:\.[ab]\d{1,3})?")
_CONTENT = "dataprotection.v4.content"
_CLUSTERS = "/api/clustermgmt/v4.0/config/clusters"
"""v4.0 of it has all that is read here, so nothing is negotiated."""
_SUBNETS = "/api/networking/v4.0/config/subnets"
_CONTAINERS = "/api/clustermgmt/v4.0/config/storage-containers"
_VSS_BACKUPS: dict[VssBackup, str] = {"copy": "COPY_BACKUP", "full": "FULL_BACKUP"}


def is_revision(text: str) -> bool:
    """Return whether this may stand in a path as a revision."""
    return _REVISION.fullmatch(text) is not None


async def server_revision(session: Session, name_space: str) -> str:
    """Return the highest revision of a name space, as the server writes it."""
    answer = await session.ask(request("OPTIONS", f"/api/{name_space}/unversioned/info"))
    return answer.decode(schema.VersionInfo).data


class CentralApi(Calls):
    """Prism Central.  `project` is the extId of the project that recovery points are made in, if one is given."""

    def __init__(self, session: Session, revisions: Revisions, project: str | None = None) -> None:
        super().__init__(session)
        self.revisions = revisions
        self._project = project
        self._vms = f"/api/vmm/{revisions.vmm}/ahv/config/vms"
        self._points = f"/api/dataprotection/{revisions.dataprotection}/config/recovery-points"
        self._tasks = f"/api/prism/{revisions.prism}/config/tasks"
        self._categories = f"/api/prism/{revisions.prism}/config/categories"

    async def list_vms(self, page: int, limit: int, *, filter_text: str = "", order_by: str = "") -> Answer:
        """One page of VMs (EntityList)."""
        return await self._list(self._vms, page, limit, filter_text, order_by)

    async def get_vm(self, vm_id: str) -> Answer:
        """One VM (Entity), with its ETag."""
        return await self._get(f"{self._vms}/{id_in_path(vm_id)}", vm_id)

    async def get_cluster(self, cluster_id: str) -> ClusterState:
        """One cluster.  v4.0 of it has all that is read here, so nothing is negotiated."""
        answer = await self._get(f"{_CLUSTERS}/{id_in_path(cluster_id)}", cluster_id)
        return answer.decode(ClusterAnswer).data

    async def list_hosts(
        self, cluster_id: str, page: int, limit: int, *, filter_text: str = "", order_by: str = ""
    ) -> Answer:
        """One page of the hosts of a cluster (EntityList).  Backup Admin may not list those of all clusters."""
        return await self._list(f"{_CLUSTERS}/{id_in_path(cluster_id)}/hosts", page, limit, filter_text, order_by)

    async def list_storage_containers(
        self, page: int, limit: int, *, filter_text: str = "", order_by: str = ""
    ) -> Answer:
        """One page of the storage containers of all clusters (EntityList)."""
        return await self._list(_CONTAINERS, page, limit, filter_text, order_by)

    async def get_subnet(self, subnet_id: str) -> Answer:
        """One network (Entity).  v4.0 of it has all that is read here, so nothing is negotiated."""
        return await self._get(f"{_SUBNETS}/{id_in_path(subnet_id)}", subnet_id)

    async def list_categories(self, page: int, limit: int, *, filter_text: str = "", order_by: str = "") -> Answer:
        """One page of the categories (EntityList)."""
        return await self._list(self._categories, page, limit, filter_text, order_by)

    async def list_vm_disks(self, vm_id: str, page: int, limit: int) -> Answer:
        """One page of the disks of a VM (EntityList).  This list has neither filter nor order."""
        return await self._list(f"{self._vms}/{id_in_path(vm_id)}/disks", page, limit)

    async def get_vm_disk(self, vm_id: str, disk_id: str) -> Answer:
        """One disk of a VM (Entity), with its ETag."""
        return await self._get(self._disk_path(vm_id, disk_id), disk_id)

    async def create_vm_disk(self, vm_id: str, source: DiskPoint) -> str:
        """Hot-add a clone of a disk recovery point (vmm 4.1 or later); return the task's id."""
        body = {
            "diskAddress": {"$objectType": "vmm.v4.ahv.config.DiskAddress", "busType": "SCSI"},
            "backingInfo": {
                "$objectType": "vmm.v4.ahv.config.VmDisk",
                "dataSource": {
                    "$objectType": "vmm.v4.ahv.config.DataSource",
                    "reference": _clone_source(source),
                },
            },
        }
        return await self._start(request("POST", f"{self._vms}/{id_in_path(vm_id)}/disks", body=body))

    async def delete_vm_disk(self, vm_id: str, disk_id: str, etag: str | None) -> str:
        """Remove a disk from a VM; return the task's id."""
        headers = {} if etag is None else {"If-Match": etag}
        return await self._start(request("DELETE", self._disk_path(vm_id, disk_id), headers=headers))

    async def shut_down_vm(self, vm_id: str, etag: str | None) -> str:
        """Press the power button of a VM, by ACPI; return the task's id."""
        return await self._act_on_vm(vm_id, "shutdown", etag)

    async def power_on_vm(self, vm_id: str, etag: str | None) -> str:
        """Let a VM run; return the task's id."""
        return await self._act_on_vm(vm_id, "power-on", etag)

    async def create_recovery_point(
        self,
        vss: Mapping[str, VssBackup | None],
        group_ids: Collection[str],
        name: str,
        *,
        expires_at: datetime,
        with_application: bool,
    ) -> str:
        """Freeze VMs and volume groups; return the task's id.

        `vss` is what each VM tells VSS, if it is Windows and application consistency is wanted.
        """
        body: dict[str, Any] = {
            "name": name,
            "expirationTime": format_time(expires_at),
            "recoveryPointType": "APPLICATION_CONSISTENT" if with_application else "CRASH_CONSISTENT",
            "vmRecoveryPoints": [
                _vm_to_freeze(vm_id, backup if with_application else None) for vm_id, backup in vss.items()
            ],
        }
        if group_ids:
            body["volumeGroupRecoveryPoints"] = [{"volumeGroupExtId": group_id} for group_id in group_ids]
        if self._project is not None:
            body["projectExtId"] = self._project
        return await self._start(request("POST", self._points, body=body))

    async def get_recovery_point(self, point_id: str) -> schema_points.RecoveryPointState:
        """One recovery point; its disks may be missing."""
        answer = await self._get(f"{self._points}/{id_in_path(point_id)}", point_id)
        return answer.decode(schema_points.RecoveryPointAnswer).data

    async def get_vm_recovery_point(self, point_id: str, vm_point_id: str) -> schema_points.VmRecoveryPoint:
        """One VM of a recovery point, with its disks."""
        path = f"{self._points}/{id_in_path(point_id)}/vm-recovery-points/{id_in_path(vm_point_id)}"
        return (await self._get(path, vm_point_id)).decode(schema_points.VmRecoveryPointAnswer).data

    async def list_recovery_points(self, page: int, limit: int, *, filter_text: str = "", order_by: str = "") -> Answer:
        """One page of recovery points (EntityList)."""
        return await self._list(self._points, page, limit, filter_text, order_by)

    async def set_expiration_time(self, point_id: str, expires_at: datetime) -> str:
        """Let a recovery point expire then; return the task's id."""
        path = f"{self._points}/{id_in_path(point_id)}/$actions/set-expiration-time"
        return await self._start(request("POST", path, body={"expirationTime": format_time(expires_at)}))

    async def delete_recovery_point(self, point_id: str, *, request_id: str) -> str:
        """Delete a recovery point; return the task's id."""
        path = f"{self._points}/{id_in_path(point_id)}"
        return await self._start(request("DELETE", path, request_id=request_id))

    async def discover_cluster(self, disk: DiskPoint, reference: DiskPoint | None) -> schema_discovery.ClusterInfo:
        """Find the Prism Element that computes changed regions of `disk`, and get a token for it."""
        spec: dict[str, Any] = {
            "$objectType": f"{_CONTENT}.ComputeChangedRegionsClusterDiscoverSpec",
            "diskRecoveryPoint": _disk_reference(disk),
        }
        if reference is not None:
            spec["referenceDiskRecoveryPoint"] = _disk_reference(reference)
        body = {"$objectType": f"{_CONTENT}.ClusterDiscoverSpec", "operation": "COMPUTE_CHANGED_REGIONS", "spec": spec}
        path = f"{self._points}/{id_in_path(disk.recovery_point_id)}/$actions/discover-cluster"
        return (
            (await self.session.ask(request("POST", path, body=body))).decode(schema_discovery.ClusterInfoAnswer).data
        )

    async def get_task(self, task_id: str) -> schema.TaskState:
        """One task."""
        answer = await self._get(self._task_path(task_id), task_id)
        return answer.decode(schema.TaskAnswer).data

    async def cancel_task(self, task_id: str) -> None:
        """Ask for the end of a task that `isCancelable`; it is CANCELING from then on, if it is not done by then."""
        await self.session.ask(request("POST", f"{self._task_path(task_id)}/$actions/cancel"))

    async def _act_on_vm(self, vm_id: str, action: str, etag: str | None) -> str:
        headers = {} if etag is None else {"If-Match": etag}
        path = f"{self._vms}/{id_in_path(vm_id)}/$actions/{action}"
        return await self._start(request("POST", path, headers=headers))

    def _task_path(self, task_id: str) -> str:
        """Its id is no UUID (`ZXJnb24=:uuid`), so it is quoted."""
        if not TASK_ID_PATTERN.fullmatch(task_id):
            raise PrismAnswerError(f"Prism named a task {one_line(task_id)!r}, which is no task id: not asked about")
        return f"{self._tasks}/{quote(task_id, safe='')}"

    def _disk_path(self, vm_id: str, disk_id: str) -> str:
        return f"{self._vms}/{id_in_path(vm_id)}/disks/{id_in_path(disk_id)}"


async def compute_changed_regions(
    session: Session,
    revision: str,
    token: Secret,
    disk: DiskPoint,
    reference: DiskPoint | None,
    offset: int,
    length: int | None = None,
) -> Answer:
    """Ask a Prism Element for one page of changed regions, with the token of cluster discovery and nothing else."""
    word, part_id = _part(disk)
    body: dict[str, Any] = {
        "$objectType": f"{_CONTENT}.{word}RecoveryPointChangedRegionsComputeSpec",
        "offset": offset,
        "blockSizeByte": BLOCK_SIZE_BYTE,
    }
    if length is not None:
        body["length"] = length
    if reference is not None:
        body["referenceRecoveryPointExtId"] = reference.recovery_point_id
        body[f"reference{word}RecoveryPointExtId"] = _part(reference)[1]
        body["referenceDiskRecoveryPointExtId"] = reference.id
    kind = "volume-group-recovery-points" if disk.group_point_id else "vm-recovery-points"
    path = (
        f"/api/dataprotection/{revision}/content/recovery-points/{id_in_path(disk.recovery_point_id)}"
        f"/{kind}/{id_in_path(part_id)}/disk-recovery-points/{id_in_path(disk.id)}/$actions/compute-changed-regions"
    )
    return await session.ask(request("POST", path, body=body, token=token))


def _part(disk: DiskPoint) -> tuple[str, str]:
    """Return how v4 calls the part of a recovery point that a disk is in, and the id of that part."""
    return ("VolumeGroup", disk.group_point_id) if disk.group_point_id else ("Vm", disk.vm_point_id)


def _disk_reference(disk: DiskPoint) -> dict[str, str]:
    word, part_id = _part(disk)
    return {
        "$objectType": f"{_CONTENT}.{word}DiskRecoveryPointReference",
        "recoveryPointExtId": disk.recovery_point_id,
        f"{word[0].lower()}{word[1:]}RecoveryPointExtId": part_id,
        "diskRecoveryPointExtId": disk.id,
    }


def _clone_source(disk: DiskPoint) -> dict[str, str]:
    """Return what a hot-added disk is to be a clone of."""
    if disk.group_point_id:
        part = {
            "$objectType": schema.RECOVERY_POINT_VOLUME_DISK,
            "volumeGroupRecoveryPointExtId": disk.group_point_id,
        }
    else:
        part = {"$objectType": schema.RECOVERY_POINT_DISK, "vmRecoveryPointExtId": disk.vm_point_id}
    return {**part, "diskRecoveryPointExtId": disk.id}


def _vm_to_freeze(vm_id: str, vss: VssBackup | None) -> dict[str, Any]:
    vm: dict[str, Any] = {"vmExtId": vm_id}
    if vss is not None:
        # `writers` is left out: whether an empty list would take back the writers that are left out as it comes, no
        # document says.
        vm["applicationConsistentProperties"] = {
            "$objectType": "dataprotection.v4.common.VssProperties",
            "backupType": _VSS_BACKUPS[vss],
            "shouldStoreVssMetadata": False,
        }
    return vm

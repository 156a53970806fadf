"""Drives a Prism with Nutanix's own SDK and prints what it got as one JSON object.

Runs in a virtual environment of its own (requirements.txt): the SDK pins old versions of what it needs.
Standard input: one JSON object with host, element, port, ca_file, username, password.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import uuid
from typing import Any

import ntnx_clustermgmt_py_client as clustermgmt
import ntnx_dataprotection_py_client as dataprotection
import ntnx_prism_py_client as prism
import ntnx_vmm_py_client as vmm
import ntnx_volumes_py_client as volumes
from ntnx_dataprotection_py_client.models.dataprotection.v4.config.ExpirationTimeSpec import ExpirationTimeSpec
from ntnx_dataprotection_py_client.rest import ApiException
from sdk_judge import unknown


def client(package: Any, spec: dict[str, Any], host: str = "", *, with_password: bool = True) -> Any:
    """Return an API client of one SDK package."""
    configuration = package.Configuration()
    configuration.host = host or spec["host"]
    configuration.port = spec["port"]
    configuration.root_ca_certificate_file = spec["ca_file"]
    if with_password:
        configuration.username, configuration.password = spec["username"], spec["password"]
    return package.ApiClient(configuration=configuration, allow_version_negotiation=with_password)


def wait(tasks: Any, answer: Any) -> Any:
    """Wait for the task that an answer refers to."""
    for _ in range(500):
        task = tasks.get_task_by_id(answer.data.ext_id).data
        if task.status in ("SUCCEEDED", "FAILED"):
            return task
        time.sleep(0.02)
    raise SystemExit("the task does not end")


def create(points: Any, tasks: Any, vm: str, name: str) -> Any:
    """Create a recovery point of one VM and return it."""
    body = dataprotection.RecoveryPoint(
        name=name,
        recovery_point_type=dataprotection.RecoveryPointType.CRASH_CONSISTENT,
        vm_recovery_points=[dataprotection.VmRecoveryPoint(vm_ext_id=vm)],
    )
    task = wait(tasks, points.create_recovery_point(body))
    [detail] = [one.value for one in task.completion_details if one.name == "recoveryPointExtId"]
    return points.get_recovery_point_by_id(detail).data


def name_of(point: Any, number: int) -> dict[str, str]:
    """Return the three ids of a disk recovery point."""
    vm_point = point.vm_recovery_points[0]
    return {
        "recovery_point_ext_id": point.ext_id,
        "vm_recovery_point_ext_id": vm_point.ext_id,
        "disk_recovery_point_ext_id": vm_point.disk_recovery_points[number].disk_recovery_point_ext_id,
    }


def regions(points: Any, spec: dict[str, Any], new: dict[str, str], old: dict[str, str] | None) -> Any:
    """Discover the cluster and compute the changed regions there, with the token as a cookie."""
    reference = dataprotection.VmDiskRecoveryPointReference
    inner = dataprotection.ComputeChangedRegionsClusterDiscoverSpec(disk_recovery_point=reference(**new))
    if old is not None:
        inner.reference_disk_recovery_point = reference(**old)
    discover = dataprotection.ClusterDiscoverSpec(operation="COMPUTE_CHANGED_REGIONS", spec=inner)
    found = points.discover_cluster_for_recovery_point_id(new["recovery_point_ext_id"], discover).data
    element = client(dataprotection, spec, found.cluster_ip.ipv4.value, with_password=False)
    element.add_default_header("Cookie", f"NTNX_IGW_SESSION={found.jwt_token}")
    body = dataprotection.VmRecoveryPointChangedRegionsComputeSpec(block_size_byte=32768)
    if old is not None:
        body.reference_recovery_point_ext_id = old["recovery_point_ext_id"]
        body.reference_vm_recovery_point_ext_id = old["vm_recovery_point_ext_id"]
        body.reference_disk_recovery_point_ext_id = old["disk_recovery_point_ext_id"]
    answer = dataprotection.RecoveryPointsApi(element).vm_recovery_point_compute_changed_regions(
        new["recovery_point_ext_id"], new["vm_recovery_point_ext_id"], new["disk_recovery_point_ext_id"], body
    )
    return {
        "element": found.cluster_ip.ipv4.value,
        "unknown_fields": unknown([found, answer], "answer"),
        "regions": [[one.offset, one.length, one.region_type] for one in answer.data],
        "extra": {pair.name: pair.value for pair in answer.metadata.extra_info},
    }


def hot_add(vms: Any, tasks: Any, worker: str, disk: dict[str, str]) -> Any:
    """Attach a clone of a disk recovery point to the worker, then remove it."""
    from ntnx_vmm_py_client.models.vmm.v4.ahv.config.DataSource import DataSource
    from ntnx_vmm_py_client.models.vmm.v4.ahv.config.VmDisk import VmDisk
    from ntnx_vmm_py_client.models.vmm.v4.ahv.config.VmDiskRecoveryPointReference import VmDiskRecoveryPointReference

    reference = VmDiskRecoveryPointReference(
        vm_recovery_point_ext_id=disk["vm_recovery_point_ext_id"],
        disk_recovery_point_ext_id=disk["disk_recovery_point_ext_id"],
    )
    body = vmm.AhvConfigDisk(backing_info=VmDisk(data_source=DataSource(reference=reference)))
    attached = wait(tasks, vms.create_disk(worker, body))
    [found] = vms.list_disks_by_vm_id(worker).data
    single = vms.get_disk_by_id(worker, found.ext_id)
    etag = vms.api_client.get_etag(single)
    removed = wait(tasks, vms.delete_disk_by_id(worker, found.ext_id, if_match=etag))
    return {
        "attached": attached.status,
        "source": found.backing_info.data_source.reference.disk_recovery_point_ext_id,
        "removed": removed.status,
        "left": len(vms.list_disks_by_vm_id(worker).data or []),
    }


def volume_group(groups: Any, vm: Any) -> bool:
    """Say if the volume group of a VM is found in the list and by its id."""
    [wanted] = [
        one.backing_info.volume_group_ext_id for one in vm.disks if hasattr(one.backing_info, "volume_group_ext_id")
    ]
    listed = [one.ext_id for one in groups.list_volume_groups().data]
    return listed == [wanted] == [groups.get_volume_group_by_id(wanted).data.ext_id]


def vm_points(spec: dict[str, Any], vm: str) -> dict[str, Any]:
    """List the recovery points of one VM by the name space of VMs, and look one up."""
    points = vmm.VmRecoveryPointsApi(client(vmm, spec))
    listed = points.list_vm_recovery_points(_filter=f"vmExtId eq '{vm}'")
    found = points.get_vm_recovery_point_by_ext_id(listed.data[0].ext_id)
    return {
        "names": sorted(one.name for one in listed.data),
        "vm": found.data.vm.ext_id == vm,
        "unknown_fields": unknown([listed, found], "answer"),
    }


def read_group(groups: Any, tasks: Any, cluster: str, disk_point: str) -> dict[str, Any]:
    """Make a volume group of a disk recovery point, let an initiator in and out, and delete it."""
    from ntnx_volumes_py_client.models.common.v1.config.EntityReference import EntityReference

    body = volumes.VolumeGroup(
        name="sdk's",
        cluster_reference=cluster,
        usage_type="TEMPORARY",
        sharing_status="NOT_SHARED",
        is_hidden=True,
        target_prefix="sdk",
        iscsi_features=volumes.IscsiFeatures(enabled_authentications="CHAP", target_secret="secret4target1"),
        disks=[
            volumes.VolumeDisk(
                disk_data_source_reference=EntityReference(ext_id=disk_point, entity_type="DISK_RECOVERY_POINT")
            )
        ],
    )
    made = wait(tasks, groups.create_volume_group(body))
    [group] = [one.ext_id for one in made.entities_affected if one.rel == "volumes:config:volume-group"]
    found = groups.get_volume_group_by_id(group)
    disks = groups.list_volume_disks_by_volume_group_id(group)
    client = volumes.IscsiClient(
        iscsi_initiator_name="iqn.2026-01.test:sdk", enabled_authentications="CHAP", client_secret="secret4client1"
    )
    admitted = wait(tasks, groups.attach_iscsi_client(group, client, if_match=_etag(groups, group)))
    attached = groups.list_external_iscsi_attachments_by_volume_group_id(group)
    one = volumes.IscsiClientAttachment(ext_id=attached.data[0].ext_id)
    expelled = wait(tasks, groups.detach_iscsi_client(group, one, if_match=_etag(groups, group)))
    return {
        "listed": [one.name for one in groups.list_volume_groups(_filter="startswith(name,'sdk')").data],
        "target": found.data.target_name == f"sdk-{group}",
        "secret": found.data.iscsi_features.target_secret,
        "disks": [[disk.index, disk.disk_size_bytes] for disk in disks.data],
        "statuses": [made.status, admitted.status, expelled.status],
        "clients": len(attached.data),
        "deleted": wait(tasks, groups.delete_volume_group_by_id(group, if_match=_etag(groups, group))).status,
        "unknown_fields": unknown([found, disks, attached], "answer"),
    }


def _etag(groups: Any, group: str) -> str:
    return str(groups.api_client.get_etag(groups.get_volume_group_by_id(group)))


def described(vms: Any, clusters: Any, containers: Any, categories: Any, vm: Any) -> dict[str, Any]:
    """Return what several clusters, their hosts and containers, categories and filters are."""
    known = {one.ext_id: f"{one.key}={one.value}" for one in categories.list_categories().data}
    filters = [
        "name eq 'far'",
        "startswith(name, 'fa')",
        f"cluster/extId eq '{vm.cluster.ext_id}'",
        "powerState eq Vmm.Ahv.Config.PowerState'OFF'",
        f"categories/any(c: c/extId eq '{next(iter(vm.categories)).ext_id}')",
    ]
    return {
        "filtered": [[one.name for one in vms.list_vms(_filter=text).data or []] for text in filters],
        "categories": [known[one.ext_id] for one in vm.categories],
        "category": categories.get_category_by_id(next(iter(known))).data.key,
        "containers": {
            f"{one.cluster_name}/{one.name}": [
                one.is_compression_enabled,
                one.on_disk_dedup,
                one.erasure_code,
                one.is_encrypted,
                one.is_nfs_whitelist_inherited,
                [client.ipv4.value for client in one.nfs_whitelist_address or []],
            ]
            for one in containers.list_storage_containers().data
        },
        "tiers": {
            one.name: [
                [disk.storage_tier for disk in host.disk or []]
                for host in clusters.list_hosts_by_cluster_id(one.ext_id).data
            ]
            for one in clusters.list_clusters().data
            if one.nodes.number_of_nodes
        },
        "hardware": {
            "firmware": type(vm.boot_config).__name__,
            "boot": vm.boot_config.boot_device.disk_address.index,
            "tpm": vm.vtpm_config.is_vtpm_enabled,
            "nics": [[nic.backing_info.mac_address, nic.backing_info.model] for nic in vm.nics],
            "backings": [type(nic.nic_backing_info).__name__ for nic in vm.nics],
            "gpus": [gpu.name for gpu in vm.gpus],
        },
        "clients": [list(one.network.nfs_subnet_whitelist or []) for one in clusters.list_clusters().data],
        "unknown_fields": unknown([categories.list_categories(), clusters.list_hosts()], "answer"),
    }


def main() -> None:
    """Make the calls and print the result."""
    logging.disable(logging.CRITICAL)
    spec = json.load(sys.stdin)
    vms = vmm.VmApi(client(vmm, spec))
    points = dataprotection.RecoveryPointsApi(client(dataprotection, spec))
    tasks = prism.TasksApi(client(prism, spec))
    clusters = clustermgmt.ClustersApi(client(clustermgmt, spec))
    containers = clustermgmt.StorageContainersApi(client(clustermgmt, spec))
    groups = volumes.VolumeGroupsApi(client(volumes, spec))

    listed = vms.list_vms(_filter=f"name eq '{spec['vm']}'", _page=0, _limit=10)
    [vm] = listed.data
    backing = [one.backing_info for one in vm.disks]
    worker = vms.list_vms(_filter=f"name eq '{spec['worker']}'").data[0].ext_id
    old = create(points, tasks, vm.ext_id, "old")
    with open(spec["disk"], "r+b") as disk:
        disk.seek(100_000)
        disk.write(b"changed by the guest")
    new = create(points, tasks, vm.ext_id, "new")
    vm_point = points.get_vm_recovery_point_by_id(new.ext_id, new.vm_recovery_points[0].ext_id).data
    expiry = ExpirationTimeSpec(expiration_time="2099-01-01T00:00:00Z")
    categories = prism.CategoriesApi(client(prism, spec))
    result = {
        "described": described(vms, clusters, containers, categories, vm),
        "total_vms": vms.list_vms(_limit=1).metadata.total_available_results,
        "vm": {"id": vm.ext_id, "name": vm.name, "power": vm.power_state, "cluster": vm.cluster.ext_id},
        "disks": [[one.disk_ext_id, one.disk_size_bytes] for one in backing if hasattr(one, "disk_ext_id")],
        "guest_tools": vms.get_guest_tools_by_id(vm.ext_id).data.is_reachable,
        "statuses": [old.status, new.status],
        "points": sorted(point.name for point in points.list_recovery_points().data),
        "vm_point": {"vm": vm_point.vm_ext_id, "disks": [one.disk_ext_id for one in vm_point.disk_recovery_points]},
        "full": regions(points, spec, name_of(old, 0), None),
        "diff": regions(points, spec, name_of(new, 0), name_of(old, 0)),
        "expiry": wait(tasks, points.set_recovery_point_expiration_time(new.ext_id, expiry)).status,
        "expires": str(points.get_recovery_point_by_id(new.ext_id).data.expiration_time),
        "hot_add": hot_add(vms, tasks, worker, name_of(new, 0)),
        "clusters": [one.name for one in clusters.list_clusters().data],
        "hosts": len(clusters.list_hosts_by_cluster_id(vm.cluster.ext_id).data),
        "cluster": clusters.get_cluster_by_id(vm.cluster.ext_id).data.name,
        "all_hosts": len(clusters.list_hosts().data),
        "containers": [one.name for one in containers.list_storage_containers().data],
        "container": containers.get_storage_container_by_id(
            vm.disks[0].backing_info.storage_container.ext_id
        ).data.name,
        "volume_group": volume_group(groups, vm),
        "vm_points": vm_points(spec, vm.ext_id),
        "read_group": read_group(groups, tasks, vm.cluster.ext_id, name_of(new, 0)["disk_recovery_point_ext_id"]),
        "disk_point": name_of(new, 0)["disk_recovery_point_ext_id"],
        "unknown_fields": unknown(
            [
                listed,
                vms.get_vm_by_id(vm.ext_id),
                vms.get_guest_tools_by_id(vm.ext_id),
                points.list_recovery_points(),
                points.get_vm_recovery_point_by_id(new.ext_id, new.vm_recovery_points[0].ext_id),
                tasks.list_tasks(),
                clusters.list_clusters(),
                clusters.list_hosts_by_cluster_id(vm.cluster.ext_id),
                clusters.get_cluster_by_id(vm.cluster.ext_id),
                containers.list_storage_containers(),
                groups.list_volume_groups(),
            ],
            "answer",
        ),
    }
    result["negotiated"] = [one.api_client.get_negotiated_version() for one in (vms, points, tasks, clusters, groups)]
    for point in (old, new):
        result["deleted"] = wait(tasks, points.delete_recovery_point_by_id(point.ext_id)).status
    try:
        points.get_recovery_point_by_id(str(uuid.uuid4()))
    except ApiException as exc:
        result["missing"] = exc.status
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()

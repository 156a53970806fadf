"""VMs and their disks in v4 and v2; hot-added clones of frozen bytes."""

from __future__ import annotations

import uuid
from pathlib import Path

import httpx
import pytest

from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.config import ContainerConfig, DiskConfig, VmConfig
from tests.sim.lab import V2, V3, DiskName, Json, Lab, disk_name, snapshot_path

VMS = "/api/vmm/v4.1/ahv/config/vms"
REFERENCE = "vmm.v4.ahv.config.VmDiskRecoveryPointReference"


def body(disk: DiskName, **address: object) -> Json:
    reference = {"$objectType": REFERENCE, "vmRecoveryPointExtId": disk[1], "diskRecoveryPointExtId": disk[2]}
    backing = {"$objectType": "vmm.v4.ahv.config.VmDisk", "dataSource": {"reference": reference}}
    return {"diskAddress": {"busType": "SCSI", **address}, "backingInfo": backing}


async def add(lab: Lab, disk: DiskName, **address: object) -> Json:
    """Hot-add and return the new disk of the worker."""
    task = await lab.task(await lab.central.post(f"{VMS}/{lab.sim.worker_id}/disks", json=body(disk, **address)))
    assert task["status"] == "SUCCEEDED", task
    disks: list[Json] = (await lab.central.get(f"{VMS}/{lab.sim.worker_id}/disks")).json()["data"]
    return disks[-1]


def device(lab: Lab, vmdisk: str) -> Path:
    """Find the device as a guest does: by the end of its name."""
    [found] = Path(lab.sim.env["NTX_DEVICE_DIR"]).glob(f"*_{vmdisk.replace('-', '_')}")
    return found


async def test_a_hot_added_disk_reads_the_frozen_bytes_and_never_changes_them(lab: Lab) -> None:
    lab.write(0, 5000, b"frozen")
    name = disk_name(await lab.point())
    lab.write(0, 5000, b"later!")

    disk = await add(lab, name)

    path = device(lab, disk["backingInfo"]["diskExtId"])
    assert path.name.startswith("scsi-SNUTANIX_NFS_")
    assert path.read_bytes()[5000:5006] == b"frozen"
    with path.open("r+b") as file:
        file.write(b"the guest mounted it")
    assert lab.sim.frozen_path(name[2]).read_bytes()[:4] == bytes(4)
    reference = disk["backingInfo"]["dataSource"]["reference"]
    assert (reference["vmRecoveryPointExtId"], reference["diskRecoveryPointExtId"]) == name[1:]


async def test_the_clone_outlives_its_recovery_point(lab: Lab) -> None:
    disk = await add(lab, await lab.disk())

    lab.sim.lose_recovery_points()

    assert len(device(lab, disk["extId"]).read_bytes()) == 1 << 20


async def test_a_disk_is_removed_with_the_etag_of_its_vm_or_its_own(lab: Lab) -> None:
    first, second = await add(lab, await lab.disk()), await add(lab, await lab.disk())
    worker = f"{VMS}/{lab.sim.worker_id}"
    url = f"{worker}/disks/{first['extId']}"

    without = await lab.central.delete(url)
    wrong = await lab.central.delete(url, headers={"If-Match": "YXBwbGljYXRpb24vanNvbg==:0"})
    vm = await lab.central.get(worker)
    with_vm = await lab.central.delete(url, headers={"If-Match": vm.headers["ETag"]})
    await lab.task(with_vm)
    stale = await lab.central.delete(f"{worker}/disks/{second['extId']}", headers={"If-Match": vm.headers["ETag"]})
    own = await lab.central.get(f"{worker}/disks/{second['extId']}")
    task = await lab.task(
        await lab.central.delete(f"{worker}/disks/{second['extId']}", headers={"If-Match": own.headers["ETag"]})
    )

    assert (without.status_code, wrong.status_code, stale.status_code) == (428, 412, 412)
    assert task["status"] == "SUCCEEDED"
    assert (await lab.central.get(f"{worker}/disks")).json()["data"] == []
    assert list(Path(lab.sim.env["NTX_DEVICE_DIR"]).iterdir()) == []
    assert (await lab.central.delete(url, headers={"If-Match": "x"})).status_code == 404


async def test_every_disk_gets_a_slot_of_its_own_until_the_bus_is_full(lab: Lab) -> None:
    name = await lab.disk()

    indexes = [(await add(lab, name))["diskAddress"]["index"] for _ in range(3)]
    url = f"{VMS}/{lab.sim.worker_id}/disks"
    taken = await lab.task(await lab.central.post(url, json=body(name, index=1)))
    beyond = await lab.task(await lab.central.post(url, json=body(name, index=256)))

    assert indexes == [0, 1, 2]
    assert (taken["status"], beyond["status"]) == ("FAILED", "FAILED")


async def test_vmm_4_0_cannot_clone_a_recovery_point(lab: Lab) -> None:
    url = f"{VMS}/{lab.sim.worker_id}/disks".replace("v4.1", "v4.0")

    assert (await lab.central.post(url, json=body(await lab.disk()))).status_code == 400


async def test_an_unknown_recovery_point_cannot_be_attached(lab: Lab) -> None:
    name = await lab.disk()
    url = f"{VMS}/{lab.sim.worker_id}/disks"

    answer = await lab.central.post(url, json=body((name[0], name[1], str(uuid.uuid4()))))

    assert answer.status_code == 404
    assert answer.json()["data"]["error"][0]["code"] == "VMM-32810"


async def test_a_failed_attach_leaves_the_disk_behind(lab: Lab) -> None:
    lab.sim.faults.fail_tasks["attach"] = 1
    url = f"{VMS}/{lab.sim.worker_id}/disks"

    task = await lab.task(await lab.central.post(url, json=body(await lab.disk())))

    assert task["status"] == "FAILED"
    assert len((await lab.central.get(url)).json()["data"]) == 1


async def test_v2_hot_adds_a_snapshot_file_and_removes_it(lab: Lab) -> None:
    lab.write(1, 0, b"second disk")
    path = snapshot_path(await lab.snapshot(), 1)
    url = f"{V2}/vms/{lab.sim.worker_id}"
    clone = {"disk_address": {"device_bus": "SCSI", "ndfs_filepath": path}}

    answer = await lab.element.post(
        f"{url}/disks/attach", json={"uuid": lab.sim.worker_id, "vm_disks": [{"vm_disk_clone": clone}]}
    )
    task = await _v2_task(lab, answer)
    [disk] = (await lab.element.get(url, params={"include_vm_disk_config": "true"})).json()["vm_disk_info"]
    content = device(lab, disk["disk_address"]["vmdisk_uuid"]).read_bytes()
    address = {"vmdisk_uuid": disk["disk_address"]["vmdisk_uuid"]}
    gone = await lab.element.post(f"{url}/disks/detach", json={"vm_disks": [{"disk_address": address}]})
    await _v2_task(lab, gone)

    assert task["progress_status"] == "Succeeded"
    assert disk["source_disk_address"]["ndfs_filepath"] == path
    assert content.startswith(b"second disk")
    assert list(Path(lab.sim.env["NTX_DEVICE_DIR"]).iterdir()) == []
    again = await lab.element.post(f"{url}/disks/detach", json={"vm_disks": [{"disk_address": address}]})
    assert again.status_code == 404


async def _v2_task(lab: Lab, answer: httpx.Response) -> Json:
    uuid = answer.json()["task_uuid"]
    await lab.poll(uuid)
    task: Json = (await lab.element.get(f"{V2}/tasks/{uuid}")).json()
    return task


@pytest.mark.parametrize("path", ["/default/../../etc/passwd", "/etc/passwd", "", None, "/default/.acropolis/vmdisk/x"])
async def test_v2_clones_only_announced_snapshot_files(lab: Lab, path: str | None) -> None:
    clone = {"disk_address": {"device_bus": "SCSI", "ndfs_filepath": path}}

    answer = await lab.element.post(
        f"{V2}/vms/{lab.sim.worker_id}/disks/attach", json={"vm_disks": [{"vm_disk_clone": clone}]}
    )

    assert answer.status_code == 422


async def test_device_vmdisk_and_file_are_told_apart(lab: Lab) -> None:
    v3 = (await lab.element.get(f"{V3}/vms/{lab.vm}")).json()["status"]["resources"]["disk_list"]
    v2 = (await lab.element.get(f"{V2}/vms/{lab.vm}?include_vm_disk_config=true")).json()["vm_disk_info"]
    v4 = (await lab.central.get(f"{VMS}/{lab.vm}")).json()["data"]

    assert [disk["uuid"] for disk in v3] == [disk["disk_address"]["device_uuid"] for disk in v2]
    assert [disk["disk_address"]["vmdisk_uuid"] for disk in v2] != [disk["uuid"] for disk in v3]
    assert [disk["is_cdrom"] for disk in v2] == [False, False, True]
    assert [disk["extId"] for disk in v4["disks"]] == [disk["disk_address"]["vmdisk_uuid"] for disk in v2[:2]]
    assert len(v4["cdRoms"]) == 1
    virtual = (await lab.element.get(f"{V2}/virtual_disks/{v2[0]['disk_address']['vmdisk_uuid']}")).json()
    assert virtual["nutanix_nfsfile_path"] == v2[0]["disk_address"]["ndfs_filepath"]
    assert (await lab.element.get(f"{V2}/virtual_disks/{v2[2]['disk_address']['vmdisk_uuid']}")).status_code == 404


async def test_v2_leaves_disks_out_unless_asked(lab: Lab) -> None:
    answer = await lab.element.get(f"{V2}/vms/")

    assert all("vm_disk_info" not in vm for vm in answer.json()["entities"])


async def test_volume_groups_are_no_disks_of_a_recovery_point(lab: Lab) -> None:
    lab.sim.config.vms[0].volume_groups = 1

    v3 = (await lab.element.get(f"{V3}/vms/{lab.vm}")).json()["status"]["resources"]["disk_list"]
    v4 = (await lab.central.get(f"{VMS}/{lab.vm}")).json()["data"]["disks"]
    point = await lab.point()

    assert v3[-1]["device_properties"]["device_type"] == "VOLUME_GROUP"
    assert v4[-1]["backingInfo"]["$objectType"] == "vmm.v4.ahv.config.ADSFVolumeGroupReference"
    assert len(point["vmRecoveryPoints"][0]["diskRecoveryPoints"]) == 4


async def test_names_are_data_and_a_disk_may_live_in_a_second_container(tmp_path: Path) -> None:
    names = ["../../etc/passwd", "two\nlines", "ü" * 255, "'quoted' \"name\" $(reboot)", "twin", "twin"]
    vms = [
        VmConfig(name, disks=[DiskConfig(tmp_path / f"{n}.raw", size=512 * (n + 1), container="fast")])
        for n, name in enumerate(names)
    ]
    config = SimConfig(vms=vms, containers=[ContainerConfig(), ContainerConfig("fast")])
    async with Simulator(config, tmp_path / "state") as sim:
        lab = Lab(sim)
        try:
            v4 = (await lab.central.get(VMS, params={"$filter": "name eq '../../etc/passwd'"})).json()["data"]
            v3 = (await lab.element.post(f"{V3}/vms/list", json={"kind": "vm", "filter": "vm_name==two\nlines"})).json()
            every = (await lab.central.get(VMS)).json()["data"]
            for vm in every[: len(names)]:
                await lab.point(vmRecoveryPoints=[{"vmExtId": vm["extId"]}])
                await lab.snapshot(resources={"entity_uuid": vm["extId"]})
            files = [path.relative_to(sim.state_dir) for path in sim.state_dir.rglob("*")]
        finally:
            await lab.aclose()

    assert [vm["name"] for vm in v4] == [names[0]]
    assert [vm["status"]["name"] for vm in v3["entities"]] == [names[1]]
    assert [vm["name"] for vm in every] == [*names, "ntx-worker"]
    assert len({vm["extId"] for vm in every}) == len(names) + 1
    assert not [path for path in files for name in names if name in str(path)]
    assert len([path for path in files if "fast/.snapshot" in str(path) and path.name.count("-") == 4]) == len(names)


async def test_v2_describes_cluster_and_containers(lab: Lab) -> None:
    lab.sim.config.containers[0].compression = True
    lab.sim.config.containers[0].dedup = True

    cluster = (await lab.element.get(f"{V2}/cluster")).json()
    [container] = (await lab.element.get(f"{V2}/storage_containers/")).json()["entities"]
    disks = (await lab.element.get(f"{V2}/virtual_disks", params={"count": "1", "page": "2"})).json()

    assert (cluster["name"], cluster["storage_type"]) == ("pe1", "ALL_FLASH")
    assert (container["compression_enabled"], container["on_disk_dedup"]) == (True, "POST_PROCESS")
    assert disks["metadata"]["grand_total_entities"] == 2
    assert len(disks["entities"]) == 1

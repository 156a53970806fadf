"""Recovery points of one VM by the name space of VMs (vmm 4.1)."""

from __future__ import annotations

import uuid

from tests.sim.lab import DP, Lab, disk_name

PATH = "/api/vmm/v4.1/ahv/config/vm-recovery-points"


async def test_parts_of_recovery_points_are_listed_and_looked_up(lab: Lab) -> None:
    point = await lab.point(name="whole")
    _, vm_point, disk_point = disk_name(point)

    [listed] = (await lab.central.get(PATH, params={"$filter": f"vmExtId eq '{lab.vm}'"})).json()["data"]
    found = (await lab.central.get(f"{PATH}/{vm_point}")).json()["data"]

    assert listed == found
    assert (found["extId"], found["vmExtId"], found["name"]) == (vm_point, lab.vm, "whole")
    assert found["$objectType"] == "vmm.v4.ahv.config.VmRecoveryPoint"
    assert disk_point in [disk["diskRecoveryPointExtId"] for disk in found["diskRecoveryPoints"]]
    assert found["vm"]["extId"] == lab.vm
    assert (await lab.central.get(f"{PATH}/{uuid.uuid4()}")).status_code == 404
    assert (await lab.central.get(PATH.replace("v4.1", "v4.0"))).status_code == 404


async def test_one_is_made_and_deleted(lab: Lab) -> None:
    body = {"name": "alone", "vmExtId": lab.vm, "recoveryPointType": "CRASH_CONSISTENT"}
    await lab.task(await lab.central.post(PATH, json=body))
    [made] = (await lab.central.get(PATH)).json()["data"]
    [whole] = (await lab.central.get(DP)).json()["data"]

    await lab.task(await lab.central.delete(f"{PATH}/{made['extId']}"))

    assert whole["vmRecoveryPoints"][0]["extId"] == made["extId"]
    assert (await lab.central.get(DP)).json()["data"] == []


async def test_one_of_several_is_not_deleted_alone(lab: Lab) -> None:
    vms = [{"vmExtId": lab.vm}, {"vmExtId": lab.sim.worker_id}]
    point = await lab.point(vmRecoveryPoints=vms)

    answer = await lab.central.delete(f"{PATH}/{point['vmRecoveryPoints'][0]['extId']}")

    assert answer.status_code == 409
    assert len((await lab.central.get(PATH)).json()["data"]) == 2

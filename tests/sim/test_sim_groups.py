"""Volume groups attached to VMs: frozen with them at one moment, compared, hot-added; all of it as v4 words it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ntxengine.sim import Simulator
from ntxengine.sim.config import DiskConfig, GroupConfig
from tests.sim.lab import DP, Lab, request_id, small_config

_CONTENT = "dataprotection.v4.content"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    config = small_config(tmp_path)
    disks = [DiskConfig(tmp_path / "g0.raw", size=1 << 20), DiskConfig(tmp_path / "g1.raw", size=2 << 20, index=7)]
    config.volume_groups = [GroupConfig("data", disks=disks, vms=["app"])]
    async with Simulator(config, tmp_path / "state") as sim:
        opened = Lab(sim)
        yield opened
        await opened.aclose()


async def _group_id(lab: Lab) -> str:
    vm = (await lab.central.get(f"/api/vmm/v4.1/ahv/config/vms/{lab.vm}")).json()["data"]
    [slot] = [disk for disk in vm["disks"] if disk["diskAddress"]["index"] >= 200]
    return str(slot["backingInfo"]["volumeGroupExtId"])


async def _point(lab: Lab, group: str) -> dict[str, Any]:
    return await lab.point(volumeGroupRecoveryPoints=[{"volumeGroupExtId": group}])


def _names(point: dict[str, Any], number: int) -> dict[str, str]:
    [group] = point["volumeGroupRecoveryPoints"]
    return {
        "recoveryPointExtId": point["extId"],
        "volumeGroupRecoveryPointExtId": group["extId"],
        "diskRecoveryPointExtId": group["diskRecoveryPoints"][number]["diskRecoveryPointExtId"],
    }


async def test_a_group_and_its_disks_are_told(lab: Lab) -> None:
    group = await _group_id(lab)

    found = (await lab.central.get(f"/api/volumes/v4.0/config/volume-groups/{group}")).json()["data"]
    disks = (await lab.central.get(f"/api/volumes/v4.0/config/volume-groups/{group}/disks")).json()["data"]

    assert (found["name"], found["sharingStatus"]) == ("data", "NOT_SHARED")
    assert [(disk["index"], disk["diskSizeBytes"]) for disk in disks] == [(0, 1 << 20), (7, 2 << 20)]


async def test_a_recovery_point_holds_a_group_as_it_was(lab: Lab) -> None:
    group = await _group_id(lab)
    path = lab.sim.config.volume_groups[0].disks[1].path
    path.write_bytes(b"before" + bytes((2 << 20) - 6))

    point = await _point(lab, group)
    path.write_bytes(b"after!" + bytes((2 << 20) - 6))

    frozen = lab.sim.frozen_path(_names(point, 1)["diskRecoveryPointExtId"])
    assert frozen.read_bytes()[:6] == b"before"
    assert point["volumeGroupRecoveryPoints"][0]["volumeGroupExtId"] == group
    assert len(point["vmRecoveryPoints"]) == 1


async def test_changed_regions_of_a_group_are_computed_by_its_own_call(lab: Lab) -> None:
    group = await _group_id(lab)
    old = _names(await _point(lab, group), 0)
    with lab.sim.config.volume_groups[0].disks[0].path.open("r+b") as file:
        file.seek(40_000)
        file.write(b"new")
    new = _names(await _point(lab, group), 0)

    reference = {"$objectType": f"{_CONTENT}.VolumeGroupDiskRecoveryPointReference"}
    spec = {
        "$objectType": f"{_CONTENT}.ComputeChangedRegionsClusterDiscoverSpec",
        "diskRecoveryPoint": reference | new,
        "referenceDiskRecoveryPoint": reference | old,
    }
    url = f"{DP}/{new['recoveryPointExtId']}/$actions/discover-cluster"
    found = await lab.central.post(url, json={"operation": "COMPUTE_CHANGED_REGIONS", "spec": spec})
    point, part, disk = new.values()
    path = (
        f"/api/dataprotection/v4.0/content/recovery-points/{point}/volume-group-recovery-points/{part}"
        f"/disk-recovery-points/{disk}/$actions/compute-changed-regions"
    )
    body = {"reference" + name[0].upper() + name[1:]: value for name, value in old.items()} | {"blockSizeByte": 32768}
    headers = {"Cookie": f"NTNX_IGW_SESSION={found.json()['data']['jwtToken']}"}
    answer = await lab.anyone.post(lab.sim.element_url + path, json=body, headers=headers)
    as_of_a_vm = await lab.anyone.post(
        lab.sim.element_url + path.replace("volume-group-recovery-points", "vm-recovery-points"),
        json={"blockSizeByte": 32768},
        headers=headers,
    )

    assert [(one["offset"], one["length"]) for one in answer.json()["data"]] == [(32768, 32768)]
    assert answer.json()["$objectType"] == f"{_CONTENT}.ChangedVolumeGroupRegionsApiResponse"
    assert as_of_a_vm.status_code == 404


async def test_a_disk_of_a_group_is_hot_added(lab: Lab) -> None:
    names = _names(await _point(lab, await _group_id(lab)), 0)
    reference = {
        "$objectType": "vmm.v4.ahv.config.VolumeDiskRecoveryPointReference",
        "volumeGroupRecoveryPointExtId": names["volumeGroupRecoveryPointExtId"],
        "diskRecoveryPointExtId": names["diskRecoveryPointExtId"],
    }
    backing = {"$objectType": "vmm.v4.ahv.config.VmDisk", "dataSource": {"reference": reference}}
    disks = f"/api/vmm/v4.1/ahv/config/vms/{lab.sim.worker_id}/disks"

    task = await lab.task(await lab.central.post(disks, json={"backingInfo": backing}, headers=request_id()))

    assert task["status"] == "SUCCEEDED"
    [disk] = (await lab.central.get(disks)).json()["data"]
    found = disk["backingInfo"]["dataSource"]["reference"]
    assert {name: found[name] for name in reference} == reference


async def test_groups_are_attached_and_grow_while_it_runs(lab: Lab, tmp_path: Path) -> None:
    group = lab.sim.config.volume_groups[0]
    group.disks.append(DiskConfig(tmp_path / "g8.raw", size=4096, index=8))
    point = await _point(lab, await _group_id(lab))
    group.vms.clear()

    vm = (await lab.central.get(f"/api/vmm/v4.1/ahv/config/vms/{lab.vm}")).json()["data"]

    assert len(point["volumeGroupRecoveryPoints"][0]["diskRecoveryPoints"]) == 3
    assert all(disk["diskAddress"]["index"] < 200 for disk in vm["disks"])

"""Nutanix's own SDK against the simulator: an independent client of paths, envelopes, tasks and tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ntxengine.sim import SimConfig, run_in_thread
from ntxengine.sim.clusters import ClusterConfig, ContainerConfig, HostConfig
from ntxengine.sim.config import DiskConfig, GuestToolsConfig, VmConfig
from ntxengine.sim.hardware import HardwareConfig, NicConfig
from tests.conformance.conftest import run_sdk

# The SDK calls the revision that it was made for, so the token must be scoped to it.
SDK_REVISION = "v4.4"

FULL = HardwareConfig(
    firmware="secure_boot",
    machine_type="Q35",
    vtpm=True,
    nics=[
        NicConfig(mac="50:6b:8d:00:00:01"),
        NicConfig(mac="50:6b:8d:00:00:02", model="E1000", kind="VirtualEthernetNic", trunk=True),
    ],
    boot_disk="scsi.0",
    boot_order=["DISK", "NETWORK"],
    serial_ports=[0],
    gpus=["A40-2Q"],
    description="everything that a VM can have",
    cpu_model="Intel Skylake",
    nested=True,
)


@pytest.fixture(scope="module")
def answers(sdk_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the SDK made of the simulator's answers."""
    folder = tmp_path_factory.mktemp("sdk")
    disks = [DiskConfig(folder / "a.raw", size=1 << 20), DiskConfig(folder / "b.raw", size=(1 << 20) + 512)]
    vm = VmConfig("it's app", disks=disks, cdroms=[DiskConfig(folder / "cd.iso", size=4096, bus="ide")])
    vm.guest_tools, vm.volume_groups = GuestToolsConfig(), 1
    vm.categories = ["Environment=Production", "App=db"]
    vm.hardware = FULL
    far = VmConfig("far", disks=[DiskConfig(folder / "far.raw", size=1 << 20)], cluster="pe2", power="off")
    fast = ContainerConfig("default", compression=True, dedup=True, encrypted=True, erasure_code=True)
    fast.nfs_allowed = ["10.1.2.3/255.255.255.255"]
    second = ClusterConfig("pe2", "127.0.0.12", [HostConfig(["sata", "hdd"]), HostConfig(compute_only=True)], [fast])
    config = SimConfig(vms=[vm, far], content_revision=SDK_REVISION, clusters=[second])
    config.nfs_allowed = ["10.0.0.0/255.255.255.0"]
    with run_in_thread(config, folder / "state") as sim:
        spec = {
            "host": "127.0.0.1",
            "port": sim.port,
            "ca_file": str(sim.ca_file),
            "username": sim.username,
            "password": sim.password,
            "vm": "it''s app",
            "worker": "ntx-worker",
            "disk": str(disks[0].path),
        }
        result = run_sdk(sdk_python, "sdk_driver.py", spec)
        result["expected_vm"] = sim.vm_id("it's app")
        result["statuses_seen"] = sorted({request.status for request in sim.requests})
        result["asked"] = [(request.method, request.path) for request in sim.requests]
    return result


def test_vms_and_disks_are_read(answers: dict[str, Any]) -> None:
    assert answers["vm"]["id"] == answers["expected_vm"]
    assert (answers["vm"]["name"], answers["vm"]["power"], answers["total_vms"]) == ("it's app", "ON", 3)
    assert [size for _, size in answers["disks"]] == [1 << 20, (1 << 20) + 512]
    assert answers["guest_tools"] is True


def test_every_sdk_negotiates_its_version(answers: dict[str, Any]) -> None:
    assert answers["negotiated"] == ["v4.3", "v4.4", "v4.4", "v4.3", "v4.3"]
    assert {path for method, path in answers["asked"] if method == "OPTIONS"} == {
        f"/api/{one}/unversioned/info" for one in ("vmm", "dataprotection", "prism", "clustermgmt", "volumes")
    }


def test_recovery_points_live_from_create_to_delete(answers: dict[str, Any]) -> None:
    assert answers["points"] == ["new", "old"]
    assert answers["statuses"] == ["COMPLETE", "COMPLETE"]
    assert {disk for disk, _ in answers["disks"]} < set(answers["vm_point"]["disks"])
    assert (answers["expiry"], answers["expires"]) == ("SUCCEEDED", "2099-01-01 00:00:00+00:00")
    assert (answers["deleted"], answers["missing"]) == ("SUCCEEDED", 404)


def test_changed_regions_come_from_the_element(answers: dict[str, Any]) -> None:
    assert answers["full"]["regions"] == []
    assert answers["diff"]["regions"] == [[98_304, 32_768, "REGULAR"]]
    assert answers["diff"]["element"] == "127.0.0.2"
    assert answers["diff"]["extra"]["fileSize"] == "1048576"


def test_a_disk_is_hot_added_and_removed(answers: dict[str, Any]) -> None:
    expected = {"attached": "SUCCEEDED", "source": answers["disk_point"], "removed": "SUCCEEDED", "left": 0}
    assert answers["hot_add"] == expected


def test_recovery_points_of_one_vm_are_read(answers: dict[str, Any]) -> None:
    assert answers["vm_points"] == {"names": ["new", "old"], "vm": True, "unknown_fields": []}


def test_a_volume_group_of_a_recovery_point_lives_from_create_to_delete(answers: dict[str, Any]) -> None:
    expected = {
        "listed": ["sdk's"],
        "target": True,
        "secret": None,
        "disks": [[1, 1 << 20]],
        "statuses": ["SUCCEEDED"] * 3,
        "clients": 1,
        "deleted": "SUCCEEDED",
        "unknown_fields": [],
    }
    assert answers["read_group"] == expected


def test_the_cluster_is_described(answers: dict[str, Any]) -> None:
    assert (answers["clusters"], answers["cluster"]) == (["pe1", "pe2", "pc1"], "pe1")
    assert (answers["hosts"], answers["all_hosts"]) == (2, 4)
    assert (answers["containers"], answers["container"]) == (["default", "default"], "default")
    assert answers["volume_group"] is True


def test_several_clusters_and_what_vms_lie_on_are_described(answers: dict[str, Any]) -> None:
    found = answers["described"]

    assert found["filtered"] == [["far"], ["far"], ["it's app", "ntx-worker"], ["far"], ["it's app"]]
    assert (found["categories"], found["category"]) == (["Environment=Production", "App=db"], "App")
    assert found["containers"] == {
        "pe1/default": [False, "OFF", "OFF", False, True, []],
        "pe2/default": [True, "POST_PROCESS", "ON", True, False, ["10.1.2.3"]],
    }
    assert found["tiers"] == {"pe1": [["PCIE_SSD"], ["PCIE_SSD"]], "pe2": [["SATA_SSD", "HDD"], []]}
    assert found["hardware"] == {
        "firmware": "UefiBoot",
        "boot": 0,
        "tpm": True,
        "nics": [["50:6b:8d:00:00:01", "VIRTIO"], ["50:6b:8d:00:00:02", "E1000"]],
        "backings": ["NoneType", "VirtualEthernetNic"],
        "gpus": ["A40-2Q"],
    }
    assert found["clients"] == [["10.0.0.0/255.255.255.0"], [], []]
    assert found["unknown_fields"] == []


def test_every_field_that_we_send_is_one_that_the_sdk_knows(answers: dict[str, Any]) -> None:
    assert answers["unknown_fields"] == []
    assert answers["diff"]["unknown_fields"] == []


def test_no_call_was_refused_but_the_one_that_had_to_be(answers: dict[str, Any]) -> None:
    assert answers["statuses_seen"] == [200, 202, 404]

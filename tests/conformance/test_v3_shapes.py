"""Answers of v3 have the fields and types that the definitions of Prism Element's API demand.

The tables below are our own: the fields that a capture reads, with their types, and the closed sets of values.
There is no recorded body of vm_snapshots or data/changed_regions in public: this holds the schema, not a cluster.
"""

from __future__ import annotations

import re
import ssl
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ntxengine.sim import run_in_thread
from ntxengine.sim.config import DiskConfig, GuestToolsConfig, SimConfig, VmConfig
from ntxengine.sim.hardware import HardwareConfig, NicConfig

BASE = "/api/nutanix/v3"
UUID = re.compile(r"[a-fA-F0-9]{8}(-[a-fA-F0-9]{4}){3}-[a-fA-F0-9]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
MAC = re.compile(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}")

Shape = dict[str, Any]

REFERENCE: Shape = {"kind": str, "uuid": UUID, "name": str}
METADATA: Shape = {"kind": str, "uuid": UUID, "creation_time": TIME, "entity_version": str, "spec_version": int}
DISK: Shape = {
    "uuid": UUID,
    "device_properties": {
        "device_type": {"DISK", "CDROM", "VOLUME_GROUP"},
        "disk_address": {"adapter_type": {"SCSI", "IDE", "PCI", "SATA", "SPAPR"}, "device_index": int},
    },
    "disk_size_bytes": int,
    "disk_size_mib": int,
    "storage_config": {"flash_mode": {"ENABLED", "DISABLED"}, "storage_container_reference": REFERENCE},
}
GUEST_TOOLS: Shape = {
    "state": {"ENABLED", "DISABLED"},
    "ngt_state": {"INSTALLED", "UNINSTALLED"},
    "iso_mount_state": {"MOUNTED", "UNMOUNTED"},
    "enabled_capability_list": [{"SELF_SERVICE_RESTORE", "VSS_SNAPSHOT"}],
    "is_reachable": bool,
    "vss_snapshot_capable": bool,
    "version": str,
}
NIC: Shape = {
    "uuid": UUID,
    "nic_type": {"NORMAL_NIC", "DIRECT_NIC", "NETWORK_FUNCTION_NIC"},
    "mac_address": MAC,
    "model": {"VIRTIO", "E1000"},
    "is_connected": bool,
    "num_queues": int,
    "vlan_mode": {"ACCESS", "TRUNKED"},
    "subnet_reference": REFERENCE,
}
VM: Shape = {
    "metadata": METADATA,
    "status": {
        "name": str,
        "state": str,
        "cluster_reference": REFERENCE,
        "execution_context": {"task_uuid": [UUID]},
        "resources": {
            "power_state": {"ON", "OFF", "PAUSED", "UNKNOWN"},
            "hypervisor_type": {"ESX", "HyperV", "AHV"},
            "host_reference": REFERENCE,
            "protection_type": {"UNPROTECTED", "PD_PROTECTED", "RULE_PROTECTED"},
            "disk_list": [DISK],
            "machine_type": {"PC", "PSERIES", "Q35"},
            "num_sockets": int,
            "num_vcpus_per_socket": int,
            "num_threads_per_core": int,
            "memory_size_mib": int,
            "hardware_clock_timezone": str,
            "vga_console_enabled": bool,
            "enable_cpu_passthrough": bool,
            "hardware_virtualization_enabled": bool,
            "vnuma_config": {"num_vnuma_nodes": int},
            "boot_config": {
                "boot_type": {"UEFI", "LEGACY", "SECURE_BOOT"},
                "boot_device_order_list": [{"CDROM", "DISK", "NETWORK"}],
                "boot_device": {"disk_address": {"adapter_type": {"SCSI", "IDE", "PCI"}, "device_index": int}},
            },
            "nic_list": [NIC],
            "serial_port_list": [{"index": int, "is_connected": bool}],
            "guest_tools": {"nutanix_guest_tools": GUEST_TOOLS},
        },
    },
}
CLUSTER: Shape = {
    "metadata": METADATA,
    "status": {
        "name": str,
        "resources": {
            "config": {
                "service_list": [{"AOS", "PRISM_CENTRAL"}],
                "build": {
                    "build_type": str,
                    "version": str,
                    "full_version": str,
                    "commit_id": str,
                    "short_commit_id": str,
                },
            },
            "network": {"external_ip": str},
        },
    },
}
HOST: Shape = {
    "metadata": METADATA,
    "status": {
        "name": str,
        "cluster_reference": REFERENCE,
        "resources": {"controller_vm": {"ip": str}, "host_type": {"HYPER_CONVERGED", "COMPUTE_ONLY"}},
    },
}
SNAPSHOT: Shape = {
    "api_version": {"3.1"},
    "metadata": METADATA,
    "status": {
        "state": str,
        "name": str,
        "snapshot_type": {"CRASH_CONSISTENT", "APPLICATION_CONSISTENT"},
        "expiration_time_msecs": int,
        "resources": {"entity_uuid": UUID},
        "snapshot_file_list": [{"file_path": str, "snapshot_file_path": str}],
        "consistency_group_uuid": UUID,
        "location_agnostic_uuid": UUID,
    },
}
TASK: Shape = {
    "uuid": UUID,
    "status": {"QUEUED", "RUNNING", "SUCCEEDED", "ABORTED", "SUSPENDED", "FAILED"},
    "percentage_complete": int,
    "operation_type": str,
    "entity_reference_list": [REFERENCE],
    "cluster_reference": REFERENCE,
    "creation_time": TIME,
    "creation_time_usecs": int,
    "start_time": TIME,
    "completion_time": TIME,
    "last_update_time": TIME,
    "logical_timestamp": int,
}
REGIONS: Shape = {"region_list": [{"offset": int, "length": int, "type": {"ZEROED", "REGULAR"}}], "file_size": int}
IDENTIFIERS: Shape = {"client_identifier": str, "count": int, "expiration_time": TIME, "uuid_list": [UUID]}
REASONS = {"ENTITY_NOT_FOUND", "INVALID_REQUEST", "MISSING_ATTRIBUTE", "INVALID_UUID", "INVALID_ARGUMENT"}
STATUS: Shape = {
    "api_version": {"3.1"},
    "code": int,
    "state": {"ERROR"},
    "message_list": [{"message": str, "reason": REASONS}],
}


def listing(kind: str, entity: Shape) -> Shape:
    metadata = {"kind": {kind}, "total_matches": int, "length": int, "offset": int}
    return {"api_version": {"3.1"}, "metadata": metadata, "entities": [entity]}


def problems(value: Any, shape: Any, where: str = "") -> list[str]:
    """Return where `value` is not of this shape: type, set of values, pattern, fields, or a list that is not empty."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no object"]
        missing = [f"{where}.{name}: is missing" for name in shape if name not in value]
        return missing + [
            p for name in shape if name in value for p in problems(value[name], shape[name], f"{where}.{name}")
        ]
    if isinstance(shape, list):
        if not isinstance(value, list) or not value:
            return [f"{where}: {value!r} is no list with something in it"]
        return [
            problem for number, one in enumerate(value) for problem in problems(one, shape[0], f"{where}[{number}]")
        ]
    if isinstance(shape, set):
        return [] if value in shape else [f"{where}: {value!r} is not one of {sorted(shape)}"]
    if isinstance(shape, re.Pattern):
        is_match = isinstance(value, str) and shape.fullmatch(value) is not None
        return [] if is_match else [f"{where}: {value!r} does not match {shape.pattern}"]
    is_type = isinstance(value, shape) and not (shape is int and isinstance(value, bool))
    return [] if is_type else [f"{where}: {value!r} is no {shape.__name__}"]


@pytest.fixture(scope="module")
def element(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder: Path = tmp_path_factory.mktemp("v3")
    disks = [DiskConfig(folder / "a.raw", size=1 << 20), DiskConfig(folder / "b.raw", size=4096)]
    vm = VmConfig("app", disks=disks, cdroms=[DiskConfig(folder / "cd.iso", size=4096, bus="ide")])
    vm.guest_tools = GuestToolsConfig()
    vm.hardware = HardwareConfig(
        firmware="secure_boot", nics=[NicConfig()], boot_order=["DISK"], boot_disk="scsi.0", serial_ports=[0]
    )
    with run_in_thread(SimConfig(vms=[vm], worker="app"), folder / "state") as sim:
        context = ssl.create_default_context(cafile=str(sim.ca_file))
        with httpx.Client(base_url=sim.element_url + BASE, verify=context, auth=(sim.username, sim.password)) as client:
            yield client


@pytest.fixture(scope="module")
def created(element: httpx.Client) -> Shape:
    vm = element.post("/vms/list", json={}).json()["entities"][0]["metadata"]["uuid"]
    spec = {"name": "s", "expiration_time_msecs": 9_999_999_999_999, "resources": {"entity_uuid": vm}}
    answer: Shape = element.post("/vm_snapshots", json={"metadata": {"kind": "vm_snapshot"}, "spec": spec}).json()
    return answer


@pytest.mark.parametrize(("kind", "shape"), [("vm", VM), ("cluster", CLUSTER), ("host", HOST)])
def test_inventory_has_its_shape(element: httpx.Client, kind: str, shape: Shape) -> None:
    listed = element.post(f"/{kind}s/list", json={"kind": kind}).json()
    single = element.get(f"/{kind}s/{listed['entities'][0]['metadata']['uuid']}").json()

    assert problems(listed, listing(kind, shape)) == []
    assert problems(single, shape) == []


def test_snapshots_and_tasks_have_their_shape(element: httpx.Client, created: Shape) -> None:
    task = created["status"]["execution_context"]["task_uuid"]

    polled = element.post("/tasks/poll", json={"poll_timeout_seconds": 20, "task_uuid_list": [task]}).json()
    snapshot = element.get(f"/vm_snapshots/{created['metadata']['uuid']}").json()
    listed = element.post("/vm_snapshots/list", json={"kind": "vm_snapshot"}).json()

    assert problems(polled, {"entities": [TASK], "has_poll_timed_out": bool}) == []
    assert problems(element.get(f"/tasks/{task}").json(), TASK) == []
    assert problems(snapshot, SNAPSHOT) == []
    assert problems(listed, listing("vm_snapshot", SNAPSHOT)) == []


def test_changed_regions_have_their_shape(element: httpx.Client, created: Shape) -> None:
    task = created["status"]["execution_context"]["task_uuid"]
    element.post("/tasks/poll", json={"poll_timeout_seconds": 20, "task_uuid_list": [task]})
    snapshot = element.get(f"/vm_snapshots/{created['metadata']['uuid']}").json()
    path = snapshot["status"]["snapshot_file_list"][0]["snapshot_file_path"]

    found = element.post("/data/changed_regions", json={"snapshot_file_path": path}).json()

    assert problems(found, REGIONS) == []


def test_identifiers_have_their_shape(element: httpx.Client) -> None:
    found = element.post("/idempotence_identifiers", json={"count": 3, "valid_duration_in_minutes": 10})

    assert problems(found.json(), IDENTIFIERS) == []
    assert len(found.json()["uuid_list"]) == 3


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"/vms/{uuid.UUID(int=0)}", None),
        ("GET", f"/tasks/{uuid.UUID(int=0)}", None),
        ("GET", f"/vm_snapshots/{uuid.UUID(int=0)}", None),
        ("POST", "/data/changed_regions", {}),
        ("POST", "/data/changed_regions", {"snapshot_file_path": "x"}),
        ("POST", "/vm_snapshots", {"metadata": {}, "spec": {}}),
        ("POST", "/vms/list", {"length": "1"}),
    ],
)
def test_errors_have_their_shape(element: httpx.Client, method: str, path: str, body: Shape | None) -> None:
    answer = element.request(method, path, json=body)

    assert answer.status_code >= 400
    assert problems(answer.json(), STATUS) == []

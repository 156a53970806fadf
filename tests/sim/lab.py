"""A running simulator with an HTTP client per endpoint, and the calls that most tests make on the way."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from pathlib import Path
from typing import Any

import httpx

from ntxengine.sim import Simulator
from ntxengine.sim.config import DiskConfig, GuestToolsConfig, SimConfig, VmConfig

DP = "/api/dataprotection/v4.0/config/recovery-points"
V3 = "/api/nutanix/v3"
V2 = "/PrismGateway/services/rest/v2.0"

Json = dict[str, Any]
DiskName = tuple[str, str, str]
"""recovery point, VM recovery point, disk recovery point"""


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def small_config(folder: Path) -> SimConfig:
    """One VM `app` with two equal disks, a CD-ROM and NVRAM, and Guest Tools that can quiesce."""
    disks = [DiskConfig(folder / "a.raw", size=1 << 20), DiskConfig(folder / "b.raw", size=1 << 20)]
    vm = VmConfig(
        "app",
        disks=disks,
        cdroms=[DiskConfig(folder / "cd.iso", size=65_536, bus="ide")],
        nvram=DiskConfig(folder / "nvram.bin", size=4096),
        guest_tools=GuestToolsConfig(),
    )
    return SimConfig(vms=[vm])


class Lab:
    """Simulator, `central` and `element` clients, `anyone` without credentials."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        context = ssl.create_default_context(cafile=str(sim.ca_file))
        self.central = httpx.AsyncClient(
            base_url=sim.central_url, verify=context, auth=(sim.username, sim.password), timeout=30
        )
        self.element = httpx.AsyncClient(
            base_url=sim.element_url, verify=context, auth=(sim.username, sim.element_password), timeout=30
        )
        self.anyone = httpx.AsyncClient(verify=context, timeout=30)

    async def aclose(self) -> None:
        for client in (self.central, self.element, self.anyone):
            await client.aclose()

    @property
    def vm(self) -> str:
        """The uuid of the first VM."""
        return next(iter(self.sim.world.vms))

    def write(self, disk: int, offset: int, data: bytes) -> None:
        """Write to a live disk of the first VM, as the guest does."""
        with self.sim.disk_lock, self.sim.config.vms[0].disks[disk].path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    # -- v4

    async def task(self, answer: httpx.Response) -> Json:
        """Wait for the task of a 202 to end."""
        assert answer.status_code == 202, answer.text
        task_id = answer.json()["data"]["extId"]
        for _ in range(2000):
            task: Json = (await self.central.get(f"/api/prism/v4.0/config/tasks/{task_id}")).json()["data"]
            if task["status"] in ("SUCCEEDED", "FAILED"):
                return task
            await asyncio.sleep(0.005)
        raise AssertionError("the task does not end")

    async def post_point(self, **body: Any) -> httpx.Response:
        if "vmRecoveryPoints" not in body:
            body["vmRecoveryPoints"] = [{"vmExtId": self.vm}]
        body = {"name": "p", **body}
        return await self.central.post(DP, json=body, headers=request_id())

    async def point(self, **body: Any) -> Json:
        """Create a recovery point and return it."""
        task = await self.task(await self.post_point(**body))
        assert task["status"] == "SUCCEEDED", task
        point_id = next(d["value"] for d in task["completionDetails"] if d["name"] == "recoveryPointExtId")
        answer: Json = (await self.central.get(f"{DP}/{point_id}")).json()["data"]
        return answer

    async def disk(self, number: int = 0, **body: Any) -> DiskName:
        """Create a recovery point and return the name of one of its disks."""
        return disk_name(await self.point(**body), number)

    async def discover(self, disk: DiskName, **changes: Any) -> httpx.Response:
        spec = {
            "$objectType": "dataprotection.v4.content.ComputeChangedRegionsClusterDiscoverSpec",
            "diskRecoveryPoint": reference(disk),
        }
        body = {"operation": "COMPUTE_CHANGED_REGIONS", "spec": spec, **changes}
        return await self.central.post(f"{DP}/{disk[0]}/$actions/discover-cluster", json=body)

    async def token(self, disk: DiskName) -> str:
        answer = await self.discover(disk)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["jwtToken"])

    async def compute(
        self, disk: DiskName, old: DiskName | None = None, *, token: str | None = None, rev: str = "v4.0", **body: Any
    ) -> httpx.Response:
        if old is not None:
            names = ("referenceRecoveryPointExtId", "referenceVmRecoveryPointExtId", "referenceDiskRecoveryPointExtId")
            body |= dict(zip(names, old, strict=True))
        token = token or await self.token(disk)
        headers = {"Cookie": f"NTNX_IGW_SESSION={token}"}
        return await self.anyone.post(self.sim.element_url + compute_path(disk, rev), json=body, headers=headers)

    # -- v3

    async def snapshot(self, **spec: Any) -> Json:
        """Create a vm_snapshot and return it when it is complete."""
        spec = {"name": "s", "resources": {"entity_uuid": self.vm}, **spec}
        answer = await self.element.post(f"{V3}/vm_snapshots", json={"metadata": {"kind": "vm_snapshot"}, "spec": spec})
        assert answer.status_code == 202, answer.text
        await self.poll(answer.json()["status"]["execution_context"]["task_uuid"])
        found: Json = (await self.element.get(f"{V3}/vm_snapshots/{answer.json()['metadata']['uuid']}")).json()
        assert found["status"]["state"] == "COMPLETE", found
        return found

    async def poll(self, task: str) -> Json:
        body = {"poll_timeout_seconds": 20, "task_uuid_list": [task]}
        answer = (await self.element.post(f"{V3}/tasks/poll", json=body)).json()
        assert answer["has_poll_timed_out"] is False
        done: Json = answer["entities"][0]
        return done

    async def regions(self, path: str, old: str | None = None, **body: Any) -> httpx.Response:
        body["snapshot_file_path"] = path
        if old is not None:
            body["reference_snapshot_file_path"] = old
        return await self.element.post(f"{V3}/data/changed_regions", json=body)


def request_id() -> dict[str, str]:
    return {"NTNX-Request-Id": str(uuid.uuid4())}


def reference(disk: DiskName) -> Json:
    names = ("recoveryPointExtId", "vmRecoveryPointExtId", "diskRecoveryPointExtId")
    kind = "dataprotection.v4.content.VmDiskRecoveryPointReference"
    return {"$objectType": kind, **dict(zip(names, disk, strict=True))}


def disk_name(point: Json, number: int = 0) -> DiskName:
    vm_point = point["vmRecoveryPoints"][0]
    return point["extId"], vm_point["extId"], vm_point["diskRecoveryPoints"][number]["diskRecoveryPointExtId"]


def compute_path(disk: DiskName, rev: str = "v4.0") -> str:
    return (
        f"/api/dataprotection/{rev}/content/recovery-points/{disk[0]}/vm-recovery-points/{disk[1]}"
        f"/disk-recovery-points/{disk[2]}/$actions/compute-changed-regions"
    )


def extra_info(answer: httpx.Response) -> dict[str, Any]:
    return {pair["name"]: pair["value"] for pair in answer.json()["metadata"]["extraInfo"]}


def snapshot_path(snapshot: Json, number: int = 0) -> str:
    return str(snapshot["status"]["snapshot_file_list"][number]["snapshot_file_path"])


def triples(answer: httpx.Response) -> list[tuple[int, int, str]]:
    """Return the regions of a v3 or v4 answer as offset, length, type."""
    body = answer.json()
    assert answer.status_code == 200, answer.text
    if "region_list" in body:
        return [(region["offset"], region["length"], region["type"]) for region in body["region_list"]]
    return [(region["offset"], region["length"], region["regionType"]) for region in body["data"]]

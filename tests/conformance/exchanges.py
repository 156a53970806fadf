"""What our clients send and get: one walk through everything that a capture asks, recorded on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import msgspec
import pytest

from ntxengine.errors import NotFoundError
from ntxengine.prism.cluster import Prism
from ntxengine.prism.http.endpoint import Endpoint, Secret
from ntxengine.prism.models import AttachedDisk, OddVm, RecoveryPoint, RegionPage, Vm, VolumeGroup
from ntxengine.prism.open import open_cluster
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.config import DiskConfig, GroupConfig, GuestToolsConfig, VmConfig

VM = "it's app"
ABSENT = "00000000-0000-4000-8000-000000000000"


@dataclass
class Exchange:
    """One request and its answer, as JSON."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    status: int
    answer: Any


@dataclass
class Recorder(httpx.AsyncBaseTransport):
    """The network, with a record of what goes through it."""

    tls: ssl.SSLContext
    seen: list[Exchange] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._network = httpx.AsyncHTTPTransport(verify=self.tls)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._network.handle_async_request(request)
        content = await response.aread()
        await response.aclose()
        body, answer = (msgspec.json.decode(data) if data else None for data in (request.content, content))
        headers = {name: "***" if name in ("authorization", "cookie") else v for name, v in request.headers.items()}
        path = unquote(request.url.raw_path.partition(b"?")[0].decode())
        query = dict(request.url.params)
        self.seen.append(Exchange(request.method, path, query, headers, body, response.status_code, answer))
        return httpx.Response(response.status_code, headers=response.headers, content=content)

    async def aclose(self) -> None:
        await self._network.aclose()

    def take(self) -> list[Exchange]:
        """Return what was seen since the last time."""
        taken, self.seen = self.seen, []
        return taken


@dataclass
class Held:
    """What the steps so far have given, by their names."""

    done: dict[str, Any]
    worker: str

    @property
    def vm_id(self) -> str:
        """The VM that is captured."""
        return next(vm.id for vm in self.done["vms"] if vm.name == VM)

    @property
    def vm(self) -> Vm:
        """The same, whole."""
        found: Vm = self.done["vm"]
        return found

    def point(self, name: str) -> RecoveryPoint:
        """The recovery point that a step made."""
        found: RecoveryPoint = self.done[name]
        return found


@dataclass
class Walk:
    """What went over the wire in each step, and what the steps gave."""

    steps: dict[str, list[Exchange]]
    held: Held

    @property
    def exchanges(self) -> list[Exchange]:
        """All of it, in its order."""
        return [one for step in self.steps.values() for one in step]


def config(folder: Path) -> SimConfig:
    """Return a VM with two data disks, a CD-ROM, UEFI variables, a volume group and Guest Tools, and another VM."""
    disks = [DiskConfig(folder / "a.raw", size=1 << 20), DiskConfig(folder / "b.raw", size=(1 << 20) + 512)]
    disks[0].path.write_bytes(b"data" * 1024 + bytes((1 << 20) - 4096))
    vm = VmConfig(VM, disks=disks, cdroms=[DiskConfig(folder / "cd.iso", size=4096, bus="ide")])
    vm.nvram = DiskConfig(folder / "nvram", size=4096)
    vm.guest_tools, vm.categories = GuestToolsConfig(), ["Environment=Production"]
    group = GroupConfig("data", disks=[DiskConfig(folder / "group.raw", size=1 << 20)], vms=[VM])
    group.disks[0].path.write_bytes(b"data" * 1024 + bytes((1 << 20) - 4096))
    second = VmConfig("second", disks=[DiskConfig(folder / "second.raw", size=1 << 20)])
    return SimConfig(vms=[vm, second], volume_groups=[group])


async def walk(sim: Simulator, url: str, disk: Path) -> Walk:
    """Do all that a capture does, and return what went over the wire, step by step."""
    tls = ssl.create_default_context(cafile=str(sim.ca_file))
    recorder = Recorder(tls)
    endpoint = Endpoint(url, sim.username, Secret(sim.password), str(sim.ca_file))
    steps: dict[str, list[Exchange]] = {}
    done: dict[str, Any] = {}
    async with await open_cluster(endpoint, endpoint, transport=recorder) as cluster:
        steps["open"] = recorder.take()
        for name, step in STEPS.items():
            if name in ("create_again", "freeze_again"):
                _change(disk if name == "create_again" else sim.config.volume_groups[0].disks[0].path)
            done[name] = await step(cluster.prism, Held(done, sim.worker_id or ""))
            steps[name] = recorder.take()
        if cluster.findings.family == "v4":
            await _cancelled(cluster.prism, sim, recorder, done["vm"])
            steps["cancel"] = recorder.take()
    await recorder.aclose()
    return Walk(steps, Held(done, sim.worker_id or ""))


async def _cancelled(prism: Prism, sim: Simulator, recorder: Recorder, vm: Vm) -> None:
    """Cancel a capture while its recovery point is made."""
    sim.faults.cancelable_tasks, sim.faults.stuck_tasks["create"] = True, 1
    creating = asyncio.create_task(_freeze(prism, vm, "crash"))
    while not any("/tasks/" in one.path or "/vm_snapshots/" in one.path for one in recorder.seen):
        await asyncio.sleep(0.01)
    creating.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await creating


def _change(disk: Path) -> None:
    with disk.open("r+b") as file:
        file.seek(500_000)
        file.write(b"changed")


async def _create(prism: Prism, held: Held) -> RecoveryPoint:
    return await _freeze(prism, held.vm, "application")


async def _create_again(prism: Prism, held: Held) -> RecoveryPoint:
    return await _freeze(prism, held.vm, "crash")


async def _regions(prism: Prism, held: Held) -> list[RegionPage]:
    return [page async for page in prism.changed_regions(held.point("create").disks[0], None)]


async def _difference(prism: Prism, held: Held) -> list[RegionPage]:
    newer, older = held.point("create_again").disks[0], held.point("create").disks[0]
    return [page async for page in prism.changed_regions(newer, older)]


async def _refused(asking: Awaitable[object]) -> str:
    with pytest.raises(NotFoundError) as refusal:
        await asking
    return str(refusal.value)


async def _streamed(prism: Prism) -> list[Vm | OddVm]:
    return [vm async for vm in prism.stream_vms(categories=["Environment=Production"])]


async def _make_group(prism: Prism, held: Held) -> VolumeGroup:
    disk = held.point("create_again").disks[0]
    return await prism.make_volume_group(disk, name="ntx-ours-1", cluster_id=held.vm.cluster_id, secret="abcDEF123456")


STEPS: dict[str, Callable[[Prism, Held], Awaitable[Any]]] = {
    "vms": lambda prism, held: prism.vms(),
    "vm": lambda prism, held: prism.vm(held.vm_id),
    "cluster": lambda prism, held: prism.cluster(held.vm.cluster_id),
    "stream": lambda prism, held: _streamed(prism),
    "disk_usage": lambda prism, held: prism.disk_usage(),
    "containers": lambda prism, held: prism.containers(),
    "hosts": lambda prism, held: prism.hosts(held.vm.cluster_id),
    "create": _create,
    "create_again": _create_again,
    "regions": _regions,
    "sample": lambda prism, held: prism.sample_regions(held.point("create").disks[0], 1024**2),
    "difference": _difference,
    "attach": lambda prism, held: prism.attach_disk(held.worker, held.point("create_again").disks[0]),
    "attached": lambda prism, held: prism.attached_disks(held.worker),
    "detach": lambda prism, held: prism.detach_disk(held.done["attach"]),
    "data_services": lambda prism, held: prism.data_services(held.vm.cluster_id),
    "make_group": _make_group,
    "admit": lambda prism, held: prism.admit_initiator(held.done["make_group"], "iqn.2026-01.ntx:x", "456defABC123"),
    "volume_groups": lambda prism, held: prism.volume_groups("ntx-ours-"),
    "remove_group": lambda prism, held: prism.remove_volume_group(held.done["make_group"]),
    "recovery_points": lambda prism, held: prism.recovery_points(),
    "recovery_point": lambda prism, held: prism.recovery_point(held.point("create").id, held.vm),
    "delete": lambda prism, held: prism.delete_recovery_point(held.point("create").id),
    "delete_again": lambda prism, held: prism.delete_recovery_point(held.point("create_again").id),
    "no_recovery_point": lambda prism, held: _refused(prism.recovery_point(held.point("create").id, held.vm)),
    "no_vm": lambda prism, held: _refused(prism.vm(ABSENT)),
    "groups": lambda prism, held: prism.attached_groups(held.vm),
    "freeze": lambda prism, held: _freeze_together(prism, held),
    "freeze_again": lambda prism, held: _freeze_together(prism, held),
    "group_regions": lambda prism, held: _group_regions(prism, held, None),
    "group_difference": lambda prism, held: _group_regions(prism, held, "freeze"),
    "attach_group": lambda prism, held: _attach_group(prism, held),
    "detach_group": lambda prism, held: _detach_group(prism, held),
    "delete_frozen": lambda prism, held: _delete_frozen(prism, held, "freeze"),
    "delete_frozen_again": lambda prism, held: _delete_frozen(prism, held, "freeze_again"),
    "shut_down": lambda prism, held: prism.shut_down_guest(held.vm),
    "is_off": lambda prism, held: prism.becomes(held.vm, "off", within_s=60),
    "power_on": lambda prism, held: prism.power_on(held.vm),
}
"""What a capture, a sweep and a cutover ask, in this order."""


async def _freeze_together(prism: Prism, held: Held) -> list[RecoveryPoint]:
    """Freeze the VM with its volume group, and the other VM, where that can be done."""
    if prism.shared_obstacle([held.vm]):
        return []
    groups = [disk for group in held.done["groups"] for disk in group.disks]
    second = next(vm for vm in held.done["vms"] if vm.name == "second")
    vms = [replace(held.vm, disks=(*held.vm.disks, *groups)), second]
    return await prism.create_shared_recovery_point(
        vms,
        name="it's ours",
        consistency="crash",
        expires_at=datetime(2099, 1, 2, tzinfo=UTC),
        vss=dict.fromkeys((vm.id for vm in vms), None),
    )


async def _group_regions(prism: Prism, held: Held, older: str | None) -> list[RegionPage]:
    if not held.done["freeze"]:
        return []
    newer = held.done["freeze_again"][0].disks[-1]
    reference = None if older is None else held.done[older][0].disks[-1]
    return [page async for page in prism.changed_regions(newer, reference)]


async def _attach_group(prism: Prism, held: Held) -> AttachedDisk | None:
    frozen = held.done["freeze_again"]
    return await prism.attach_disk(held.worker, frozen[0].disks[-1]) if frozen else None


async def _detach_group(prism: Prism, held: Held) -> None:
    if held.done["attach_group"] is not None:
        await prism.detach_disk(held.done["attach_group"])


async def _delete_frozen(prism: Prism, held: Held, step: str) -> None:
    for point in held.done[step][:1]:
        await prism.delete_recovery_point(point.id)


async def _freeze(prism: Prism, vm: Vm, consistency: Any) -> RecoveryPoint:
    expires = datetime(2099, 1, 2, tzinfo=UTC)
    return await prism.create_recovery_point(vm, name="it's ours", consistency=consistency, expires_at=expires)


def spoiled(seen: list[Exchange]) -> dict[str, Exchange]:
    """Return exchanges that no SDK would have, by what is wrong with them: they show that the judge judges."""
    created = next(one for one in seen if one.method == "POST" and one.path.endswith("/recovery-points"))
    listed = next(one for one in seen if one.path.endswith("/ahv/config/vms"))
    body, vm = created.body, listed.answer["data"][0]
    return {
        "no SDK has": replace(created, path=created.path + "/$actions/copy"),
        "has no such field": replace(created, body={**body, "expires": "x"}),
        "is no str": replace(created, body={**body, "name": 1}),
        "is not one of": replace(created, body={**body, "recoveryPointType": "GOOD"}),
        "is no list": replace(created, body={**body, "vmRecoveryPoints": {}}),
        "where the SDK sends": replace(created, body=None),
        "query name: not one of": replace(listed, query={"name": "x"}),
        "NTNX-Request-Id": replace(listed, headers={}),
        "answer.data[0].size": replace(listed, answer=listed.answer | {"data": [vm | {"size": 1}]}),
    }

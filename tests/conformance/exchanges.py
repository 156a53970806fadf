"""What our clients send and get: one walk through everything that a capture asks, recorded on the wire."""

from __future__ import annotations

import ssl
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
from ntxengine.prism.models import RecoveryPoint, Vm
from ntxengine.prism.open import open_cluster
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.config import DiskConfig, GuestToolsConfig, VmConfig

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


def config(folder: Path) -> SimConfig:
    """Return a VM with two data disks, a CD-ROM, UEFI variables, a volume group and Guest Tools."""
    disks = [DiskConfig(folder / "a.raw", size=1 << 20), DiskConfig(folder / "b.raw", size=(1 << 20) + 512)]
    disks[0].path.write_bytes(b"data" * 1024)
    vm = VmConfig(VM, disks=disks, cdroms=[DiskConfig(folder / "cd.iso", size=4096, bus="ide")])
    vm.nvram = DiskConfig(folder / "nvram", size=4096)
    vm.guest_tools, vm.volume_groups = GuestToolsConfig(), 1
    return SimConfig(vms=[vm])


async def walk(sim: Simulator, url: str, disk: Path) -> list[Exchange]:
    """Do all that a capture does, and return what went over the wire."""
    tls = ssl.create_default_context(cafile=str(sim.ca_file))
    recorder = Recorder(tls)
    endpoint = Endpoint(url, sim.username, Secret(sim.password), str(sim.ca_file))
    async with await open_cluster(endpoint, endpoint, transport=recorder) as cluster:
        await _capture_and_sweep(cluster.prism, sim, disk)
    await recorder.aclose()
    return recorder.seen


async def _capture_and_sweep(prism: Prism, sim: Simulator, disk: Path) -> None:
    vms = {vm.name: vm for vm in await prism.vms()}
    vm = await prism.vm(vms[VM].id)
    worker = sim.worker_id
    assert worker is not None
    first = await _freeze(prism, vm, "application")
    with disk.open("r+b") as file:
        file.seek(500_000)
        file.write(b"changed")
    second = await _freeze(prism, vm, "crash")
    for newer, older in ((first.disks[0], None), (second.disks[0], first.disks[0])):
        assert [page async for page in prism.changed_regions(newer, older)]
    attached = await prism.attach_disk(worker, second.disks[0])
    assert len(await prism.attached_disks(worker)) == 1
    await prism.detach_disk(attached)
    assert len(await prism.recovery_points()) == 2
    assert (await prism.recovery_point(first.id, vm)).disks == first.disks
    for point in (first, second):
        await prism.delete_recovery_point(point.id)
    with pytest.raises(NotFoundError):
        await prism.recovery_point(first.id, vm)
    with pytest.raises(NotFoundError):
        await prism.vm(ABSENT)


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

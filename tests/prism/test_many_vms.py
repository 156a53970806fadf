"""5,000 VMs at two requests a second, on a clock that is moved by hand: all of them, unrefused, in little memory.

As `ntx vms` and `ntx capture db04999` ask; entities are as long as recorded ones (about 3 KiB).
"""

from __future__ import annotations

import json
import re
import tracemalloc
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from ntxengine.api.cluster import find_vm
from ntxengine.prism.cluster import Cluster
from ntxengine.prism.findings import Findings, Revisions
from ntxengine.prism.http.session import Session, tls_context
from ntxengine.prism.v4.central import CentralPrism
from ntxengine.units import MIB
from tests.prism.hostile import HandClock

COUNT, RATE = 5000, 2


def name(number: int) -> str:
    return f"db{number:05}"


def vm(number: int) -> dict[str, Any]:
    def disk(index: int) -> dict[str, Any]:
        disk_id = str(uuid.UUID(int=number * 100 + index + 1))
        backing = {"$objectType": "vmm.v4.ahv.config.VmDisk", "diskExtId": disk_id, "diskSizeBytes": 1 << 40}
        backing["storageContainer"] = {"extId": str(uuid.UUID(int=7))}
        return {"extId": disk_id, "diskAddress": {"busType": "SCSI", "index": index}, "backingInfo": backing}

    nics = [{"extId": str(uuid.UUID(int=index)), "networkInfo": {"text": "x" * 500}} for index in range(3)]
    return {
        "$objectType": "vmm.v4.ahv.config.Vm",
        "extId": str(uuid.UUID(int=number + 10**9)),
        "name": name(number),
        "powerState": "ON",
        "disks": [disk(index) for index in range(3)],
        "nics": nics,
    }


class Prism:
    """A Prism Central that counts its requests by the second, as the recorded headers say."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.asked = 0
        self.refused = 0
        self.seconds: Counter[tuple[str, int]] = Counter()
        self.bodies = [json.dumps(vm(number)) for number in range(COUNT)]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, second = request.url.path, int(self.clock.time_s)
        call = "one" if path.rpartition("/")[2] != "vms" else "list"
        limit = RATE if call == "list" else 10
        self.asked += 1
        self.seconds[call, second] += 1
        headers = {
            "X-Api-Ratelimit-Limit": str(limit),
            "X-Api-Ratelimit-Remaining": str(max(0, limit - self.seconds[call, second])),
            "X-Api-Ratelimit-Refresh-Period-Seconds": "1",
        }
        if self.seconds[call, second] > limit:
            self.refused += 1
            return httpx.Response(429, headers=headers, json={})
        self.clock.time_s += 0.02
        if call == "list":
            return httpx.Response(200, headers=headers, content=self._page(request))
        number = uuid.UUID(path.rpartition("/")[2]).int - 10**9
        return httpx.Response(200, headers=headers, content=f'{{"data": {self.bodies[number]}}}')

    def _page(self, request: httpx.Request) -> str:
        query = request.url.params
        numbers = list(range(COUNT))
        if wanted := re.fullmatch(r"name eq 'db(\d+)'", query.get("$filter", "")):
            numbers = [int(wanted[1])]
        page, limit = int(query["$page"]), int(query["$limit"])
        assert 1 <= limit <= 100
        chosen = ",".join(self.bodies[number] for number in numbers[page * limit : (page + 1) * limit])
        return f'{{"data": [{chosen}], "metadata": {{"totalAvailableResults": {len(numbers)}}}}}'


@pytest.fixture
def server(clock: HandClock) -> Prism:
    return Prism(clock)


@pytest.fixture
async def prism(server: Prism, clock: HandClock) -> AsyncIterator[CentralPrism]:
    tls = tls_context(None, insecure=False)
    transport = httpx.MockTransport(server)
    session = Session("pc", 9440, tls, account=None, timeout_s=600, clock=clock.clock, transport=transport)

    async def no_element(host: str) -> Session:
        pytest.fail(f"{host} was asked")

    opened = CentralPrism(session, Revisions(), no_element)
    yield opened
    await opened.aclose()


async def test_five_thousand_vms_are_listed_within_the_limits(
    prism: CentralPrism, server: Prism, clock: HandClock
) -> None:
    begun_s = clock.time_s
    tracemalloc.start()
    try:
        listed = await prism.list_vms()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert [found.name for found in listed.vms] == [name(number) for number in range(COUNT)]
    assert listed.odd == ()
    assert all(len(found.disks) == 3 for found in listed.vms)
    assert server.refused <= 1
    assert server.asked <= 60
    assert clock.time_s - begun_s < 60
    assert peak < 100 * MIB


async def test_five_thousand_vms_are_streamed_in_little_memory(prism: CentralPrism, server: Prism) -> None:
    count = 0
    first_s = server.clock.time_s
    tracemalloc.start()
    try:
        async for _ in prism.stream_vms():
            count += 1
            if count == 1:
                assert server.asked == 1, "the first VM comes with the first page"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == COUNT
    assert server.clock.time_s - first_s < 60
    assert peak < 12 * MIB


async def test_one_of_five_thousand_takes_two_requests(prism: CentralPrism, server: Prism) -> None:
    found = await find_vm(Cluster(prism, Findings("v4")), name(COUNT - 1))

    assert found.name == name(COUNT - 1)
    assert found.config["powerState"] == "ON"
    assert (server.asked, server.refused) == (2, 0)

"""What never left is a clear no; what is refused after it was asked for is none."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from ntxengine.errors import NotFoundError, PrismBusy, PrismConnectionError, PrismStatusError
from ntxengine.prism import Endpoint, Family, Prism, Secret
from ntxengine.prism.http.error_body import was_rejected
from ntxengine.prism.http.session import Request, Session, tls_context
from ntxengine.prism.open import open_cluster
from ntxengine.sim import Simulator
from ntxengine.sim.faults import HttpFault
from tests.prism.conftest import Connect
from tests.prism.hostile import Asked, HandClock, Hostile, reply
from tests.prism.steps import freeze, points, subject

CREATES = {"v4": r"/config/recovery-points$", "v3": r"/vm_snapshots$"}
LOOKS = {"v4": r"/config/recovery-points", "v3": r"/vm_snapshots/"}
ATTACHES = {"v4": r"/disks$", "v3": r"/disks/attach$"}


class Unreachable(httpx.AsyncBaseTransport):
    """The network, with no connection for a POST to one place."""

    def __init__(self, sim: Simulator) -> None:
        self._network = httpx.AsyncHTTPTransport(verify=tls_context(str(sim.ca_file), insecure=False))
        self.path = ""
        self.after: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.path and request.method == "POST" and re.search(self.path, request.url.path):
            self.after.clear()
            raise httpx.ConnectError("no route", request=request)
        self.after.append(request)
        return await self._network.handle_async_request(request)

    async def aclose(self) -> None:
        await self._network.aclose()


@contextlib.asynccontextmanager
async def opened(sim: Simulator, family: Family) -> AsyncIterator[tuple[Prism, Unreachable]]:
    url = sim.central_url if family == "v4" else sim.element_url
    endpoint = Endpoint(url, sim.username, Secret(sim.password), str(sim.ca_file))
    async with (
        contextlib.aclosing(Unreachable(sim)) as network,
        await open_cluster(endpoint, endpoint, transport=network, clock=HandClock().clock) as cluster,
    ):
        yield cluster.prism, network


@pytest.mark.parametrize("family", ["v3", "v4"])
async def test_a_freeze_that_never_left_is_looked_for_nowhere(
    sim: Simulator, family: Family, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(sim, family) as (prism, network):
        vm = await subject(prism)
        network.path = CREATES[family]

        with pytest.raises(PrismConnectionError, match="no connection"):
            await freeze(prism, vm)

        assert network.after == []
    assert "answer is lost" not in caplog.text


@pytest.mark.parametrize("family", ["v3", "v4"])
async def test_a_hot_add_that_never_left_is_looked_for_nowhere(
    sim: Simulator, family: Family, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(sim, family) as (prism, network):
        point = await freeze(prism, await subject(prism))
        network.path = ATTACHES[family]

        with pytest.raises(PrismConnectionError, match="no connection"):
            await prism.attach_disk(sim.worker_id or "", point.disks[0])

        assert network.after == []
    assert "answer is lost" not in caplog.text


@pytest.mark.parametrize("family", ["v3", "v4"])
async def test_a_no_to_the_search_for_a_freeze_does_not_leave_it_there(
    sim: Simulator, connect: Connect, family: Family
) -> None:
    async with connect(family) as prism:
        vm = await subject(prism)
        sim.faults.http += [
            HttpFault(path=CREATES[family], method="POST", status=504, count=-1, executed=True),
            HttpFault(path=LOOKS[family], method="GET", status=409),
        ]

        with pytest.raises(PrismStatusError, match="HTTP 409"):
            await freeze(prism, vm)

    assert points(sim) == 0


@pytest.mark.parametrize("family", ["v3", "v4"])
async def test_a_404_to_a_freeze_that_may_have_been_done_leaves_nothing_there(
    sim: Simulator, connect: Connect, family: Family
) -> None:
    sim.faults.http += [
        HttpFault(path=CREATES[family], method="POST", status=504, executed=True),
        HttpFault(path=CREATES[family], method="POST", status=404),
    ]
    async with connect(family) as prism:
        with pytest.raises(NotFoundError):
            await freeze(prism, await subject(prism))

    assert points(sim) == 0


@pytest.mark.parametrize("status", [503, 429])
async def test_a_turn_that_does_not_come_is_a_no_unless_an_earlier_try_was_sent(
    hostile: Hostile, session: Session, status: int
) -> None:
    create = Request("POST", "/thing", body={"a": 1})

    def refuse(one: Asked) -> bytes:
        session._limiter.hold(create.api, 1000)
        return reply(status, {})

    hostile.on("POST /thing", refuse)

    with pytest.raises(PrismBusy, match="no turn within 300 s") as busy:
        await session.ask(create)

    assert was_rejected(busy.value) is (status == 429)

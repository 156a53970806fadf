"""What Prism tells of a cluster only informs: without it, everything goes on."""

from __future__ import annotations

import logging
import uuid
from typing import Any

import pytest

from ntxengine.api.inventory import VmFilter, search_vms
from ntxengine.errors import NotFoundError, PrismBusy
from ntxengine.prism.cluster import Cluster, Prism
from ntxengine.prism.http.session import Session
from ntxengine.prism.kept import FAILED_S, KEPT_S
from ntxengine.prism.models import ClusterFacts, Family, Vm
from ntxengine.prism.v3.element import ElementPrism
from ntxengine.prism.v4.central import CentralPrism
from ntxengine.sim import Simulator
from tests.prism.conftest import Connect
from tests.prism.hostile import HandClock, Hostile, reply

CLUSTER, OTHER = (str(uuid.UUID(int=number)) for number in (1, 2))
PATHS = {"v4": f"GET /clusters/{CLUSTER}", "v3": "GET /v2.0/cluster"}

both = pytest.mark.parametrize("family", ["v4", "v3"])


@pytest.fixture
def prism(family: Family, session: Session, hostile_central: CentralPrism) -> Prism:
    return hostile_central if family == "v4" else ElementPrism(session)


@both
@pytest.mark.parametrize(
    "answer",
    [
        reply(503, b"busy"),
        reply(503, {}),
        reply(504, {}),
        reply(500, b"Internal Server Error"),
        reply(500, {}),
        b"X-Close",
    ],
    ids=["plain 503", "503", "504", "plain 500", "500", "cut off"],
)
async def test_a_failure_that_may_pass_is_a_warning(
    hostile: Hostile, prism: Prism, family: Family, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    hostile.on(PATHS[family], answer)

    assert await prism.cluster(CLUSTER) == ClusterFacts(CLUSTER, may_be_told_later=True)

    assert [text for text in caplog.messages if text.startswith(f"nothing is told of cluster {CLUSTER}: ")]


@both
@pytest.mark.parametrize(
    "answer",
    [reply(status, {}) for status in (400, 401, 403, 404, 501)] + [reply(200, []), reply(200, b"x")],
    ids=["400", "401", "403", "404", "501", "a list", "no JSON"],
)
async def test_a_no_is_taken_without_a_word(
    hostile: Hostile, prism: Prism, family: Family, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    hostile.on(PATHS[family], answer)

    assert await prism.cluster(CLUSTER) == ClusterFacts(CLUSTER)

    assert caplog.messages == []


@pytest.mark.parametrize("family", ["v4"])
async def test_what_is_told_of_another_cluster_is_not_believed(
    hostile: Hostile, prism: Prism, clock: HandClock
) -> None:
    told: dict[str, Any] = {"name": "c", "config": {"buildInfo": {"fullVersion": "el8.5-release-ganges-7.0.1-x"}}}

    hostile.on(PATHS["v4"], reply(200, {"data": {"extId": CLUSTER, **told}}))
    assert (await prism.cluster(CLUSTER)).version.numbers == (7, 0, 1)

    clock.time_s += KEPT_S
    hostile.on(PATHS["v4"], reply(200, {"data": {"extId": OTHER, **told}}))
    assert await prism.cluster(CLUSTER) == ClusterFacts(CLUSTER)


@both
@pytest.mark.parametrize(
    ("told", "address"),
    [("10.0.0.5", "10.0.0.5"), ("FD00::5", "fd00::5"), ("evil.example", ""), ("0.0.0.0", ""), ("a b", ""), ("", "")],
)
async def test_an_address_of_a_cluster_is_one_that_may_be_connected_to(
    hostile: Hostile, prism: Prism, family: Family, told: str, address: str
) -> None:
    network = {kind: {"ipv4": {"value": told}} for kind in ("externalAddress", "externalDataServiceIp")}
    legacy = {"cluster_external_ipaddress": told, "cluster_external_data_services_ipaddress": told}
    of_v4 = {"data": {"extId": CLUSTER, "network": network}}
    hostile.on(PATHS[family], reply(200, of_v4 if family == "v4" else legacy))

    assert (await prism.cluster(CLUSTER)).address == address
    assert await prism.data_services(CLUSTER) == address


@both
async def test_a_cluster_that_has_no_name_for_a_moment_is_no_cluster_of_another_name(
    hostile: Hostile, prism: Prism, family: Family, clock: HandClock
) -> None:
    vm = {"extId": OTHER, "name": "a", "cluster": {"extId": CLUSTER}}
    v3 = {"name": "a", "cluster_reference": {"uuid": CLUSTER}, "resources": {}}
    hostile.on("GET /ahv/config/vms", reply(200, {"data": [vm], "metadata": {"totalAvailableResults": 1}}))
    entity = {"metadata": {"uuid": OTHER}, "status": v3}
    hostile.on("POST /vms/list", reply(200, {"entities": [entity], "metadata": {"total_matches": 1}}))
    hostile.on(PATHS[family], reply(504, {}))

    with pytest.raises(PrismBusy, match=f"what cluster {CLUSTER} is called"):
        await _on(prism, "pe1")
    assert await _on(prism, CLUSTER.upper()) == ["a"]
    with pytest.raises(NotFoundError):
        await _on(prism, OTHER)

    clock.time_s += FAILED_S
    told = {"extId": CLUSTER, "name": "pe1", "uuid": CLUSTER}
    hostile.on(PATHS[family], reply(200, {"data": told} if family == "v4" else told))
    assert await _on(prism, "pe1") == ["a"]
    with pytest.raises(NotFoundError, match="VMs are on pe1"):
        await _on(prism, "pe2")


async def _on(prism: Prism, cluster: str) -> list[str]:
    found = search_vms(Cluster(prism, prism.findings), VmFilter(cluster))
    return [vm.name async for vm in found if isinstance(vm, Vm)]


@pytest.mark.parametrize(
    ("whole", "family", "told"),
    [
        (True, "v4", (True, "SOFTWARE", False)),
        (False, "v4", (False, "SOFTWARE", False)),
        (True, "v3", (True, "", None)),
        (False, "v3", (False, "", None)),
    ],
)
async def test_what_a_cluster_encrypts(
    connect: Connect, sim: Simulator, family: Family, whole: bool, told: tuple[object, ...]
) -> None:
    config = sim.world.clusters[0].config
    config.encrypted, config.containers[0].encrypted = whole, True

    async with connect(family) as prism:
        found = await prism.cluster(sim.world.cluster_id)

    assert (found.is_encrypted, found.encryption, found.encrypts_traffic) == told

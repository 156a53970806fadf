"""What Prism tells of storage containers, hosts, disks and categories; it only informs, so nothing ends without it."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import Any

import pytest

from ntxengine.api.inventory import VmFilter, details_of, search_vms
from ntxengine.errors import PrismStatusError
from ntxengine.prism import kept
from ntxengine.prism.cluster import Cluster, Prism, cvm_of
from ntxengine.prism.http.session import Session
from ntxengine.prism.kept import KEPT_S, MAX_KEPT, Kept
from ntxengine.prism.models import Container, Disk, DiskUsage, Family, OddVm, Vm
from ntxengine.prism.v3.element import ElementPrism
from ntxengine.prism.v4.central import CentralPrism
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.clusters import ClusterConfig, ContainerConfig, HostConfig
from ntxengine.sim.config import DiskConfig, VmConfig
from ntxengine.units import MIB
from tests.prism.conftest import Connect
from tests.prism.hostile import HANG, HandClock, Hostile, reply

both = pytest.mark.parametrize("family", ["v4", "v3"])
ID, OTHER = (str(uuid.UUID(int=number)) for number in (1, 2))
WANTED = ["Env=prod"]
LISTS = {"v4": "GET /config/storage-containers", "v3": "GET /v2.0/storage_containers"}


@pytest.fixture
def config(config: SimConfig, tmp_path: Path) -> SimConfig:
    """Two clusters behind one Prism Central, with a VM on each."""
    fast = ContainerConfig("fast", compression=True, dedup=True, encrypted=True, erasure_code=True)
    fast.nfs_allowed = ["10.1.0.0/255.255.0.0"]
    config.containers.append(fast)
    config.nfs_allowed = ["10.0.0.0/255.255.255.0"]
    config.hosts = [HostConfig(["pcie", "hdd"]), HostConfig(cvm="10.0.0.9", compute_only=True)]
    config.clusters = [ClusterConfig("pe2", "127.0.0.12", containers=[ContainerConfig("default", internal=True)])]
    config.vms[1].categories = ["Environment=Production", "App=db", "App=web"]
    far = VmConfig("far", disks=[DiskConfig(tmp_path / "far.raw", size=MIB)], cluster="pe2")
    config.vms.append(far)
    return config


@pytest.fixture
def prism(family: Family, session: Session, hostile_central: CentralPrism) -> Prism:
    return hostile_central if family == "v4" else ElementPrism(session)


async def _vm(prism: Prism, name: str) -> Vm:
    [found] = [vm for vm in await prism.vms() if vm.name == name]
    return found


@both
async def test_the_containers_of_all_clusters(connect: Connect, sim: Simulator, family: Family) -> None:
    async with connect(family) as prism:
        found = {(one.cluster_id, one.name): one for one in await prism.containers()}
        cluster = await prism.cluster(sim.world.cluster_id)

    first, second = sim.world.clusters
    plain, fast = found[first.id, "default"], found[first.id, "fast"]
    settings = [
        (one.is_compressed, one.has_dedup, one.is_encrypted, one.is_erasure_coded, one.is_internal)
        for one in (plain, fast)
    ]
    assert settings == [(False,) * 5, (True, True, True, True, False)]
    assert plain.id == sim.world.container_id("default")
    assert (plain.inherits_nfs, fast.inherits_nfs) == (True, False)
    assert plain.nfs_allowed is None
    assert cluster.nfs_allowed == ("10.0.0.0/255.255.255.0",)
    assert cluster.storage_type == ("" if family == "v4" else "MIXED")
    assert fast.nfs_allowed == (("10.1.0.0/16",) if family == "v4" else ("10.1.0.0/255.255.0.0",))
    if family == "v4":  # a Prism Element knows its own cluster alone
        assert found[second.id, "default"].is_internal
    assert len(found) == (3 if family == "v4" else 2)


@both
async def test_the_hosts_of_a_cluster_and_the_controller_vm_of_a_vm(
    connect: Connect, sim: Simulator, family: Family
) -> None:
    async with connect(family) as prism:
        vm = await _vm(prism, "other")
        hosts = await prism.hosts(vm.cluster_id)

        known = [host.id for host in sim.world.cluster.hosts]
        assert [host.id for host in hosts] == known
        assert [host.cvm_address for host in hosts] == ["127.0.0.2", "10.0.0.9"]
        assert [host.tiers for host in hosts] == [("PCIE_SSD", "HDD"), ()]
        assert await cvm_of(prism, vm) == hosts[known.index(vm.host_id or "")].cvm_address
        assert await prism.hosts(OTHER) == []


@both
async def test_a_vm_that_does_not_run_has_no_controller_vm(
    connect: Connect, config: SimConfig, sim: Simulator, family: Family
) -> None:
    config.vms[1].power = "off"

    async with connect(family) as prism:
        assert await cvm_of(prism, await _vm(prism, "other")) == ""


async def test_vms_of_all_clusters_are_seen_through_prism_central(connect: Connect, sim: Simulator) -> None:
    async with connect("v4") as prism:
        clusters = {vm.name: (await prism.cluster(vm.cluster_id)).name for vm in await prism.vms()}

    assert (clusters["other"], clusters["far"]) == ("pe1", "pe2")


@both
async def test_categories_are_told_by_name(connect: Connect, family: Family) -> None:
    async with connect(family) as prism:
        found = {vm.name: vm.categories async for vm in prism.stream_vms(categories=WANTED) if isinstance(vm, Vm)}

    assert found["other"] == ("App=db", "App=web", "Environment=Production")
    assert found["ntx-worker"] == ()


async def test_categories_that_were_not_asked_for_are_not_told(connect: Connect, sim: Simulator) -> None:
    async with connect("v4") as prism:
        found = [vm async for vm in prism.stream_vms() if isinstance(vm, Vm)]

    assert {vm.categories for vm in found} == {None}
    assert not any(request.path.endswith("/categories") for request in sim.requests)


async def test_categories_that_may_not_be_read_are_an_error(connect: Connect, sim: Simulator) -> None:
    sim.faults.lacking_rights.append("View Category")

    async with connect("v4") as prism:
        with pytest.raises(PrismStatusError, match="View Category"):
            async for _ in prism.stream_vms(categories=WANTED):
                pass


async def test_what_disks_take_is_told_by_v3_alone(connect: Connect, config: SimConfig) -> None:
    async with connect("v3") as prism:
        usage = await prism.disk_usage()
        vm = await _vm(prism, "other")
        taken = config.vms[1].disks[0].path.stat().st_blocks * 512
        first = [(await _vm(prism, config.vms[0].name)).disks[0].id]

    assert usage[vm.disks[0].id].used == taken
    assert usage[first[0]].used == config.vms[0].disks[0].path.stat().st_blocks * 512
    async with connect("v4") as prism:
        assert await prism.disk_usage() == {}


@both
async def test_a_list_is_asked_for_once(connect: Connect, sim: Simulator, clock: HandClock, family: Family) -> None:
    def asked() -> int:
        return sum(LISTS[family].partition(" ")[2] in request.path for request in sim.requests)

    async with connect(family) as prism:
        assert await prism.containers() == await prism.containers()
        assert asked() == 1

        clock.time_s += KEPT_S
        await prism.containers()

        assert asked() == 2


@both
async def test_no_more_is_read_of_a_list_than_a_cluster_can_have(
    connect: Connect, family: Family, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(f"ntxengine.prism.{family}.facts.MAX_LISTED", 1)
    async with connect(family) as prism:
        found = await prism.containers()

    assert len(found) == 1
    assert "more than 1 times storage container in a list: the rest is left out" in caplog.text


@both
@pytest.mark.parametrize("status", [403, 404, 501])
async def test_what_may_not_be_read_is_not_told_and_not_asked_again(
    hostile: Hostile, prism: Prism, family: Family, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    hostile.on(LISTS[family], reply(status, {}))

    assert await prism.containers() == []
    assert await prism.hosts(ID) == []
    asked = len(hostile.asked)
    assert await prism.containers() == []
    assert await prism.hosts(ID) == []

    assert len(hostile.asked) == asked
    assert caplog.messages == []


@both
async def test_what_failed_in_passing_is_a_warning_and_asked_again_after_a_minute(
    hostile: Hostile, prism: Prism, clock: HandClock, family: Family, caplog: pytest.LogCaptureFixture
) -> None:
    """Not at once: whoever captures many VMs would wait for each of them."""
    container = {"containerExtId": ID, "name": "c", "storage_container_uuid": ID}
    hostile.on(
        LISTS[family], reply(504, {}), reply(504, {}), reply(504, {}), reply(504, {}), _listed(family, container)
    )

    assert await prism.containers() == []
    assert [text for text in caplog.messages if text.startswith("nothing is told of storage containers: ")]
    asked = len(hostile.asked)
    assert await prism.containers() == []
    assert len(hostile.asked) == asked
    clock.time_s += kept.FAILED_S
    assert [one.name for one in await prism.containers()] == ["c"]


@both
@pytest.mark.parametrize(
    "odd",
    [{}, {"name": None}, {"name": 1}, [], None, "x", {"containerExtId": "../x", "storage_container_uuid": "../x"}],
    ids=["no id", "null", "a number", "a list", "null itself", "text", "no uuid"],
)
async def test_a_container_that_cannot_be_read_hides_no_other(
    hostile: Hostile, prism: Prism, family: Family, odd: Any
) -> None:
    good = {"containerExtId": ID, "storage_container_uuid": ID, "name": "good\n"}
    hostile.on(LISTS[family], _listed(family, odd, good))

    found = await prism.containers()

    assert found == [Container(ID, "good")]


@both
async def test_a_container_of_which_nothing_is_said_is_unknown_in_all(
    hostile: Hostile, prism: Prism, family: Family
) -> None:
    words = {"onDiskDedup": "PERHAPS", "on_disk_dedup": None, "erasureCode": "$UNKNOWN", "erasure_code": ""}
    hostile.on(LISTS[family], _listed(family, {"containerExtId": ID, "storage_container_uuid": ID, **words}))

    assert await prism.containers() == [Container(ID, "")]


@both
@pytest.mark.parametrize("address", ["cvm.example.com", "0.0.0.0", "224.0.0.1", "fe80::1%eth0", "", "1.2.3.4/8"])
async def test_a_controller_vm_is_an_address_or_not_known(
    hostile: Hostile, prism: Prism, family: Family, address: str
) -> None:
    v4 = {"extId": ID, "hostName": "h", "controllerVm": {"externalAddress": {"ipv4": {"value": address}}}}
    v3 = {"metadata": {"uuid": ID}, "status": {"name": "h", "resources": {"controller_vm": {"ip": address}}}}
    hostile.on("GET /hosts", reply(200, {"data": [v4], "metadata": {"totalAvailableResults": 1}}))
    hostile.on("POST /hosts/list", reply(200, {"entities": [v3], "metadata": {"total_matches": 1}}))

    [host] = await prism.hosts(OTHER)

    assert host.cvm_address == ""


@both
@pytest.mark.parametrize(
    ("categories", "odd_in"),
    [(nothing, "") for nothing in (None, {}, [])]
    + [(odd, "v3 v4") for odd in ([None], [1], "x", [{"extId": 7}])]
    + [(pairs, "v4") for pairs in ({"a": {"b": 1}}, {"k": [1]})],
)
async def test_odd_categories_keep_nobody_from_reading_the_vm(
    hostile: Hostile, prism: Prism, family: Family, categories: Any, odd_in: str
) -> None:
    _with_categories(hostile, categories)

    [vm] = [found async for found in prism.stream_vms(categories=WANTED)]
    found = [each async for each in search_vms(Cluster(prism, prism.findings), VmFilter(categories=("Env=prod",)))]

    assert not isinstance(vm, OddVm)
    assert vm.categories == ()
    assert found == ([OddVm(ID, "a", "Prism does not tell all of its categories")] if family in odd_in else [])


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [(["Env=prod"], "a"), (["Env=test"], ""), (["Env=none"], "odd"), (["Env=prod", "Env=none"], "a")],
)
async def test_a_category_without_a_name_may_be_one_that_is_looked_for_and_has_none(
    hostile: Hostile, hostile_central: CentralPrism, wanted: list[str], expected: str
) -> None:
    _with_categories(hostile, [{"extId": ID}, {"extId": str(uuid.UUID(int=3))}])
    named = [{"extId": ID, "key": "Env", "value": "prod"}, {"extId": OTHER, "key": "Env", "value": "test"}]
    hostile.on("GET /config/categories", reply(200, {"data": named, "metadata": {"totalAvailableResults": 2}}))
    cluster = Cluster(hostile_central, hostile_central.findings)

    found = [vm async for vm in search_vms(cluster, VmFilter(categories=tuple(wanted)))]

    assert ["odd" if isinstance(vm, OddVm) else vm.name for vm in found] == ([expected] if expected else [])


def _with_categories(hostile: Hostile, categories: Any) -> None:
    v4 = {"extId": ID, "name": "a", "categories": categories}
    v3 = {"metadata": {"uuid": ID, "categories": categories, "categories_mapping": categories}}
    v3["status"] = {"name": "a", "resources": {}}
    hostile.on("GET /ahv/config/vms", reply(200, {"data": [v4], "metadata": {"totalAvailableResults": 1}}))
    hostile.on("GET /config/categories", reply(200, {"data": [], "metadata": {"totalAvailableResults": 0}}))
    hostile.on("POST /vms/list", reply(200, {"entities": [v3], "metadata": {"total_matches": 1}}))


@pytest.mark.parametrize(
    ("stats", "expected"),
    [
        ({}, DiskUsage()),
        (None, DiskUsage()),
        ({"controller.storage_tier.ssd.usage_bytes": "-1"}, DiskUsage()),
        ({"controller.storage_tier.ssd.usage_bytes": "9" * 40}, DiskUsage()),
        ({"controller.storage_tier.ssd.usage_bytes": [7]}, DiskUsage()),
        ({"controller.storage_tier.ssd.usage_bytes": "0"}, DiskUsage(0)),
        (
            {"controller.storage_tier.ssd.usage_bytes": "5", "controller.storage_tier.das-sata.usage_bytes": 7},
            DiskUsage(12, ("SSD", "DAS-SATA")),
        ),
    ],
)
async def test_what_a_disk_takes_is_unknown_and_not_nothing(
    hostile: Hostile, session: Session, stats: Any, expected: DiskUsage
) -> None:
    hostile.on("GET /v2.0/virtual_disks", reply(200, {"entities": [{"device_uuid": ID, "stats": stats}]}))

    assert await ElementPrism(session).disk_usage() == {ID: expected}


@both
async def test_what_fails_in_passing_is_asked_for_once_and_not_for_each_vm(
    hostile: Hostile, prism: Prism, family: Family
) -> None:
    for what in (
        "GET /hosts",
        "POST /hosts/list",
        "GET /v2.0/virtual_disks",
        "GET /v2.0/cluster",
        f"GET /clusters/{OTHER}",
        LISTS[family],
    ):
        hostile.on(what, reply(504, {}))
    disks = (Disk(ID, MIB, "scsi", 0, OTHER, "told by the VM"),)
    vms = [Vm(str(uuid.UUID(int=number)), "vm", "on", OTHER, None, disks) for number in range(3)]

    found = [await details_of(prism, vms[0])]
    asked = len(hostile.asked)
    found += [await details_of(prism, vm) for vm in vms[1:]]

    assert len(hostile.asked) == asked
    assert {(each.storage[ID].tier, each.storage[ID].container.name, each.usage[ID].used) for each in found} == {
        (None, "told by the VM", None)
    }


@both
async def test_a_silent_prism_holds_nobody_up(
    hostile: Hostile, prism: Prism, family: Family, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kept, "LONGEST_S", 0.2)
    hostile.on(LISTS[family], HANG)

    assert await prism.containers() == []

    assert caplog.messages == ["nothing is told of storage containers: not within 0.2 s"]


async def test_not_more_than_so_many_answers_are_kept(clock: HandClock) -> None:
    answers = Kept[int](clock.clock, 0)
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        return asked

    for number in range(MAX_KEPT + 1):
        await answers.get(f"cluster {number}", ask)
    assert await answers.get("cluster 1", ask) == 2
    assert await answers.get("cluster 0", ask) == MAX_KEPT + 2


def _listed(family: Family, *entities: Any) -> bytes:
    if family == "v3":
        return reply(200, {"entities": entities, "metadata": {}})
    return reply(200, {"data": entities, "metadata": {"totalAvailableResults": len(entities)}})

"""`ntx vms` of several clusters behind one Prism Central: what is wanted, what is known of it, page by page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.clusters import ClusterConfig, ContainerConfig, HostConfig
from ntxengine.sim.config import DiskConfig, GuestToolsConfig, VmConfig
from ntxengine.sim.faults.http import HttpFault
from ntxengine.sim.simulator import run_in_thread
from ntxengine.units import MIB
from tests.cli.ntx import Ran, assert_refused, ntx
from tests.cli.test_json import problems
from tests.support.servers import require

MANY = 130


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """Two clusters; the second has flash and disks, and a container that compresses and deduplicates."""
    folder = tmp_path_factory.mktemp("clusters")

    def vm(name: str, *categories: str, cluster: str | None = None, container: str = "default") -> VmConfig:
        disk = DiskConfig(folder / f"{name}.raw", size=MIB, container=container)
        return VmConfig(name, disks=[disk], cluster=cluster, categories=list(categories))

    near, far = vm("near", "Env=prod", "App=db"), vm("far", "Env=test", cluster="pe2", container="fast")
    off, silent = vm("off", "Env=prod", "App=web"), vm("silent", "Env=prod", "Env=both", cluster="pe2")
    near.guest_tools, off.power = GuestToolsConfig(), "off"
    silent.guest_tools = GuestToolsConfig(can_quiesce=None)
    fast = ContainerConfig("fast", compression=True, dedup=True)
    second = ClusterConfig("pe2", "127.0.0.12", [HostConfig(["pcie", "hdd"])], [ContainerConfig(), fast])
    config = SimConfig(vms=[near, far, off, silent], clusters=[second], categories=["Env=nobody"], central_first=True)
    with run_in_thread(config, folder / "sim") as sim:
        yield sim


def names(ran: Ran) -> list[str]:
    assert ran.code == 0, ran.err
    return [vm["vm_name"] for vm in ran.json["vms"]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["far", "near", "ntx-worker", "off", "silent"]),
        (["--cluster", "pe2"], ["far", "silent"]),
        (["--cluster", "pe1", "--powered-on"], ["near", "ntx-worker"]),
        (["--guest-tools"], ["near", "silent"]),
        (["--category", "Env=prod"], ["near", "off", "silent"]),
        (["--category", "Env=prod", "--category", "Env=test"], ["far", "near", "off", "silent"]),
        (["--category", "Env=prod", "--category", "App=db"], ["near"]),
        (["--category", "Env=prod", "--category", "App=db", "--category", "App=web"], ["near", "off"]),
        (["--category", "Env=both", "--cluster", "pe2"], ["silent"]),
        (["--category", "Env=nobody"], []),
        (["--category", "No=such"], []),
    ],
)
def test_what_is_wanted_is_listed_and_nothing_else(
    cluster: Simulator, arguments: list[str], expected: list[str]
) -> None:
    assert names(ntx("vms", "--json", *arguments, env=cluster.env)) == expected


def test_a_cluster_may_be_named_by_its_uuid(cluster: Simulator) -> None:
    second = cluster.world.clusters[1]

    assert names(ntx("vms", "--json", "--cluster", second.id.upper(), env=cluster.env)) == ["far", "silent"]


def test_a_cluster_that_no_vm_is_on_is_an_error_that_names_those_there_are(cluster: Simulator) -> None:
    ran = ntx("vms", "--cluster", "pe3", env=cluster.env)

    assert_refused(ran, 10, "'pe3'", "pe1, pe2")


@pytest.mark.parametrize("value", ["Env", "=x", "Env=", ""])
def test_a_category_without_key_or_value_is_refused(cluster: Simulator, value: str) -> None:
    assert_refused(ntx("vms", "--category", value, env=cluster.env), 2, "--category", "KEY=VALUE")


def test_what_is_known_of_each(cluster: Simulator) -> None:
    ran = ntx("vms", "--json", env=cluster.env)

    assert problems(ran.json, "vms.json") == []
    by_name = {vm["vm_name"]: vm for vm in ran.json["vms"]}
    assert [by_name[name]["cluster_name"] for name in ("near", "far")] == ["pe1", "pe2"]
    (near,), (far,) = by_name["near"]["disks"], by_name["far"]["disks"]
    assert (near["container_name"], near["container_compressed"], near["tier"]) == ("default", False, "SSD")
    assert (far["container_name"], far["container_compressed"], far["container_dedup"]) == ("fast", True, True)
    assert far["tier"] == "HYBRID"
    assert near["bytes_used"] is None, "v4 does not tell, and nothing is no 0"
    consistent = {
        name: (vm["application_consistent"], vm["application_consistent_reason"]) for name, vm in by_name.items()
    }
    assert consistent["near"] == (True, "")
    assert consistent["off"] == (False, "the VM is off, not on")
    assert consistent["far"] == (False, "Guest Tools are not installed")
    assert consistent["silent"] == (None, "Prism does not say whether the VM can quiesce")


def test_a_prism_element_knows_its_own_vms_and_what_their_disks_take(cluster: Simulator) -> None:
    ran = ntx("vms", "--json", "--api", "v3", env=cluster.env | {"NTX_PRISM": cluster.element_url})

    assert problems(ran.json, "vms.json") == []
    assert names(ran) == ["near", "ntx-worker", "off"]
    assert ran.json["vms"][0]["categories"] == ["App=db", "Env=prod"]
    (disk,) = ran.json["vms"][0]["disks"]
    near = next(vm for vm in cluster.config.vms if vm.name == "near")
    assert disk["bytes_used"] == near.disks[0].path.stat().st_blocks * 512


def test_a_wide_table_has_cluster_and_tier(cluster: Simulator) -> None:
    ran = ntx("vms", "-o", "wide", "--category", "Env=test", env=cluster.env)

    heading, row = ran.out.splitlines()
    assert heading.split()[-3:] == ["CLUSTER", "TIER", "HOST"]
    assert row.split()[-3:-1] == ["pe2", "HYBRID"]


def test_what_keeps_guest_tools_is_said(tmp_path: Path) -> None:
    states = {
        "disabled": GuestToolsConfig(enabled=False),
        "not reachable": GuestToolsConfig(reachable=False),
        "cannot quiesce": GuestToolsConfig(can_quiesce=False),
    }
    vms = [
        VmConfig(words.replace(" ", "-"), disks=[DiskConfig(tmp_path / f"{words}.raw", size=MIB)], guest_tools=tools)
        for words, tools in states.items()
    ]
    with run_in_thread(SimConfig(vms=vms), tmp_path / "sim") as sim:
        shown = ntx("vms", env=sim.env)

    for words in states:
        row = next(line for line in shown.out.splitlines() if line.startswith(words.replace(" ", "-")))
        assert f" {words} " in row.removeprefix(words.replace(" ", "-")) + " ", row


def test_a_short_table_asks_for_nothing_else(cluster: Simulator) -> None:
    before = len(cluster.requests)

    assert ntx("vms", env=cluster.env).code == 0

    asked = [request.path for request in list(cluster.requests)[before:]]
    assert not [path for path in asked if "storage-containers" in path or "/hosts" in path or "categories" in path]


def test_nothing_but_what_is_told_is_needed(cluster: Simulator) -> None:
    cluster.faults.lacking_rights += ["View Storage Container", "View Cluster Host", "View Cluster"]
    try:
        ran = ntx("vms", "--json", env=cluster.env)
    finally:
        cluster.faults.lacking_rights.clear()

    assert problems(ran.json, "vms.json") == []
    assert {vm["cluster_name"] for vm in ran.json["vms"]} == {None}
    assert {(disk["tier"], disk["container_name"]) for vm in ran.json["vms"] for disk in vm["disks"]} == {(None, None)}
    assert ran.err == ""


def test_categories_that_may_not_be_read_end_a_search_for_them(cluster: Simulator, tmp_path: Path) -> None:
    cluster.faults.lacking_rights.append("View Category")
    try:
        listed = ntx("vms", "--json", "--category", "Env=prod", env=cluster.env)
        captured = ntx("capture", "--category", "Env=prod", "--to", tmp_path / "repo", env=cluster.env)
    finally:
        cluster.faults.lacking_rights.clear()

    assert listed.code == captured.code == 1
    assert "View Category" in listed.json["error"]["message"]
    assert not (tmp_path / "repo").exists()


def test_an_error_in_the_middle_leaves_one_whole_object(tmp_path: Path) -> None:
    vms = [VmConfig(f"vm{number:03}") for number in range(MANY)]
    config = SimConfig(vms=vms, worker=None)
    with run_in_thread(config, tmp_path / "sim") as sim:
        whole = ntx("vms", env=sim.env)
        sim.faults.http.append(HttpFault(path="/ahv/config/vms$", status=404, count=-1, after=2))
        ran = ntx("vms", "--json", env=sim.env)

    assert whole.code == 0
    assert [line.split()[0] for line in whole.out.splitlines()[1:]] == [vm.name for vm in vms]
    assert ran.code == 1
    assert [vm["vm_name"] for vm in ran.json["vms"]] == [vm.name for vm in vms[:100]]
    assert ran.json["error"]["class"] == "PrismStatusError"
    assert json.loads(ran.out) == ran.json


def test_a_capture_of_a_category_takes_those_and_no_others(cluster: Simulator, tmp_path: Path) -> None:
    require("qemu-nbd", "qemu-img")
    repository = tmp_path / "repo"

    planned = ntx("capture", "-n", "--json", "--category", "App=db", "--to", repository, env=cluster.env)
    ran = ntx(
        "capture", "--json", "--category", "Env=prod", "--category", "App=db", "--to", repository, env=cluster.env
    )
    nobody = ntx("capture", "--category", "Env=nobody", "--to", repository, env=cluster.env)
    both = ntx("capture", "near", "--category", "Env=prod", "--to", repository, env=cluster.env)
    everything = ntx("capture", "--all", "--category", "Env=prod", "--to", repository, env=cluster.env)

    assert [plan["vm_name"] for plan in planned.json["plans"]] == ["near"]
    assert planned.json["plans"][0]["disks"][0]["container_name"] == "default"
    assert ran.code == 0, ran.err
    assert [point["vm_name"] for point in ran.json["points"]] == ["near"]
    assert_refused(nobody, 10, "--category Env=nobody", "no VM to capture")
    assert_refused(both, 2, "a VM and --category contradict each other")
    assert_refused(everything, 2, "--all and --category contradict each other")

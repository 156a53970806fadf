"""VMs that cannot be read: they hide nobody, and say what is wrong when they are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntxengine.api.cluster import find_vm
from ntxengine.errors import OptionsError, PrismAnswerError
from ntxengine.prism.cluster import Cluster
from ntxengine.prism.findings import Findings
from ntxengine.prism.models import Family
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.config import DiskConfig, VmConfig
from ntxengine.sim.faults import ListFault
from ntxengine.sim.odd import ODD_V4
from ntxengine.units import MIB
from tests.prism.conftest import Connect

both = pytest.mark.parametrize("family", ["v3", "v4"])

UNREADABLE = sorted(set(ODD_V4) - {"no_name", "external", "no_size", "no_id"})


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    """A VM for each oddity, one that is all right, and two of one name."""
    names = [*ODD_V4, "fine", "twin", "twin"]
    disks = [DiskConfig(tmp_path / f"{number}.raw", size=MIB) for number in range(2)]
    vms = [VmConfig(name, disks=disks, odd=[name] if name in ODD_V4 else []) for name in names]
    return SimConfig(vms=vms)


@both
async def test_an_odd_vm_hides_no_other(connect: Connect, caplog: pytest.LogCaptureFixture, family: Family) -> None:
    async with connect(family) as prism:
        vms = await prism.vms()
        listed = await prism.list_vms()

    # v2 tells the size that v3 does not.
    odd = {*UNREADABLE, "no_id", *(["no_size"] if family == "v4" else [])}
    told_by_v2 = ["no_size"] if family == "v3" else []
    assert [vm.name for vm in vms] == ["", "external", "fine", *told_by_v2, "ntx-worker", "twin", "twin"]
    assert {vm.name for vm in listed.odd} == odd
    (warning,) = [text for text in caplog.messages if "cannot be read" in text]
    assert warning.startswith("Prism 127.0.0.")
    assert f"{len(odd)} VMs cannot be read and left out: " in warning


@both
@pytest.mark.parametrize("kind", UNREADABLE)
async def test_an_odd_vm_fails_when_it_is_asked_for(
    sim: Simulator, connect: Connect, family: Family, kind: str
) -> None:
    async with connect(family) as prism:
        cluster = Cluster(prism, Findings(family))
        with pytest.raises(PrismAnswerError) as by_name:
            await find_vm(cluster, kind)
        with pytest.raises(PrismAnswerError) as by_id:
            await find_vm(cluster, sim.vm_id(kind))
        reasons = [vm.reason for vm in (await prism.list_vms()).odd if vm.name == kind]

    assert len(reasons) == 1
    assert str(by_name.value) == f"VM {kind!r}: {by_id.value}"
    assert reasons[0].split(": ")[-1] == str(by_id.value).split(": ")[-1]


@both
async def test_a_vm_without_an_id_or_a_name(sim: Simulator, connect: Connect, family: Family) -> None:
    async with connect(family) as prism:
        cluster = Cluster(prism, Findings(family))
        with pytest.raises(PrismAnswerError, match="VM 'no_id' has no UUID by which it could be asked for"):
            await find_vm(cluster, "no_id")
        nameless = await find_vm(cluster, sim.vm_id("no_name"))
        external = await find_vm(cluster, "external")

    assert nameless.name == ""
    assert [disk.container_id for disk in external.disks] == ["", sim.world.container_id("default")]


@both
@pytest.mark.parametrize("fault", ["", "ignore_filter", "refuse_filter", "refuse_order"])
async def test_a_name_means_one_vm_whatever_becomes_of_the_filter(
    sim: Simulator, connect: Connect, family: Family, fault: str
) -> None:
    async with connect(family) as prism:
        cluster = Cluster(prism, Findings(family))
        if fault:
            sim.faults.lists.append(ListFault(path="/vms", kind=fault, count=-1))
        before = len(sim.requests)

        assert (await find_vm(cluster, "fine")).id == sim.vm_id("fine")
        asked = len(sim.requests) - before
        with pytest.raises(OptionsError, match="2 VMs are named 'twin'") as refused:
            await find_vm(cluster, "twin")

    assert asked <= 5
    assert all(vm.id in str(refused.value) for vm in sim.world.vms.values() if vm.name == "twin")


@pytest.mark.parametrize("name", ["it's", "a;b", "db.*", "x==y", "100%", "\u00e9 \u00fc", "--", "a'' or name ne 'b"])
@both
async def test_a_name_is_never_a_pattern(
    tmp_path: Path, config: SimConfig, sim: Simulator, connect: Connect, family: Family, name: str
) -> None:
    other = next(vm for vm in sim.world.vms.values() if vm.name == "fine")
    other.config.name = name
    async with connect(family) as prism:
        assert await prism.ids_named(name) == [other.id]
        assert await prism.ids_named(name + "x") == []

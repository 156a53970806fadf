"""Lists of a cluster that does not hold still, or does not do what it is asked for."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest

from ntxengine.prism.models import Family
from ntxengine.prism.v4.central import CentralPrism
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.config import DiskConfig, VmConfig
from ntxengine.sim.faults import ListFault
from ntxengine.units import MIB
from tests.prism.conftest import VM_NAME, Connect
from tests.prism.hostile import Hostile, reply
from tests.prism.steps import freeze, subject

both = pytest.mark.parametrize("family", ["v3", "v4"])


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    """More VMs than two pages have."""
    config = SimConfig(vms=[VmConfig(f"vm{number:03}") for number in range(120)])
    config.vms.append(VmConfig(VM_NAME, disks=[DiskConfig(tmp_path / "disk.raw", size=MIB)]))
    return config


@both
@pytest.mark.parametrize("has_total", [True, False], ids=["total", "no total"])
@pytest.mark.parametrize(
    ("kind", "value"),
    [("vanish", 1), ("vanish", 40), ("replace", 1), ("replace", 40), ("page_cap", 40), ("more_total", 2)],
)
async def test_nobody_is_lost(
    sim: Simulator,
    connect: Connect,
    family: Family,
    kind: str,
    value: int,
    has_total: bool,
) -> None:
    async with connect(family) as prism:
        after = 1 if kind in ("vanish", "replace") else 0
        sim.faults.lists.append(ListFault(path="/vms", kind=kind, value=value, after=after, count=-1))
        if not has_total:
            sim.faults.lists.append(ListFault(path="/vms", kind="no_total", count=-1))
        found = {vm.id for vm in await prism.vms()}

    stay = sorted(sim.world.vms.values(), key=lambda vm: vm.name)
    gone = value if after else 0
    assert found >= {vm.id for vm in stay[gone:]}


@both
@pytest.mark.parametrize("kind", ["refuse_order", "ignore_order", "refuse_filter", "ignore_filter"])
async def test_a_recovery_point_is_listed_whatever_the_server_refuses(
    sim: Simulator, connect: Connect, family: Family, kind: str
) -> None:
    async with connect(family) as prism:
        point = await freeze(prism, await subject(prism))
        sim.faults.lists.append(ListFault(path="recovery-points|vm_snapshots", kind=kind, count=-1))

        listed = await prism.recovery_points()

    assert [one.id for one in listed] == [point.id]


@both
@pytest.mark.parametrize("kind", ["", "refuse_filter", "ignore_filter"])
async def test_recovery_points_are_found_by_what_their_names_begin_with(
    sim: Simulator, connect: Connect, family: Family, kind: str
) -> None:
    async with connect(family) as prism:
        vm = await subject(prism)
        for name in ("ntx-1-a", "ntx-12-b", "a ntx-1-c", "ntx-1-d"):
            await freeze(prism, vm, name=name)
        if kind:
            sim.faults.lists.append(ListFault(path="recovery-points|vm_snapshots", kind=kind, count=-1))

        found = await prism.recovery_points(name_prefix="ntx-1-")

    assert sorted(one.name for one in found) == ["ntx-1-a", "ntx-1-d"]


async def test_only_what_is_looked_for_is_asked_for(hostile: Hostile, hostile_central: CentralPrism) -> None:
    """A cluster may hold thousands of recovery points, and tell a hundred a second."""
    hostile.on("GET /recovery-points", reply(200, {"data": []}))

    await hostile_central.recovery_points(name_prefix="it's-")

    assert "startswith(name,'it''s-')" in unquote(hostile.asked[0].path)

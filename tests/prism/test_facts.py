"""What Prism tells of storage containers and hosts."""

from __future__ import annotations

import pytest

from ntxengine.prism.cluster import cvm_of
from ntxengine.prism.models import Family
from ntxengine.sim import Simulator
from tests.prism.conftest import Connect

both = pytest.mark.parametrize("family", ["v4", "v3"])


@both
async def test_the_containers_of_a_cluster(connect: Connect, sim: Simulator, family: Family) -> None:
    async with connect(family) as prism:
        [container] = await prism.containers()

    assert (container.id, container.name) == (sim.world.container_id("default"), "default")
    assert container.cluster_id == sim.world.cluster_id
    assert (container.is_compressed, container.has_dedup, container.is_encrypted) == (False, False, False)
    assert (container.is_erasure_coded, container.is_internal) == (False, False)
    assert (container.inherits_nfs, container.nfs_allowed) == (True, ())


@both
async def test_the_hosts_of_a_cluster_and_the_controller_vm_of_a_vm(
    connect: Connect, sim: Simulator, family: Family
) -> None:
    async with connect(family) as prism:
        [vm] = [found for found in await prism.vms() if found.name == "other"]
        hosts = await prism.hosts(vm.cluster_id)

        assert [host.id for host in hosts] == sim.world.host_ids
        assert [host.cvm_address for host in hosts] == ["127.0.0.2", "127.0.0.3"]
        assert [host.tiers for host in hosts] == [("PCIE_SSD",)] * 2
        assert await cvm_of(prism, vm) == hosts[sim.world.host_ids.index(vm.host_id or "")].cvm_address

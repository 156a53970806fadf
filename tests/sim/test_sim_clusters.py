"""Several clusters behind one Prism Central: each Prism Element knows its own VMs, and computes their changes alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntxengine.errors import NotFoundError, OptionsError
from ntxengine.prism import Endpoint, Prism, Secret, connect
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.clusters import ClusterConfig, ContainerConfig
from ntxengine.sim.config import DiskConfig, VmConfig
from ntxengine.units import MIB, utc_now


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    far = tmp_path / "far.raw"
    far.write_bytes(b"x" * MIB)
    vms = [
        VmConfig("near", disks=[DiskConfig(tmp_path / "near.raw", size=MIB)]),
        VmConfig("far", disks=[DiskConfig(far, container="only there")], cluster="pe2"),
    ]
    return SimConfig(vms=vms, clusters=[ClusterConfig("pe2", "127.0.0.12", containers=[ContainerConfig("only there")])])


def endpoint(sim: Simulator, host: str) -> Endpoint:
    return Endpoint(f"https://{host}:{sim.port}", sim.username, Secret(sim.password), str(sim.ca_file))


async def vm_names(prism: Prism) -> list[str]:
    return [vm.name for vm in await prism.vms()]


async def test_each_prism_element_knows_its_own_vms(config: SimConfig, tmp_path: Path) -> None:
    async with Simulator(config, tmp_path / "sim") as sim:
        async with await connect(None, endpoint(sim, "127.0.0.2")) as first:
            assert await vm_names(first.prism) == ["near", "ntx-worker"]
            assert [one.name for one in await first.prism.containers()] == ["default"]
        async with await connect(None, endpoint(sim, "127.0.0.12")) as second:
            assert await vm_names(second.prism) == ["far"]
            assert [one.name for one in await second.prism.containers()] == ["only there"]
            assert (await second.prism.cluster(sim.world.clusters[1].id)).name == "pe2"


async def test_changes_are_computed_where_the_vm_is(config: SimConfig, tmp_path: Path) -> None:
    async with Simulator(config, tmp_path / "sim") as sim:
        central = endpoint(sim, "127.0.0.1")
        async with await connect(central, central) as cluster:
            [vm] = [vm for vm in await cluster.prism.vms() if vm.name == "far"]
            point = await cluster.prism.create_recovery_point(
                vm, name="ntx-far", consistency="crash", expires_at=utc_now().replace(year=2099)
            )
            pages = [page async for page in cluster.prism.changed_regions(point.disks[0], None)]
            assert point.cluster_ids == {sim.world.clusters[1].id}
            assert sum(page.regions["length"].sum() for page in pages) == MIB

            # Whoever computes it anywhere else is told that there is no such thing.
            sim.config.clusters[0].element_host = "127.0.0.2"
            with pytest.raises(NotFoundError):
                await _all_pages(central, point.disks[0])


async def _all_pages(central: Endpoint, disk: object) -> None:
    async with await connect(central, central) as cluster:
        async for _ in cluster.prism.changed_regions(disk, None):  # type: ignore[arg-type]
            pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cluster": "pe3"}, "cluster 'pe3' does not exist"),
        ({"cluster": "pe1"}, "storage container 'only there' does not exist"),
        ({"categories": ["Environment"]}, "is not written key=value"),
    ],
)
def test_what_does_not_fit_together_is_refused(config: SimConfig, change: dict[str, object], message: str) -> None:
    vars(config.vms[1]).update(change)

    with pytest.raises(OptionsError, match=message):
        config.check()

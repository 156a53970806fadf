"""Cancelled at every request, before it is sent and after it is answered: nothing is left on the cluster."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from ntxengine.prism import Endpoint, Family, Prism, Secret
from ntxengine.prism.models import AttachedDisk, RecoveryPoint, Vm
from ntxengine.prism.open import open_cluster
from ntxengine.sim import Simulator
from tests.prism.cancels import Cancels, Moment
from tests.prism.hostile import HandClock
from tests.prism.steps import freeze, subject


@contextlib.asynccontextmanager
async def opened(sim: Simulator, family: Family) -> AsyncIterator[tuple[Prism, Cancels]]:
    transport = Cancels(sim)
    url = sim.central_url if family == "v4" else sim.element_url
    endpoint = Endpoint(url, sim.username, Secret(sim.password), str(sim.ca_file))
    clock = HandClock().clock
    async with (
        contextlib.aclosing(transport),
        await open_cluster(endpoint, endpoint, transport=transport, clock=clock) as cluster,
    ):
        assert cluster.findings.family == family
        yield cluster.prism, transport


class Cluster:
    """What is done to the cluster, and what has to be gone afterwards."""

    def __init__(self, sim: Simulator, prism: Prism, vm: Vm) -> None:
        self.sim, self.prism, self.vm = sim, prism, vm
        self.point: RecoveryPoint | None = None
        self.disk: AttachedDisk | None = None

    @property
    def worker(self) -> str:
        return self.sim.worker_id or ""

    async def create(self) -> None:
        await freeze(self.prism, self.vm)

    async def attach(self) -> None:
        assert self.point is not None
        await self.prism.attach_disk(self.worker, self.point.disks[0])

    async def detach(self) -> None:
        assert self.disk is not None
        await self.prism.detach_disk(self.disk)

    async def delete(self) -> None:
        assert self.point is not None
        await self.prism.delete_recovery_point(self.point.id)

    @property
    def points(self) -> int:
        return len(self.sim.world.state.points)

    @property
    def clones(self) -> int:
        return len(self.sim.world.state.clones)


async def everywhere(network: Cancels, work: Callable[[], Awaitable[object]], moment: Moment) -> AsyncIterator[int]:
    """Cancel `work` at its first request, at its second, and so on; yield after each."""
    at = 1
    while await network.run(work, at, moment):
        yield at
        at += 1
    assert at > 2


MOMENTS: tuple[Moment, Moment] = ("before", "after")
families = pytest.mark.parametrize("family", ["v3", "v4"])
moments = pytest.mark.parametrize("moment", MOMENTS)


@pytest.mark.parametrize("task", ["quick", "slow", "cancelable"])
@families
@moments
async def test_a_freeze_that_is_cancelled_leaves_nothing(
    sim: Simulator, family: Family, moment: Moment, task: str
) -> None:
    sim.config.limits.task_s = 0 if task == "quick" else 0.02
    sim.faults.cancelable_tasks = task == "cancelable"
    async with opened(sim, family) as (prism, network):
        cluster = Cluster(sim, prism, await subject(prism))

        async for at in everywhere(network, cluster.create, moment):
            assert cluster.points == 0, f"at request {at}"

        # The last one had no request left to be cancelled at.
        assert cluster.points == 1


@pytest.mark.parametrize("task", ["quick", "slow"])
@families
@moments
async def test_a_hot_add_that_is_cancelled_leaves_nothing(
    sim: Simulator, family: Family, moment: Moment, task: str
) -> None:
    async with opened(sim, family) as (prism, network):
        cluster = Cluster(sim, prism, await subject(prism))
        cluster.point = await freeze(prism, cluster.vm)
        sim.config.limits.task_s = 0 if task == "quick" else 0.02

        async for at in everywhere(network, cluster.attach, moment):
            assert cluster.clones == 0, f"at request {at}"

        assert cluster.clones == 1
        assert cluster.points == 1


@families
@moments
async def test_a_deletion_that_is_cancelled_can_be_done_again(sim: Simulator, family: Family, moment: Moment) -> None:
    async with opened(sim, family) as (prism, network):
        cluster = Cluster(sim, prism, await subject(prism))
        cluster.point = await freeze(prism, cluster.vm)

        async for _ in everywhere(network, cluster.delete, moment):
            await cluster.delete()
            assert cluster.points == 0
            cluster.point = await freeze(prism, cluster.vm)

        assert cluster.points == 0


@families
@moments
async def test_a_removal_that_is_cancelled_can_be_done_again(sim: Simulator, family: Family, moment: Moment) -> None:
    async with opened(sim, family) as (prism, network):
        cluster = Cluster(sim, prism, await subject(prism))
        point = await freeze(prism, cluster.vm)
        cluster.disk = await prism.attach_disk(cluster.worker, point.disks[0])

        async for _ in everywhere(network, cluster.detach, moment):
            await cluster.detach()
            assert cluster.clones == 0
            cluster.disk = await prism.attach_disk(cluster.worker, point.disks[0])

        assert cluster.clones == 0

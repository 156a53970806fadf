"""Volume groups cancelled at every request, before it is sent and after it is answered: nothing is left."""

from __future__ import annotations

import pytest

from ntxengine.prism import Family, VolumeGroup
from ntxengine.sim import Simulator
from tests.prism.cancels import Moment
from tests.prism.groups import INITIATOR, OTHER, SECRET, families, frozen, left
from tests.prism.test_cancelled_anywhere import everywhere, moments, opened

NAME = "ntx-1-0a0b0c0d"


@pytest.mark.parametrize("task", ["quick", "slow", "cancelable"])
@families
@moments
async def test_a_creation_that_is_cancelled_leaves_nothing(
    sim: Simulator, family: Family, moment: Moment, task: str
) -> None:
    async with opened(sim, family) as (prism, network):
        disk, cluster = await frozen(prism)
        sim.config.limits.task_s = 0 if task == "quick" else 0.02
        sim.faults.cancelable_tasks = task == "cancelable"

        async def make() -> VolumeGroup:
            return await prism.make_volume_group(disk, name=NAME, cluster_id=cluster, secret=SECRET)

        async for at in everywhere(network, make, moment):
            assert left(sim) == 0, f"at request {at}"

    # The last one had no request left to be cancelled at.
    assert left(sim) == 1


@families
@moments
async def test_a_removal_that_is_cancelled_can_be_done_again(sim: Simulator, family: Family, moment: Moment) -> None:
    groups: list[VolumeGroup] = []
    async with opened(sim, family) as (prism, network):
        disk, cluster = await frozen(prism)

        async def make() -> None:
            group = await prism.make_volume_group(disk, name=NAME, cluster_id=cluster, secret=SECRET)
            await prism.admit_initiator(group, INITIATOR, OTHER)
            groups[:] = [group]

        async def remove() -> None:
            await prism.remove_volume_group(groups[0])

        await make()
        async for at in everywhere(network, remove, moment):
            await remove()
            assert left(sim) == 0, f"at request {at}"
            await make()

    assert left(sim) == 0


@families
@moments
async def test_a_group_whose_opening_was_cancelled_can_be_removed(
    sim: Simulator, family: Family, moment: Moment
) -> None:
    groups: list[VolumeGroup] = []
    async with opened(sim, family) as (prism, network):
        disk, cluster = await frozen(prism)

        async def make() -> None:
            groups[:] = [await prism.make_volume_group(disk, name=NAME, cluster_id=cluster, secret=SECRET)]

        async def admit() -> None:
            await prism.admit_initiator(groups[0], INITIATOR, OTHER)

        await make()
        at = 1
        while await network.run(admit, at, moment):
            await prism.remove_volume_group(groups[0])
            assert left(sim) == 0, f"at request {at}"
            await make()
            at += 1

    assert at > 1
    assert left(sim) == 1

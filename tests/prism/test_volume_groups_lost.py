"""Volume groups whose making goes wrong half-way, in both families: found again, and removed or said."""

from __future__ import annotations

import asyncio

import pytest

from ntxengine.errors import (
    PrismError,
    PrismTimeout,
    TaskFailed,
)
from ntxengine.prism import Family
from ntxengine.sim import Simulator
from ntxengine.sim.faults import AnswerFault, HttpFault, ListFault, TaskFault
from tests.prism.conftest import Connect
from tests.prism.groups import CREATED, SECRET, families, frozen, left, make
from tests.prism.steps import until


@families
async def test_a_creation_that_fails_after_the_work_leaves_nothing(
    sim: Simulator, connect: Connect, family: Family
) -> None:
    sim.faults.fail_tasks["create_group"] = 1
    async with connect(family) as prism:
        with pytest.raises(TaskFailed, match=r"volume group 'ntx-1-0a0b0c0d'.*Simulated failure"):
            await make(prism)

    assert left(sim) == 0


@families
async def test_a_task_that_never_ends_leaves_nothing(sim: Simulator, connect: Connect, family: Family) -> None:
    sim.faults.stuck_tasks["create_group"] = 1
    async with connect(family) as prism:
        with pytest.raises(PrismTimeout):
            await make(prism)

    assert left(sim) == 0


@families
@pytest.mark.parametrize("kind", ["wordless", "affected", "listed"])
async def test_however_the_task_tells_it_the_group_is_found(
    sim: Simulator, connect: Connect, family: Family, kind: str
) -> None:
    async with connect(family) as prism:
        disk, cluster = await frozen(prism)
        sim.faults.tasks = kind

        group = await prism.make_volume_group(disk, name="n", cluster_id=cluster, secret=SECRET)

    assert [made.id for made in sim.world.made_groups()] == [group.id]


@families
async def test_an_answer_that_is_lost_costs_no_group(sim: Simulator, connect: Connect, family: Family) -> None:
    lost = HttpFault(path=CREATED[family], method="POST", status=504, executed=True, plain=True, count=-1)
    async with connect(family) as prism:
        disk, cluster = await frozen(prism)
        sim.faults.http.append(lost)

        group = await prism.make_volume_group(disk, name="n", cluster_id=cluster, secret=SECRET)

    assert [made.id for made in sim.world.made_groups()] == [group.id]


@families
async def test_a_group_that_no_list_names_is_said_to_be_unseen(
    sim: Simulator, connect: Connect, family: Family, caplog: pytest.LogCaptureFixture
) -> None:
    lost = HttpFault(path=CREATED[family], method="POST", status=504, executed=True, plain=True, count=-1)
    async with connect(family) as prism:
        disk, cluster = await frozen(prism)
        sim.faults.volumes = ["unlisted"]
        sim.faults.http.append(lost)

        with pytest.raises(PrismError):
            await prism.make_volume_group(disk, name="n", cluster_id=cluster, secret=SECRET)

    assert "not to be seen, but it may be made yet" in caplog.text


UNSEEN = "not to be seen, but it may be made yet"


def unseen_for_a_while(sim: Simulator, family: Family, *, count: int, by_id: bool) -> None:
    """Let the lists, and the look-ups, learn of a volume group later than its task tells of it."""
    if family == "v4":
        sim.faults.lists.append(ListFault(path="volume-groups$", kind="vanish", value=100, count=count))
    else:
        for field, value in (("entities", []), ("metadata.grand_total_entities", 0)):
            sim.faults.answers.append(AnswerFault("/volume_groups$", kind="set", field=field, value=value, count=count))
    if by_id:
        path = r"volume.groups/[\da-f-]{36}$"
        sim.faults.http.append(HttpFault(path=path, method="GET", status=404, count=2 * count))


@families
@pytest.mark.parametrize("kind", ["", "wordless"])
async def test_a_creation_that_fails_after_the_work_is_looked_for_for_a_while(
    sim: Simulator, connect: Connect, family: Family, kind: TaskFault
) -> None:
    """The task has ended, but lists and look-ups do not know what it made yet."""
    sim.faults.fail_tasks["create_group"] = 1
    async with connect(family) as prism:
        disk, cluster = await frozen(prism)
        sim.faults.tasks = kind
        unseen_for_a_while(sim, family, count=5, by_id=True)
        with pytest.raises(TaskFailed):
            await prism.make_volume_group(disk, name="n", cluster_id=cluster, secret=SECRET)

    assert left(sim) == 0


@families
async def test_a_creation_that_is_cancelled_before_anybody_knows_it_leaves_nothing(
    sim: Simulator, connect: Connect, family: Family
) -> None:
    async with connect(family) as prism:
        disk, cluster = await frozen(prism)
        unseen_for_a_while(sim, family, count=8, by_id=True)
        sim.requests.clear()
        running = asyncio.create_task(prism.make_volume_group(disk, name="n", cluster_id=cluster, secret=SECRET))
        await until(lambda: any(one.method == "GET" and "/volume" in one.path for one in sim.requests))

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    assert left(sim) == 0


@families
async def test_a_group_that_is_not_to_be_seen_after_its_task_failed_is_said(
    sim: Simulator, connect: Connect, family: Family, caplog: pytest.LogCaptureFixture
) -> None:
    sim.faults.fail_tasks["create_group"] = 1
    async with connect(family) as prism:
        disk, cluster = await frozen(prism)
        sim.faults.tasks = "wordless"
        unseen_for_a_while(sim, family, count=-1, by_id=True)
        with pytest.raises(TaskFailed):
            await prism.make_volume_group(disk, name="n", cluster_id=cluster, secret=SECRET)

    assert UNSEEN in caplog.text


@families
async def test_a_group_that_no_list_names_is_made_where_its_task_names_it(
    sim: Simulator, connect: Connect, family: Family
) -> None:
    sim.faults.volumes = ["unlisted"]
    async with connect(family) as prism:
        group = await make(prism)

    assert [made.id for made in sim.world.made_groups()] == [group.id]

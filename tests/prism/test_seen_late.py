"""Lists and look-ups that learn of what a task made later than the task tells: it is removed all the same, or said."""

from __future__ import annotations

import pytest

from ntxengine.errors import TaskFailed
from ntxengine.prism import Family
from ntxengine.sim import Simulator
from ntxengine.sim.faults import AnswerFault, HttpFault, ListFault
from tests.prism.conftest import Connect
from tests.prism.groups import families
from tests.prism.steps import freeze, points, subject

UNSEEN = "not to be seen, but it may be made yet"


def late_points(sim: Simulator, count: int) -> None:
    sim.faults.lists.append(ListFault(path="recovery-points$", kind="vanish", value=100, count=count))
    sim.faults.http.append(HttpFault(path=r"recovery-points/[\da-f-]{36}$", method="GET", status=404, count=count))


def late_disks(sim: Simulator, family: Family, count: int) -> None:
    """Let what is asked first tell of all disks, then of those without the newest one."""
    if family == "v4":
        sim.faults.lists.append(ListFault(path="/disks$", kind="vanish", value=100, count=count, after=1))
    else:
        path, field = f"/vms/{sim.worker_id}$", "vm_disk_info.-1"
        sim.faults.answers.append(AnswerFault(path, kind="drop", field=field, count=count, after=1))


@pytest.mark.parametrize("count", [5, -1])
async def test_a_recovery_point_that_is_seen_late_is_removed(
    sim: Simulator, connect: Connect, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    sim.faults.fail_tasks["create"] = 1
    async with connect("v4") as prism:
        vm = await subject(prism)
        late_points(sim, count)
        with pytest.raises(TaskFailed):
            await freeze(prism, vm)

    assert (points(sim) == 0) == (count > 0)
    assert (UNSEEN in caplog.text) == (count < 0)


async def test_a_task_that_failed_and_names_nothing_is_no_reason_to_warn(
    sim: Simulator, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    # A guest that cannot be quiesced, night after night: the crash-consistent point is made, and nothing is left.
    sim.config.style, sim.config.cannot_quiesce = "recorded", "fail"
    sim.config.vms[0].guest_tools = None
    async with connect("v4") as prism:
        with pytest.raises(TaskFailed):
            await freeze(prism, await subject(prism), "application")
        left = await prism.recovery_points(name="ntx-1")

    assert left == []
    assert UNSEEN not in caplog.text


@families
@pytest.mark.parametrize("count", [3, -1])
async def test_a_hot_added_disk_that_is_seen_late_is_removed(
    sim: Simulator, connect: Connect, family: Family, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    sim.faults.fail_tasks["attach"] = 1
    async with connect(family) as prism:
        point = await freeze(prism, await subject(prism))
        late_disks(sim, family, count)
        with pytest.raises(TaskFailed):
            await prism.attach_disk(sim.worker_id or "", point.disks[0])

    assert (sim.world.state.clones == {}) == (count > 0)
    assert (UNSEEN in caplog.text) == (count < 0)

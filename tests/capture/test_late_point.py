"""A recovery point that comes after its capture was undone: its record stays, so that a sweep finds it."""

from __future__ import annotations

import asyncio

import pytest

from ntxengine.errors import PrismStatusError
from ntxengine.events import Stage
from ntxengine.repository import Repository
from ntxengine.sim import Simulator
from ntxengine.sim.faults import HttpFault
from ntxengine.sim.faults.lists import ListFault
from ntxengine.sweep import sweep
from tests.capture.lab import Witness, fast_clock, open_lab
from tests.prism.steps import until
from tests.support.servers import require


async def test_the_record_outlives_an_undo_while_the_create_still_runs(
    simulator: Simulator, repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    require("qemu-nbd", "qemu-img", "setpriv")
    lab = await open_lab(simulator, "v4", repository, attach="hot-add", clock=fast_clock())
    simulator.faults.stuck_tasks["create"] = 1
    simulator.faults.tasks = "wordless"
    simulator.faults.lists.append(ListFault(path="/recovery-points$", count=-1, kind="vanish", value=9))
    task = asyncio.create_task(lab.capture())
    await until(lambda: lab.recovery_points() != [])

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    simulator.faults.lists.clear()

    assert len((await repository.cluster_records(lab.vm_id)).own) == 1
    assert "it may be made yet" in caplog.text
    assert len(lab.recovery_points()) == 1
    caplog.set_level("INFO", "ntxengine.sweep")
    await sweep(lab.prism, repository, attach=lab.attach_options)
    lab.assert_clean(points=0)
    assert "stays recorded for a while" in caplog.text


async def test_the_record_goes_with_a_recovery_point_that_was_deleted(
    simulator: Simulator, repository: Repository
) -> None:
    lab = await open_lab(simulator, "v4", repository, attach="hot-add", clock=fast_clock())
    simulator.faults.http.append(HttpFault("/disks$", method="POST", status=400))

    with pytest.raises(Exception, match="400"):
        await lab.capture(parallel=1)

    assert (await repository.cluster_records(lab.vm_id)).own == ()
    lab.assert_clean(points=0)


async def test_a_known_recovery_point_is_deleted_though_the_cluster_cannot_list_them(
    simulator: Simulator, repository: Repository
) -> None:
    class RefusesToList(Witness):
        def began(self, stage: Stage) -> None:
            if stage is Stage.UNDO:
                simulator.faults.http.append(HttpFault("/recovery-points$", method="GET", status=400, count=-1))

    lab = await open_lab(simulator, "v4", repository, attach="hot-add", clock=fast_clock())
    lab.make_witness = RefusesToList
    simulator.faults.http.append(HttpFault("/disks$", method="POST", status=400))

    with pytest.raises(PrismStatusError):
        await lab.capture(parallel=1)
    simulator.faults.http.clear()

    assert lab.recovery_points() == []
    assert len((await repository.cluster_records(lab.vm_id)).own) == 1
    await sweep(lab.prism, repository, attach=lab.attach_options)
    assert (await repository.cluster_records(lab.vm_id)).own == ()
    lab.assert_clean(points=0)

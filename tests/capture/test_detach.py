"""What the cluster does not take back costs a warning: the point whose bytes were copied and compared is kept."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import NoReturn

import pytest

from ntxengine.attach import hotadd
from ntxengine.errors import RepositoryError
from ntxengine.repository import Repository, cluster_record
from ntxengine.sim import Simulator
from ntxengine.sim.faults import HttpFault
from ntxengine.sweep import sweep
from tests.capture.lab import Lab, fast_clock, open_lab
from tests.cli.ntx import ntx
from tests.support.servers import require


@pytest.mark.parametrize("verify", [True, False])
async def test_a_detach_that_is_refused_keeps_the_point(verify: bool, v4_lab: Lab) -> None:
    lab = v4_lab
    lab.sim.faults.http.append(HttpFault("/disks/", method="DELETE", status=400, count=-1))

    point = await lab.capture(verify=verify)

    assert lab.stored(point) == lab.guest()
    assert [each.id for each in lab.points(lab.vm_id)] == [point.id]
    assert len(lab.hot_added()) == 2
    assert all("clone was left behind" in text and "ntx sweep" in text for text in lab.witness.warnings)
    assert (await lab.repository.point(point.id)).report.warnings == tuple(lab.witness.warnings) != ()


async def test_what_was_left_attached_is_swept_and_the_reference_stays(v4_lab: Lab) -> None:
    lab = v4_lab
    lab.sim.faults.http.append(HttpFault("/disks/", method="DELETE", status=400, count=-1))
    await lab.capture()
    lab.sim.faults.http.clear()

    report = await sweep(lab.prism, lab.repository, attach=lab.attach_options)

    assert [each.kind for each in report.removed] == ["disk"] * 2
    lab.assert_clean(points=1)


async def test_a_detach_that_never_ends_keeps_the_point(v4_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = v4_lab
    monkeypatch.setattr(hotadd, "DETACH_TIMEOUT_S", 0.2)
    lab.sim.faults.stuck_tasks["detach"] = -1

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    assert len(lab.witness.warnings) == 2


@pytest.fixture
async def fast_lab(simulator: Simulator, repository: Repository) -> Lab:
    require("qemu-nbd", "qemu-img", "setpriv")
    return await open_lab(simulator, "v4", repository, attach="hot-add", clock=fast_clock())


async def test_a_detach_that_is_given_up_says_what_it_waited_for(fast_lab: Lab) -> None:
    lab = fast_lab
    lab.sim.faults.http.append(HttpFault("/disks/", method="DELETE", status=503, count=-1))

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    assert len(lab.witness.warnings) == 2
    assert all(re.search("clone was left behind: .*no good answer.*503", text) for text in lab.witness.warnings)


async def test_a_task_that_never_ends_and_has_done_its_work_costs_no_warning(fast_lab: Lab) -> None:
    lab = fast_lab
    lab.sim.faults.stuck_tasks["detach"] = -1

    await lab.capture()

    assert lab.witness.warnings == []
    lab.assert_clean(points=1)


async def test_a_detach_that_is_refused_keeps_the_point_on_an_element_too(v3_hot_add_lab: Lab) -> None:
    lab = v3_hot_add_lab
    lab.sim.faults.http.append(HttpFault("/disks/detach", method="POST", status=400, count=-1))

    point = await lab.capture()
    lab.sim.faults.http.clear()
    report = await sweep(lab.prism, lab.repository)

    assert lab.stored(point) == lab.guest()
    assert {each.kind for each in report.removed} == {"disk"}
    lab.assert_clean(points=1)


async def test_records_that_cannot_be_read_after_the_commit_cost_a_warning(
    v4_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(folder: Path) -> NoReturn:
        raise RepositoryError(f"{folder}: cannot be read: Input/output error")

    lab = v4_lab
    monkeypatch.setattr(cluster_record, "read", read)

    point = await lab.capture()

    assert [each.id for each in lab.points(lab.vm_id)] == [point.id]
    assert "Input/output error" in lab.witness.warnings[0]
    assert point.report.warnings == tuple(lab.witness.warnings)


async def test_the_command_says_it_and_succeeds(v4_lab: Lab) -> None:
    lab = v4_lab
    lab.sim.faults.http.append(HttpFault("/disks/", method="DELETE", status=400, count=-1))
    arguments = ("capture", "db01", "--to", lab.repository.path, "--json", "--progress", "none")

    ran = await asyncio.to_thread(ntx, *arguments, env=lab.sim.env)

    assert ran.code == 0, ran.err
    assert ran.err.count("clone was left behind") == 2
    assert len(lab.points(lab.vm_id)) == 1

"""Captures among forgotten points: none goes on top of one, each has the right bytes, and nothing leaks on the cluster.

The oracle is always bytes: what a point holds of each disk is what the guest had there when it was frozen.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable

from ntxengine.events import Stage
from ntxengine.repository import Point
from ntxengine.retention import Policy, forget_by_policy, forget_points
from ntxengine.sweep import sweep
from tests.capture.lab import Lab, Witness


async def capture_right(lab: Lab) -> Point:
    """Let the guest write, capture, and compare every byte of every disk with the guest's."""
    for number in range(2):
        lab.write(number, 512 * (number + 1), os.urandom(700))
    point = await lab.capture()
    assert lab.stored(point) == lab.guest()
    lab.check_images(point)
    return point


async def forget(lab: Lab, *points: Point) -> None:
    await forget_points(lab.repository, [point.id for point in points])


def names(lab: Lab, points: Iterable[Point]) -> list[str]:
    """Return what the recovery points of points are called on the cluster."""
    return [lab.repository.recovery_point_name(point.id) for point in points]


async def test_a_capture_goes_on_top_of_the_newest_that_is_not_forgotten(lab: Lab) -> None:
    first = await capture_right(lab)
    second = await capture_right(lab)
    await forget(lab, second)

    third = await capture_right(lab)

    assert third.parent_id == first.id
    assert {report.tracking for report in third.report.disks.values()} == {"digest-scan"}
    assert any("no longer has recovery point" in text for text in lab.witness.warnings)
    assert lab.recovery_points() == names(lab, [third])
    fourth = await capture_right(lab)
    assert fourth.parent_id == third.id
    assert fourth.tracking.endswith("changed-regions")


async def test_a_capture_after_all_were_forgotten_stands_alone_and_says_why(lab: Lab) -> None:
    points = [await capture_right(lab), await capture_right(lab)]
    await forget(lab, *points)

    point = await capture_right(lab)

    assert (point.parent_id, point.kind) == (None, "full")
    assert any("every point of the VM is forgotten" in text for text in lab.witness.warnings)
    assert lab.recovery_points() == names(lab, [point])


async def test_the_point_that_a_running_capture_goes_on_top_of_may_be_forgotten(lab: Lab) -> None:
    first = await capture_right(lab)
    loop = asyncio.get_running_loop()
    done: list[asyncio.Task[object]] = []

    class Forgets(Witness):
        def began(self, stage: Stage) -> None:
            if stage is Stage.COPY and not done:
                done.append(loop.create_task(forget_points(lab.repository, [first.id])))

    lab.make_witness = Forgets
    second = await capture_right(lab)
    await done[0]

    assert second.parent_id == first.id
    assert [point.id for point in lab.points(lab.vm_id)] == [second.id]
    lab.make_witness = Witness
    third = await capture_right(lab)
    assert third.parent_id == second.id
    assert third.tracking.endswith("changed-regions")


async def test_the_point_of_a_running_capture_is_not_taken_by_a_policy(lab: Lab) -> None:
    points = [await capture_right(lab) for _ in range(2)]
    loop = asyncio.get_running_loop()
    done: list[asyncio.Task[object]] = []

    class Forgets(Witness):
        def began(self, stage: Stage) -> None:
            if stage is Stage.COMMIT:
                task = forget_by_policy(lab.repository, lab.vm_id, Policy(last=1))
                done.append(loop.create_task(task))

    lab.make_witness = Forgets
    newest = await capture_right(lab)
    await done[0]

    listed = [point.id for point in lab.points(lab.vm_id)]
    assert newest.id in listed
    assert points[0].id not in listed


async def test_a_sweep_removes_what_a_forgotten_newest_point_has_on_the_cluster(lab: Lab) -> None:
    first = await capture_right(lab)
    second = await capture_right(lab)
    assert lab.recovery_points() == names(lab, [second])
    await forget(lab, second)

    report = await sweep(lab.prism, lab.repository, attach=lab.attach_options)

    assert report.problems == []
    assert lab.recovery_points() == []
    assert (await capture_right(lab)).parent_id == first.id

"""The workflow where every answer has the form that recordings of clusters have: nulls, untyped objects, +00:00."""

from __future__ import annotations

import os

import pytest

from ntxengine.errors import NtxError
from ntxengine.sim import SimConfig
from tests.capture.lab import DATA_SIZE, Lab


@pytest.fixture
def config(config: SimConfig) -> SimConfig:
    config.style = "recorded"
    return config


async def test_full_and_increment_hold_what_the_guest_held(lab: Lab) -> None:
    first = await lab.capture()
    before = lab.guest()
    lab.write(0, 100_000, os.urandom(300_000))
    lab.write(1, DATA_SIZE - 512, os.urandom(512))

    second = await lab.capture()
    third = await lab.capture()

    assert [lab.stored(point) for point in (first, second, third)] == [before, lab.guest(), lab.guest()]
    assert [point.kind for point in (first, second, third)] == ["full", "incremental", "incremental"]
    assert second.tracking == f"{lab.prism.family}-changed-regions"
    lab.assert_clean(points=3)


async def test_a_foreign_point_is_listed_and_left_alone(v4_lab: Lab) -> None:
    point = await v4_lab.capture()

    listed = await v4_lab.prism.recovery_points()

    assert {one.id for one in listed} > {point.recovery_point_id}
    assert max(one.expires_at for one in listed if one.expires_at).year == 2092


async def test_a_guest_is_quiesced_though_vss_is_null(lab: Lab) -> None:
    point = await lab.capture()

    assert point.consistency_obtained == "application"


async def test_a_task_that_fails_says_why(v4_lab: Lab) -> None:
    v4_lab.sim.faults.fail_tasks["create"] = 1

    with pytest.raises(NtxError, match="Simulated failure after the work was done"):
        await v4_lab.capture(consistency="crash")
    v4_lab.assert_clean(points=0)

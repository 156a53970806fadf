"""The cluster keeps the recovery point of a capture for as long as somebody works with it, or may go on with it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from ntxengine.capture import CaptureOptions, workflow
from ntxengine.capture.disk import CapturedDisk, capture_disk
from ntxengine.capture.expiry import Clock, kept_by_cluster
from ntxengine.errors import PrismStatusError
from ntxengine.units import format_time, utc_now
from tests.capture.lab import Lab
from tests.capture.resuming import checkpoints_often, fill, find, interrupt


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints_often(monkeypatch)


async def test_the_recovery_point_is_kept_longer(lab: Lab) -> None:
    fill(lab)
    await interrupt(lab, expiry=timedelta(hours=2))

    found = await find(lab, expiry=timedelta(hours=40))

    (kept,) = await lab.prism.recovery_points()
    assert kept.expires_at is not None
    assert kept.expires_at > utc_now() + timedelta(hours=39)
    (recorded,) = await lab.repository.interrupted(lab.vm_id)
    assert found.resumption is not None
    assert recorded.resume == found.resumption.resume
    assert recorded.can_be_resumed(utc_now() + timedelta(hours=39))


async def test_a_cluster_that_keeps_it_no_longer_is_a_warning_with_the_time(
    v4_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = v4_lab
    fill(lab)
    await interrupt(lab, expiry=timedelta(hours=2))
    (before,) = await lab.repository.interrupted(lab.vm_id)
    assert before.resume is not None

    async def refused(*_: object) -> None:
        raise PrismStatusError("Prism does not allow that", status=403)

    monkeypatch.setattr(type(lab.prism), "extend_recovery_point", refused)
    found = await find(lab, expiry=timedelta(hours=40))

    until = before.resume.expires_at
    assert any(f"is kept until {format_time(until)} only" in warning for warning in found.warnings)
    assert found.resumption is not None
    assert found.resumption.resume.expires_at == until


async def test_the_recovery_point_is_kept_longer_while_it_is_copied(
    v4_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = v4_lab
    now, extended, waits = utc_now() + timedelta(days=3), asyncio.Event(), list[int]()

    async def sleep(_: float) -> None:
        waits.append(1)
        if len(waits) > 1:
            extended.set()
            await asyncio.Event().wait()

    async def capture_later(*disk: Any) -> CapturedDisk:
        await extended.wait()
        return await capture_disk(*disk)

    clock = Clock(now=lambda: now, sleep=sleep)
    monkeypatch.setattr(workflow, "kept_by_cluster", partial(kept_by_cluster, clock=clock))
    monkeypatch.setattr(workflow, "capture_disk", capture_later)

    await lab.capture()

    (kept,) = await lab.prism.recovery_points()
    assert kept.expires_at is not None
    assert abs(kept.expires_at - now - CaptureOptions.expiry) < timedelta(seconds=2)

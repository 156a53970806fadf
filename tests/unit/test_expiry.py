"""A recovery point is kept by the cluster for as long as somebody works with it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ntxengine.capture.expiry import SHORTEST_WAIT, Clock, kept_by_cluster
from ntxengine.errors import PrismTimeout, TargetError
from ntxengine.prism.cluster import RecoveryPoints
from ntxengine.prism.models import RecoveryPoint

BEGAN = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
DAY = timedelta(days=1)
POINT = RecoveryPoint("rp", "ntx-x", "vm", "crash", BEGAN, BEGAN + DAY)


class Time:
    """Passes whenever somebody sleeps; ends for good after `sleeps`."""

    def __init__(self, sleeps: int) -> None:
        self.now = BEGAN
        self.waited: list[timedelta] = []
        self.is_over = asyncio.Event()
        self._left = sleeps

    async def sleep(self, seconds: float) -> None:
        if not self._left:
            self.is_over.set()
            await asyncio.Event().wait()
        self._left -= 1
        self.waited.append(timedelta(seconds=seconds))
        self.now += timedelta(seconds=seconds)

    def clock(self) -> Clock:
        return Clock(now=lambda: self.now, sleep=self.sleep)


class Cluster(RecoveryPoints):
    """Remembers until when it was asked to keep a recovery point; refuses the first `refusals` times."""

    def __init__(self, *, refusals: int = 0) -> None:
        self.asked: list[datetime] = []
        self._refusals = refusals

    async def extend_recovery_point(self, point: RecoveryPoint, expires_at: datetime) -> None:
        assert point is POINT
        if self._refusals:
            self._refusals -= 1
            raise PrismTimeout("no answer")
        self.asked.append(expires_at)


class Capture:
    """What works with the recovery point until the time is over."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.kept: list[datetime] = []
        self.is_full = False

    async def extended(self, until: datetime) -> None:
        if self.is_full:
            raise TargetError("no room")
        self.kept.append(until)

    async def run(self, cluster: Cluster, time: Time) -> None:
        async with kept_by_cluster(
            cluster,
            POINT,
            until=BEGAN + DAY,
            lifetime=DAY,
            extended=self.extended,
            warn=self.warnings.append,
            clock=time.clock(),
        ):
            await time.is_over.wait()


async def test_it_is_extended_each_time_half_of_what_is_left_has_passed() -> None:
    time, cluster, capture = Time(3), Cluster(), Capture()

    await capture.run(cluster, time)

    assert cluster.asked == capture.kept == [BEGAN + DAY * half / 2 + DAY for half in (1, 2, 3)]
    assert capture.warnings == []


async def test_a_cluster_that_does_not_answer_is_asked_again_and_warned_of_once() -> None:
    time, cluster, capture = Time(3), Cluster(refusals=2), Capture()

    await capture.run(cluster, time)

    assert time.waited == [DAY / 2, DAY / 4, DAY / 8]
    assert cluster.asked == [BEGAN + DAY * 7 / 8 + DAY]
    (said,) = capture.warnings
    assert "kept until 2026-11-24" in said
    assert "no answer" in said


async def test_one_that_is_past_its_time_is_tried_at_a_quiet_pace() -> None:
    time, cluster, capture = Time(40), Cluster(refusals=40), Capture()

    await capture.run(cluster, time)

    assert min(time.waited) == SHORTEST_WAIT
    assert len(capture.warnings) == 1


async def test_that_it_cannot_be_written_down_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    time, cluster, capture = Time(2), Cluster(), Capture()
    capture.is_full = True

    await capture.run(cluster, time)

    assert len(cluster.asked) == 2
    assert "was not written down" in caplog.text


async def test_nothing_runs_on_behind_it() -> None:
    time, cluster, capture = Time(0), Cluster(), Capture()

    await capture.run(cluster, time)

    assert asyncio.all_tasks() == {asyncio.current_task()}

"""What is due, by VM: over a year, and for VMs that come and go."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ntxengine.agent.clock import Clock
from ntxengine.agent.jobs import Job, JobVm
from ntxengine.agent.outlook import Outlooks
from ntxengine.agent.records import Retry
from ntxengine.agent.retries import Retries
from ntxengine.agent.state import State
from ntxengine.schedule.due import Schedule
from ntxengine.schedule.window import parse_window

DB01 = JobVm("id-db01", "db01")
DAY = timedelta(days=1)


class Wall:
    def __init__(self, now: datetime) -> None:
        self.now = now


@pytest.fixture
def wall() -> Wall:
    return Wall(datetime(2026, 1, 2, tzinfo=UTC))


@pytest.fixture
def state(tmp_path: Path, wall: Wall) -> State:
    return State(tmp_path, clock=lambda: wall.now)


@pytest.fixture
def outlooks(state: State, wall: Wall) -> Outlooks:
    return Outlooks(state, Clock(now=lambda: wall.now))


def test_a_vm_that_is_due_once_a_year_is_not_forgotten_before(state: State, outlooks: Outlooks, wall: Wall) -> None:
    yearly = Job("yearly", Schedule(cron="0 0 1 1 *"))

    found = []
    while wall.now < datetime(2027, 1, 2, tzinfo=UTC):
        # The agent looks all the time; a list without the VM, on one day, is not the end of it.
        found += [due.since for _, due in outlooks.due(yearly, [DB01], (), wall.now)]
        state.prune(in_use=set())
        wall.now += DAY / 4

    assert found[:1] == [datetime(2027, 1, 1, tzinfo=UTC)]


def test_nothing_is_kept_of_vms_that_are_gone(outlooks: Outlooks, wall: Wall) -> None:
    monthly = Job("monthly", Schedule(cron="0 0 1 * *"))

    for number in range(100):
        list(outlooks.due(monthly, [DB01, JobVm(f"id-{number}", "test")], (), wall.now))
    list(outlooks.due(monthly, [DB01], (), wall.now))

    assert outlooks.next_starts().keys() == {(monthly.name, DB01.id)}
    outlooks.keep_jobs([])
    assert not outlooks.next_starts()


def due(outlooks: Outlooks, job: Job, wall: Wall) -> list[str]:
    """Return why each run that is due may not begin now, "" for one that may."""
    return [found.obstacle for _, found in outlooks.due(job, [DB01], (), wall.now)]


def test_what_waits_for_a_place_begins_no_more_when_its_window_has_closed(outlooks: Outlooks, wall: Wall) -> None:
    nightly = Job("nightly", Schedule(cron="0 23 * * *", windows=(parse_window("22:00-06:00"),)))
    due(outlooks, nightly, wall)
    wall.now += timedelta(hours=29, minutes=59)

    before = due(outlooks, nightly, wall)
    wall.now += timedelta(minutes=2)
    after = due(outlooks, nightly, wall)
    wall.now += timedelta(hours=16)
    again = due(outlooks, nightly, wall)

    assert before == again == [""]
    assert after == ["its window opens at 2026-01-03 22:00Z"]


def test_a_run_that_ends_the_agent_each_time_is_waited_with(state: State, outlooks: Outlooks, wall: Wall) -> None:
    yearly = Job("yearly", Schedule(cron="0 0 1 1 *"), retries=Retries(attempts=3))
    key = (yearly.name, DB01.id)
    due(outlooks, yearly, wall)

    found = []
    for attempt in (2, 3, 4, 5):
        retry = Retry(attempt, wall.now, wall.now, was_interrupted=True)
        state.set_standing(key, dataclasses.replace(state.standing(key), retry=retry))
        outlooks.touch(key)
        found += due(outlooks, yearly, wall)

    assert found[:2] == ["", ""]
    assert found[2:] == ["attempt 4 of 3 begins at 00:02:00Z", "attempt 5 of 3 begins at 00:04:00Z"]


def test_a_clock_that_is_set_back_holds_no_retry_for_long(state: State, outlooks: Outlooks, wall: Wall) -> None:
    yearly = Job("yearly", Schedule(cron="0 0 1 1 *"))
    key = (yearly.name, DB01.id)
    due(outlooks, yearly, wall)
    state.set_standing(key, dataclasses.replace(state.standing(key), retry=Retry(2, wall.now, wall.now)))
    wall.now -= DAY

    assert due(outlooks, yearly, wall) == [""]

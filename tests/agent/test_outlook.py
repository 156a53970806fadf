"""What is due, by VM: over a year, and for VMs that come and go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ntxengine.agent.clock import Clock
from ntxengine.agent.jobs import Job, JobVm
from ntxengine.agent.outlook import Outlooks
from ntxengine.agent.state import State
from ntxengine.schedule.due import Schedule

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

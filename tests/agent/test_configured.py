"""What the file says of jobs, limits, retries and the cluster is what the agent is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ntxengine import prism
from ntxengine.agent.capturing import CaptureJob
from ntxengine.agent.configured import build
from ntxengine.agent.retries import PRISM, Retries, judge
from ntxengine.agent.service import Built
from ntxengine.agent.state import State
from ntxengine.config.reading import parse
from ntxengine.errors import OptionsError
from ntxengine.prism import Endpoint
from ntxengine.schedule.due import Schedule
from ntxengine.schedule.window import parse_window

TEXT = """
nutanix: {prism_central: pc, username: u, password: p}
backup: {repository: /r, consistency: application}
performance: {snapshot_timeout_minutes: 30, bandwidth_limit_mbps: 8, cpu_limit: 5%, max_concurrent_vms: 5}
jobs:
  - {name: a, vms: ["db*"], every: 15m, jitter: 2m, spread: no, missed: skip, retries: {attempts: 2, backoff: 1h}}
  - {name: b, vms: [x], cron: "0 2 * * *", timezone: Europe/Berlin, windows: ["22:00-06:00"], repository: /b}
"""


@pytest.fixture
def built(tmp_path: Path) -> Iterator[Built]:
    with closing(State(tmp_path)) as state:
        yield build(parse(TEXT.encode(), "agent.yaml", environment={}).config, state)


def test_schedules_and_retries_are_those_of_the_jobs(built: Built) -> None:
    first, second = built.setup.jobs

    rhythm = Schedule(timedelta(minutes=15), jitter=timedelta(minutes=2), missed="skip", spread=False)
    assert first.schedule == rhythm
    assert first.retries == Retries(attempts=2, first=timedelta(hours=1), longest=timedelta(hours=1))
    assert second.schedule == Schedule(
        cron="0 2 * * *", zone=ZoneInfo("Europe/Berlin"), windows=(parse_window("22:00-06:00"),)
    )
    assert (second.retries, second.target) == (Retries(), "/b")


def test_all_captures_share_one_limit(built: Built) -> None:
    first, second = (each.options for each in built.works.values() if isinstance(each, CaptureJob))

    assert first.copy.bandwidth is second.copy.bandwidth
    assert (first.consistency, first.captures_at_once, built.setup.limits.total) == ("app", 5, 5)


async def test_a_freeze_may_take_as_long_as_the_file_says(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Endpoint | None] = []

    async def connect(central: Endpoint | None, element: Endpoint | None) -> None:
        asked.extend((central, element))
        raise OptionsError("no cluster here")

    monkeypatch.setattr(prism, "connect", connect)
    with pytest.raises(OptionsError, match="no cluster here"):
        async with built.connection.use():
            pass

    assert [each.snapshot_timeout_s for each in asked if each is not None] == [1800, 1800]


async def test_a_password_that_cannot_be_read_now_holds_all_runs_and_ends_none_for_good(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("secret")
    secret.chmod(0o600)
    text = TEXT.replace("password: p", f"password_file: {secret}")
    with closing(State(tmp_path)) as state:
        built = build(parse(text.encode(), "agent.yaml", environment={}).config, state)
    secret.unlink()

    with pytest.raises(OptionsError, match="password") as raised:
        async with built.connection.use():
            pass

    verdict = judge(raised.value, "/r")
    assert (verdict.scope, verdict.counts, verdict.is_final) == (PRISM, False, False)

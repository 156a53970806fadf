"""What limits, captures and VMs a file of configuration means, and what a reload of it keeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ntxengine.agent.capturing import CaptureJob
from ntxengine.agent.configured import Builder
from ntxengine.agent.inventory import Choice
from ntxengine.agent.queue import Limits
from ntxengine.agent.retries import Retries
from ntxengine.agent.state import State
from ntxengine.cli.agent import of_next_start
from ntxengine.config.reading import parse
from ntxengine.errors import OptionsError
from ntxengine.prism import Vm
from ntxengine.prism.models import Disk
from ntxengine.schedule.due import Schedule
from ntxengine.schedule.window import parse_window
from ntxengine.units import MIB

FILE = """
nutanix: {prism_central: pc.example, username: backup, password: secret}
backup: {repository: /backups, worker: reader, consistency: application, audit: 2%}
performance:
  max_concurrent_vms: 6
  bandwidth_limit_mbps: 400
  limits: {per_cluster: 5, per_host: 4, per_container: 3, per_target: 2}
jobs:
  - name: hourly
    vms: ["db*"]
    exclude: [db-test]
    categories: [Environment=Production]
    clusters: [prod]
    every: 1h
    jitter: 2m
    missed: skip
    priority: 5
    timeout: 45m
    retries: {attempts: 4, backoff: 30s, budget: 20m}
    retention: {keep_last: 3, prune: true, max_waste: 10%}
  - name: nightly
    vms: ["*"]
    cron: "0 2 * * *"
    timezone: Europe/Berlin
    windows: ["fri 22:00-06:00"]
    repository: /elsewhere
"""


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path)


def builder(*texts: str) -> Builder:
    left = list(texts)
    return Builder(lambda: parse(left.pop(0).encode(), "agent.yaml").config)


def captures(build: Builder, state: State) -> dict[str, CaptureJob]:
    return {name: work for name, work in build(state).works.items() if isinstance(work, CaptureJob)}


def test_what_a_reload_does_not_change_is_said() -> None:
    began, now = (
        parse(text.encode(), "agent.yaml").config
        for text in (FILE, f"{FILE}\nagent: {{state: /elsewhere, log: {{level: debug}}}}\n")
    )

    assert of_next_start(began, began, with_state=True) == []
    assert [line.partition(":")[0] for line in of_next_start(now, began, with_state=True)] == [
        "agent.state",
        "agent.log",
    ]
    assert [line.partition(":")[0] for line in of_next_start(now, began, with_state=False)] == ["agent.log"]


def test_jobs_and_limits_are_those_of_the_file(state: State) -> None:
    built = builder(FILE)(state)
    hourly, nightly = built.setup.jobs

    assert built.setup.limits == Limits(6, 5, 4, 3, 2)
    assert (hourly.target, nightly.target) == ("/backups", "/elsewhere")
    assert (hourly.priority, hourly.timeout) == (5, timedelta(minutes=45))
    assert hourly.schedule == Schedule(every=timedelta(hours=1), jitter=timedelta(minutes=2), missed="skip")
    assert hourly.retries == Retries(4, timedelta(seconds=30), timedelta(minutes=15), timedelta(minutes=20))
    assert nightly.schedule == Schedule(
        cron="0 2 * * *", zone=ZoneInfo("Europe/Berlin"), windows=(parse_window("fri 22:00-06:00"),)
    )
    assert nightly.schedule.due_after(datetime(2026, 11, 30, tzinfo=UTC)) == datetime(2026, 11, 30, 1, tzinfo=UTC)


def test_captures_are_those_of_the_file(state: State) -> None:
    found = captures(builder(FILE), state)
    hourly, nightly = found["hourly"], found["nightly"]

    assert hourly.options.consistency == "app"
    assert hourly.options.captures_at_once == 6
    assert hourly.worker == "reader"
    assert hourly.policy is not None
    assert hourly.policy.last == 3
    assert hourly.pruning is not None
    assert hourly.pruning.max_waste == pytest.approx(0.1)
    assert nightly.policy is None
    assert nightly.repository == Path("/elsewhere")
    assert hourly.options.copy.bandwidth is nightly.options.copy.bandwidth


def test_a_reload_keeps_one_limit_for_all_that_runs_while_it_is_the_same(state: State) -> None:
    build = builder(FILE, FILE.replace("1h", "2h"), FILE.replace("400", "200"), FILE.replace("400", "200"))

    limits = [captures(build, state)["hourly"].options.copy.bandwidth for _ in range(4)]

    assert limits[0] is limits[1]
    assert limits[1] is not limits[2]
    assert limits[2] is limits[3]


def test_a_reload_keeps_one_budget_of_memory_whatever_else_it_changes(state: State) -> None:
    def said(limit: str) -> str:
        return FILE.replace("  bandwidth_limit_mbps: 400\n", f"  bandwidth_limit_mbps: 400\n  memory_limit: {limit}\n")

    build = builder(said("512M"), said("64M").replace("400", "200"), said("32M").replace("jobs:", "no:"), FILE)

    first, second = (captures(build, state)["hourly"].options.copy for _ in range(2))

    assert first.bandwidth is not second.bandwidth
    assert (first.memory_limit, second.memory_limit) == (64 * MIB, 64 * MIB)
    with pytest.raises(OptionsError):
        captures(build, state)
    assert first.memory_limit == 64 * MIB
    assert captures(build, state)["hourly"].options.copy.memory_limit == first.memory_limit == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("password: secret", "project: 7c5f1ea3-6d0a-4f2c-9a1e-0d5e4b3c2a19"), "no password"),
        (("repository: /backups, ", ""), "has no repository|repository"),
    ],
)
def test_what_the_agent_lacks_is_said_at_once(state: State, change: tuple[str, str], says: str) -> None:
    with pytest.raises(OptionsError, match=says):
        builder(FILE.replace(*change))(state)


def vm(name: str, **more: object) -> Vm:
    disk = Disk("d", 1, "scsi", 0, "c")
    fields = {"cluster_id": "c-1", "categories": ("Environment=Production",), "disks": (disk,), **more}
    return Vm(id=f"id-{name}", name=name, power_state="on", host_id=None, **fields)  # type: ignore[arg-type]


def test_a_job_has_the_vms_that_all_of_its_keys_mean() -> None:
    choice = Choice(("db*",), ("db-test",), ("Environment=Production",), ("prod",), worker="db-worker")

    assert choice.wants(vm("db01"), "prod") is True
    assert choice.wants(vm("DB01"), "prod") is False
    assert choice.wants(vm("db-test"), "prod") is False
    assert choice.wants(vm("db-worker"), "prod") is False
    assert choice.wants(vm("db01"), "lab") is False
    assert choice.wants(vm("db01", disks=()), "prod") is False
    assert choice.wants(vm("db01", categories=("Environment=Test",)), "prod") is False
    assert choice.wants(vm("db01", categories=None, may_have_other_categories=True), "prod") is None
    assert Choice(("db-worker",), worker="db-worker").wants(vm("db-worker"), "prod") is True
    assert Choice(clusters=("c-1",)).wants(vm("web"), "prod") is True

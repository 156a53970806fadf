"""The newest point of each VM is as new as its job wants; or it is said, once, and told to whoever asks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ntxengine.agent.jobs import JobVm
from ntxengine.agent.levels import Level
from ntxengine.agent.metrics import Metrics
from ntxengine.agent.objectives import Ages, Objectives, aims, findings
from ntxengine.agent.records import Standing
from ntxengine.agent.watch import Watch
from tests.agent.acting import HOUR, MINUTE, Acting, Listed, acting, job
from tests.agent.test_metrics import told
from tests.agent.virtual import START, VirtualLoop, in_virtual_time

OBJECTIVE = 30 * MINUTE
JOB = job(objective=OBJECTIVE)


def one(standing: Standing, now: datetime = START) -> tuple[bool, timedelta]:
    (aim,) = aims(now, [JOB], lambda _: [JobVm("id-a", "a")], {("hourly", "id-a"): standing})
    return aim.is_kept, aim.age


@pytest.mark.parametrize(
    ("standing", "kept", "age"),
    [
        (Standing(point_at=START - OBJECTIVE), True, OBJECTIVE),
        (Standing(point_at=START - OBJECTIVE - timedelta(seconds=1)), False, OBJECTIVE + timedelta(seconds=1)),
        # The moment of the point, not that of the end of its run.
        (Standing(point_at=START - HOUR, succeeded_at=START), False, HOUR),
        # What an older agent wrote down.
        (Standing(succeeded_at=START - MINUTE), True, MINUTE),
        # Never captured: as long as any other, from when it was seen first.
        (Standing(first_seen_at=START - 29 * MINUTE), True, 29 * MINUTE),
        (Standing(first_seen_at=START - 31 * MINUTE, failures=9), False, 31 * MINUTE),
        (Standing(), True, timedelta(0)),
        # The clock was set back.
        (Standing(point_at=START + HOUR), True, timedelta(0)),
    ],
)
def test_a_vm_counts_from_the_moment_of_its_newest_point(standing: Standing, kept: bool, age: timedelta) -> None:
    assert one(standing) == (kept, age)


@pytest.mark.parametrize(
    "standing",
    [
        Standing(point_at=START + timedelta(days=365), succeeded_at=START + timedelta(days=365)),
        Standing(first_seen_at=datetime(1970, 1, 1, 0, 1, tzinfo=UTC)),
    ],
    ids=["a-year-ahead", "1970"],
)
def test_a_time_of_a_clock_that_was_wrong_counts_from_when_it_was_seen(standing: Standing) -> None:
    passed = 7.0
    ages = Ages(lambda: passed)

    def look(standing: Standing = standing) -> tuple[bool, timedelta]:
        vms, standings = [JobVm("id-a", "a")], {("hourly", "id-a"): standing}
        (aim,) = aims(START + timedelta(seconds=passed), [JOB], lambda _: vms, standings, ages.age)
        return aim.is_kept, aim.age

    first = look()
    passed += 31 * 60.0
    later = look()
    right = look(Standing(point_at=START + 30 * MINUTE))

    assert first == (True, timedelta(0))
    assert later == (False, 31 * MINUTE)
    assert right == (True, timedelta(seconds=67))


def test_a_job_without_an_objective_has_none_that_is_missed() -> None:
    assert aims(START, [job()], lambda _: [JobVm("id-a", "a")], {}) == []


def test_a_finding_names_the_oldest_and_how_many_more() -> None:
    vms = [JobVm(f"id-{number}", f"vm{number}") for number in range(9)]
    standings = {("hourly", vm.id): Standing(point_at=START - number * 5 * MINUTE) for number, vm in enumerate(vms)}
    standings["hourly", "id-8"] = Standing(first_seen_at=START - 2 * HOUR)

    (found,) = findings(aims(START, [JOB], lambda _: vms, standings))

    assert found.level is Level.CRITICAL
    assert found.text == (
        "2 of 9 VMs have no point of the last 30m: 'vm8' (it has none, and is known for 2h), "
        "'vm7' (its newest point is 35m old)"
    )
    del standings["hourly", "id-8"]
    assert [each.level for each in findings(aims(START, [JOB], lambda _: vms, standings))] == [Level.WARNING]
    assert findings(aims(START, [JOB], lambda _: vms[:3], standings)) == []


def test_what_is_missed_is_said_once_and_once_when_it_is_kept_again(caplog: pytest.LogCaptureFixture) -> None:
    objectives = Objectives()
    vms = [JobVm("id-a", "a"), JobVm("id-b", "b")]
    old, new = Standing(point_at=START - HOUR), Standing(point_at=START)

    for a, b in ((new, new), (old, new), (old, new), (old, old), (new, old), (new, old)):
        objectives.look(aims(START, [JOB], lambda _: vms, {("hourly", "id-a"): a, ("hourly", "id-b"): b}))

    assert [record.getMessage() for record in caplog.records] == [
        "job 'hourly': its objective of 30m is missed by 'a' (its newest point is 1h old)",
        "job 'hourly': its objective of 30m is missed by 'b' (its newest point is 1h old)",
        "job 'hourly': its objective of 30m is kept again by 'a'",
    ]


def test_a_vm_that_cannot_be_captured_is_told_as_long_as_it_lasts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner = Acting(takes_s=60)
        vms = Listed(hourly=["a", "b"])
        jobs = job(every=15 * MINUTE, objective=OBJECTIVE)
        async with acting(loop, tmp_path, jobs, inventory=vms, runner=runner) as play:
            watch = Watch(play.scheduler, play.state, loop.clock)
            metrics = Metrics(play.state, "1")
            metrics.scheduler, metrics.watch = play.scheduler, watch
            await play.sleep(minutes=20)
            watch.look()
            assert watch.findings() == []
            assert told(metrics)["ntx_agent_objective_seconds", ("hourly",)] == 1800
            assert told(metrics)["ntx_agent_point_age_seconds", ("hourly", "id-a", "a")] == pytest.approx(300, abs=1)

            play.scheduler.pause("vm id-b")
            await play.sleep(minutes=40)
            watch.look()
            watch.look()

            (found,) = watch.findings()
            assert "1 of 2 VMs have no point of the last 30m: 'b' (its newest point is 45m" in found.text
            assert told(metrics)["ntx_agent_objective_missed_vms", ("hourly",)] == 1
            play.scheduler.resume("vm id-b")
            await play.sleep(minutes=20)
            watch.look()
            assert watch.findings() == []

    in_virtual_time(main)
    said = [record.getMessage() for record in caplog.records if "objective" in record.getMessage()]
    assert len(said) == 2

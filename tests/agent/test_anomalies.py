"""What is unlike before is said; what a VM always did, what is small, and what nobody can know, is not."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ntxengine.agent.anomalies import ENOUGH, anomalies
from ntxengine.agent.documents import run_document
from ntxengine.agent.jobs import JobVm, Outcome
from ntxengine.agent.metrics import Metrics
from ntxengine.agent.records import Figures, Run, RunState
from ntxengine.agent.watch import Watch
from ntxengine.events import OnEvent
from ntxengine.units import GIB, MIB, TIB
from tests.agent.acting import Listed, acting, job
from tests.agent.test_metrics import told as metrics_told
from tests.agent.virtual import START, VirtualLoop, in_virtual_time
from tests.cli.test_json import problems

QUARTER = timedelta(minutes=15)
SIZE = 10 * GIB


def increment(changed: int, *, size: int = SIZE, left: float | None = None, **more: Any) -> Figures:
    """What a point says of itself; `left` is what its compression leaves of what was sent, None for none."""
    packed = {} if left is None else {"bytes_to_pack": changed, "bytes_packed": int(changed * left)}
    return Figures(
        kind="incremental",
        bytes_size=size,
        bytes_changed=changed,
        bytes_sent=changed,
        bytes_tracked=more.pop("tracked", size),
        bytes_tracked_changed=changed,
        **packed,
        **more,
    )


def full(size: int = SIZE, *, left: float | None = None) -> Figures:
    """A point that stands alone, whether it was to be, or tracking was lost: nothing of it was tracked."""
    return dataclasses.replace(
        increment(size, size=size, left=left), kind="full", bytes_tracked=0, bytes_tracked_changed=0
    )


def runs(figures: Iterable[Figures], every: timedelta = QUARTER, begin: datetime = START) -> list[Run]:
    """Runs at even times, newest first."""
    found = [
        Run(f"r{number}", "j", "v", "n", begin + number * every, state=RunState.SUCCEEDED, figures=each)
        for number, each in enumerate(figures)
    ]
    return found[::-1]


def told(figures: Iterable[Figures], every: timedelta = QUARTER) -> list[list[str]]:
    """Return what was said of each run when it ended."""
    history = runs(figures, every)
    return [[each.kind for each in anomalies(run, history[at + 1 :])] for at, run in enumerate(history)][::-1]


USUAL = [increment(100 * MIB + number * MIB) for number in range(20)]


def test_ten_times_the_usual_change_is_said() -> None:
    (*before, now) = runs([full(), *USUAL, increment(2 * GIB)])[::-1]

    (found,) = anomalies(now, before[::-1])

    assert found.kind == "change"
    assert found.text == "2.0 GiB changed since the point before, 19 times as much as usual (109.5 MiB)"
    assert (found.value, found.usual) == (2 * GIB, pytest.approx(109.5 * MIB))


@pytest.mark.parametrize(
    "figures",
    [
        pytest.param([full(), *USUAL, increment(900 * MIB)], id="less than ten times"),
        pytest.param([full(), *USUAL[:ENOUGH - 1], increment(9 * GIB)], id="too few runs to know what is usual"),
        pytest.param([full(), increment(8 * GIB), *USUAL[:4]], id="first increments"),
        pytest.param([full(), *[increment(MIB)] * 20, increment(200 * MIB)], id="a small change of a small VM"),
        pytest.param(
            [full(TIB), *[increment(MIB, size=TIB)] * 20, increment(9 * GIB, size=TIB)], id="less than 1 % of the disks"
        ),
        pytest.param([full(), *[*USUAL[:6], full()] * 4, *USUAL], id="a full point each week"),
        pytest.param([full(), *USUAL, full()], id="tracking was lost, and all was read"),
        pytest.param([full(), *USUAL, increment(9 * GIB, size=2 * SIZE)], id="a disk was resized"),
        pytest.param(
            [full(), *USUAL, increment(100 * MIB, size=SIZE + GIB, tracked=SIZE)],
            id="a disk was added, and read in full",
        ),
        pytest.param([full(), *USUAL, Figures()], id="a point of a version that did not tell"),
        pytest.param([Figures(bytes_changed=MIB)] * 20 + [increment(9 * GIB)], id="a history that does not tell"),
    ],
)  # fmt: skip
def test_what_is_usual_small_or_not_known_is_not(figures: list[Figures]) -> None:
    assert told(figures) == [[]] * len(figures)


def test_what_comes_each_week_is_said_the_first_time_alone() -> None:
    week = [*[increment(100 * MIB)] * 6, increment(3 * GIB)]

    found = told([full(), *week * 4], every=timedelta(days=1))

    assert [at for at, kinds in enumerate(found) if kinds] == [7]


def test_after_a_pause_of_a_day_a_day_of_changes_is_usual() -> None:
    history = runs([full(), *USUAL])
    late = dataclasses.replace(history[0], id="late", started_at=history[0].started_at + timedelta(days=1))

    after_a_day = dataclasses.replace(late, figures=increment(9 * GIB))
    at_once = dataclasses.replace(
        late, started_at=history[0].started_at + timedelta(seconds=5), figures=increment(900 * MIB)
    )

    assert anomalies(after_a_day, history) == ()
    assert anomalies(at_once, history) == ()


def test_a_vm_that_never_changed_and_now_does_is_said_without_a_division() -> None:
    found = runs([full(), *[increment(0)] * 20, increment(GIB)])

    (change,) = anomalies(found[0], found[1:])

    assert "usually nothing does" in change.text


COMPRESSES = [increment(100 * MIB, left=0.4 + number / 100) for number in range(20)]


def test_data_that_suddenly_does_not_compress_is_said() -> None:
    found = runs([full(left=0.5), *COMPRESSES, increment(100 * MIB, left=1.0)])

    (anomaly,) = anomalies(found[0], found[1:])

    assert anomaly.kind == "compression"
    assert anomaly.text == "100.0 MiB that were sent do not compress: 100 % is left of them, and usually 50 %"


@pytest.mark.parametrize(
    "figures",
    [
        pytest.param([full(left=0.5), *COMPRESSES, increment(100 * MIB, left=0.9)], id="compresses less"),
        pytest.param([full(left=0.5), *COMPRESSES, increment(32 * MIB, left=1.0)], id="too little to tell"),
        pytest.param([full(left=0.5), *COMPRESSES, increment(100 * MIB)], id="is not stored compressed any more"),
        pytest.param([full(), *USUAL, increment(100 * MIB, left=1.0)], id="was not stored compressed before"),
        pytest.param([full(left=1.0), *[increment(100 * MIB, left=0.99)] * 20], id="never compressed: films"),
        pytest.param([full(left=0.5), *COMPRESSES[:3], increment(100 * MIB, left=1.0)], id="too few runs"),
        pytest.param([full(left=0.5), *COMPRESSES, full(left=0.6)], id="a full point"),
    ],
)
def test_what_never_compressed_or_is_too_little_is_not(figures: list[Figures]) -> None:
    assert [kinds for kinds in told(figures) if "compression" in kinds] == []


class Captures:
    """A runner whose runs come to these figures, one after another."""

    def __init__(self, figures: Iterable[Figures]) -> None:
        self._figures = iter(figures)

    async def run(self, job: str, vm: JobVm, on_event: OnEvent) -> Outcome:
        await asyncio.sleep(60)
        return Outcome("point", figures=next(self._figures))


def test_it_is_a_warning_of_the_run_a_metric_and_a_finding_for_a_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner = Captures([full(), *USUAL, increment(5 * GIB), *USUAL * 9])
        jobs = job(every=QUARTER)
        async with acting(loop, tmp_path, jobs, inventory=Listed(hourly=["a"]), runner=runner) as play:
            watch = Watch(play.scheduler, play.state, loop.clock)
            metrics = Metrics(play.state, "1")
            await play.sleep(hours=5, minutes=50)

            run = play.state.runs(limit=2)[1]
            assert [each.kind for each in run.anomalies] == ["change"]
            assert run.warnings == (f"unlike before: {run.anomalies[0].text}",)
            assert problems({"version": 1, "event": "success", "run": run_document(run)}, "hook.json") == []
            metrics.on_run(run)
            assert metrics_told(metrics)["ntx_agent_anomalies_total", ("hourly", "change")] == 1
            (finding,) = watch.findings()
            assert (finding.subject, run.anomalies[0].text in finding.text) == ("VM a", True)
            loop.wall -= timedelta(days=365)
            assert watch.findings() == []  # else it would be told for a year
            loop.wall += timedelta(days=366)
            assert watch.findings() == []

    in_virtual_time(main)
    assert caplog.text.count("unlike before") == 1


def test_what_is_encrypted_shows_in_both() -> None:
    found = runs([full(left=0.5), *COMPRESSES, increment(5 * GIB, left=1.0)])

    assert [each.kind for each in anomalies(found[0], found[1:])] == ["change", "compression"]

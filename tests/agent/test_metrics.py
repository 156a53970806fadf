"""What Prometheus is told is what happened, and names no more than jobs and VMs."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from ntxengine.agent.metrics import Metrics
from ntxengine.agent.records import Figures, Kept, Run, RunState
from ntxengine.agent.state import State
from ntxengine.errors import CredentialsError, NbdError
from tests.agent.acting import Acting, Listed, acting, job
from tests.agent.virtual import START, VirtualLoop, in_virtual_time


def told(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return each value by its name and its labels, as Prometheus reads them."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


def ended(**fields: Any) -> Run:
    run = Run("run-1", "nightly", "id-a", "a", START, state=RunState.SUCCEEDED, seconds=70.0)
    return dataclasses.replace(run, **fields)


def test_runs_that_ended_are_counted_with_their_bytes(tmp_path: Path) -> None:
    state = State(tmp_path)
    metrics = Metrics(state, "1.2")

    metrics.on_run(ended(state=RunState.RUNNING))
    figures = Figures(bytes_read=1000, bytes_sent=100, bytes_stored=60)
    metrics.on_run(ended(figures=figures, kept=Kept(1, 1, 5000), warnings=("w", "v")))
    metrics.on_run(ended(state=RunState.FAILED, seconds=5.0, error="password hunter2 of root at 10.0.0.1"))
    state.close()

    found = told(metrics)
    assert found["ntx_agent_info", ("1.2",)] == 1
    assert found["ntx_agent_runs_total", ("nightly", "succeeded")] == 1
    assert found["ntx_agent_runs_total", ("nightly", "failed")] == 1
    assert found["ntx_agent_read_bytes_total", ("nightly",)] == 1000
    assert found["ntx_agent_sent_bytes_total", ("nightly",)] == 100
    assert found["ntx_agent_stored_bytes_total", ("nightly",)] == 60
    assert found["ntx_agent_freed_bytes_total", ("nightly",)] == 5000
    assert found["ntx_agent_warnings_total", ("nightly",)] == 2
    assert found["ntx_agent_run_seconds_sum", ("nightly",)] == 75
    assert found["ntx_agent_run_seconds_bucket", ("nightly", "10.0")] == 1
    assert "hunter2" not in metrics.text().decode()


def test_how_vms_stand_is_told_as_it_is_now(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        lost = NbdError("no connection")
        runner = Acting(takes_s=600, errors={"b": [lost] * 9})
        vms = Listed(hourly=["a", 'b"\n\\'])
        vms.jobs["hourly"][1] = dataclasses.replace(vms.jobs["hourly"][1], name="b")
        async with acting(loop, tmp_path, job(), inventory=vms, runner=runner) as play:
            metrics = Metrics(play.state, "1")
            assert ("ntx_agent_running", ("hourly",)) not in told(metrics)
            metrics.scheduler = play.scheduler
            odd = 'id-b"\n\\'

            assert told(metrics)["ntx_agent_last_success_timestamp_seconds", ("hourly", "id-a", "a")] == 0
            await play.sleep(hours=1, minutes=1)
            assert told(metrics)["ntx_agent_running", ("hourly",)] == 1
            await play.sleep(minutes=20)

            found = told(metrics)
            at = found["ntx_agent_last_success_timestamp_seconds", ("hourly", "id-a", "a")]
            assert at == (START + timedelta(hours=1, minutes=10)).timestamp()
            assert found["ntx_agent_failures", ("hourly", odd, "b")] >= 1
            assert found["ntx_agent_running", ("hourly",)] == 0
            assert found["ntx_agent_vms_listed", ()] == 1
            assert found["ntx_agent_state_written", ()] == 1

            play.scheduler.pause("all")
            assert told(metrics)["ntx_agent_paused", ("all",)] == 1

    in_virtual_time(main)


def test_what_is_held_and_what_waits_is_told(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner = Acting(always=CredentialsError("refused"))
        async with acting(loop, tmp_path, job(), inventory=Listed(hourly=["a", "b", "c"]), runner=runner) as play:
            metrics = Metrics(play.state, "1")
            metrics.scheduler = play.scheduler

            await play.sleep(hours=1, minutes=1)

            found = told(metrics)
            assert [value for (name, _), value in found.items() if name == "ntx_agent_held"] == [1]
            assert found["ntx_agent_waiting", ("hourly",)] >= 1

    in_virtual_time(main)

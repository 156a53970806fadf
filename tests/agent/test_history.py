"""The history of a VM is the middle of its runs, each by what it can say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ntxengine.agent.history import Ended, by_vm
from ntxengine.agent.records import Figures
from tests.agent.virtual import START


def run(number: int, figures: Figures | None = None, **more: Any) -> Ended:
    fields = {"seconds": 10.0 + number, "has_succeeded": True, **more}
    return Ended("nightly", "id-a", "a", START + timedelta(hours=number), figures=figures, **fields)


def increment(changed: int, **more: Any) -> Figures:
    return Figures(kind="incremental", bytes_changed=changed, reduction_percent=95.0, bytes_sent=changed, **more)


def test_times_and_bytes_are_those_of_the_middle_run_and_changes_those_of_increments() -> None:
    full = Figures(kind="full", bytes_changed=10**9, bytes_sent=10**9, reduction_percent=50.0)
    runs = [run(0, full), *[run(number, increment(100 * number)) for number in range(1, 6)]]

    (found,) = by_vm(runs)

    assert (found.runs, found.failed, found.newest_at) == (6, 0, START + timedelta(hours=5))
    assert (found.seconds, found.bytes_changed, found.bytes_sent) == (12.5, 300, 350)
    assert (found.reduction_percent, found.packed_share) == (95.0, None)


def test_runs_that_failed_are_counted_alone() -> None:
    (found,) = by_vm([run(0, has_succeeded=False), run(1, has_succeeded=False)])

    assert (found.runs, found.failed) == (2, 2)
    assert (found.seconds, found.bytes_changed, found.reduction_percent) == (None, None, None)


def test_what_is_compressed_and_what_was_unlike_before_is_told() -> None:
    packed = [increment(100, bytes_to_pack=100, bytes_packed=share) for share in (40, 50, 60)]

    (found,) = by_vm([run(number, each, anomalies=("w",) * (number == 2)) for number, each in enumerate(packed)])

    assert (found.packed_share, found.anomalies) == (0.5, ("w",))


def test_each_vm_has_its_own_in_each_job_by_name() -> None:
    runs = [
        Ended(job, f"id-{vm}", vm, START, has_succeeded=True)
        for job, vm in (("nightly", "b"), ("hourly", "b"), ("nightly", "a"))
    ]

    assert [(each.vm_name, each.job) for each in by_vm(runs)] == [("a", "nightly"), ("b", "hourly"), ("b", "nightly")]

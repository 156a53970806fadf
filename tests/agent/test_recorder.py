"""What the events of a run make of its record, and how often that is written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ntxengine.agent.recorder import PROGRESS_INTERVAL_S, Recorder
from ntxengine.agent.records import MAX_WARNINGS, Run
from ntxengine.events import Progressed, Stage, StageBegan, Warned


class Recording:
    """A recorder of which `saved` is what it wrote, at the time `now`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.saved: list[Run] = []
        self.past_prism = 0
        run = Run("id", "hourly", "id-a", "a", datetime(2026, 11, 30, tzinfo=UTC))
        self.recorder = Recorder(
            run, self.saved.append, monotonic=lambda: self.now, on_past_prism=self._count_past_prism
        )

    def _count_past_prism(self) -> None:
        self.past_prism += 1

    def progress(self, disk: str, done: int, *, stage: Stage = Stage.COPY) -> None:
        told: dict[str, Any] = {"bytes_read": 0, "seconds": 1.0, "bottleneck_share": 1.0, "is_flushing": False}
        self.recorder(
            Progressed(vm_id="a", disk_id=disk, stage=stage, bytes_done=done, bytes_total=100, bottleneck=disk, **told)
        )


def test_progress_is_that_of_all_disks_and_is_written_now_and_then() -> None:
    recording = Recording()

    for second in range(11):
        recording.now = second * PROGRESS_INTERVAL_S / 5
        recording.progress("one", second)
        recording.progress("two", 10 * second)
        recording.progress("two", 99, stage=Stage.VERIFY)

    assert [(run.bytes_done, run.bytes_total) for run in recording.saved] == [(5 + 40, 200), (10 + 90, 200)]


def test_a_stage_is_written_when_it_begins_and_prism_is_passed_with_the_copy() -> None:
    recording = Recording()

    for stage in (Stage.FREEZE, Stage.FREEZE, Stage.ATTACH, Stage.COPY):
        recording.recorder(StageBegan(vm_id="a", stage=stage))

    assert [run.stage for run in recording.saved] == ["freeze", "attach", "copy"]
    assert recording.past_prism == 1


def test_no_more_warnings_are_kept_than_a_person_reads() -> None:
    recording = Recording()

    for number in range(MAX_WARNINGS + 9):
        recording.recorder(Warned(vm_id="a", text=f"{number} " + 9999 * "x"))

    assert len(recording.recorder.run.warnings) == MAX_WARNINGS
    assert max(map(len, recording.recorder.run.warnings)) == 1000

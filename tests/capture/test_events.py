"""What a capture tells: which steps, of what; and a callback that raises ends it without a trace."""

from __future__ import annotations

import logging
import os

import pytest

from ntxengine.errors import ChecksumMismatch, NtxError, PrismStatusError, TaskFailed
from ntxengine.events import (
    DiskDone,
    Event,
    Planned,
    PointCommitted,
    Progressed,
    Stage,
    StageBegan,
    StartedOver,
    Warned,
    log_event,
)
from tests.capture.lab import MIB, Lab, Witness

DISK_STAGES = [Stage.CHANGES, Stage.ATTACH, Stage.COPY, Stage.VERIFY]


async def test_every_step_of_a_capture_is_told_and_of_what(v4_lab: Lab) -> None:
    lab = v4_lab
    first = await lab.capture()
    lab.write(0, 0, os.urandom(MIB))
    lab.write(1, 0, os.urandom(MIB))

    point = await lab.capture()

    events = lab.witness.events
    assert {(event.vm_id, event.vm_name) for event in events} == {(lab.vm_id, "db01")}
    assert [stage for stage in lab.witness.stages if stage not in DISK_STAGES] == [
        Stage.PLAN,
        Stage.FREEZE,
        Stage.COMMIT,
        Stage.RELEASE,
    ]
    for disk in point.disks:
        of_disk = [event for event in events if event.disk_id == disk.disk_id]
        assert [event.stage for event in of_disk if isinstance(event, StageBegan)] == DISK_STAGES
        assert {event.disk_label for event in of_disk} == {disk.label}
        assert {event.point_id for event in of_disk} == {point.id}
        assert isinstance(of_disk[-1], DiskDone)
    (planned,) = (event for event in events if isinstance(event, Planned))
    assert (planned.parent_id, planned.consistency) == (first.id, point.consistency_obtained)
    (committed,) = (event for event in events if isinstance(event, PointCommitted))
    assert committed.point_id == point.id
    released = next(event for event in events if isinstance(event, StageBegan) and event.stage is Stage.RELEASE)
    assert released.recovery_point_id == first.recovery_point_id


async def test_progress_ends_with_all_that_was_to_be_copied_and_read_back(v4_lab: Lab) -> None:
    lab = v4_lab

    point = await lab.capture()

    for stage in (Stage.COPY, Stage.VERIFY):
        told = [event for event in lab.witness.events if isinstance(event, Progressed) and event.stage is stage]
        last = [event for event in told if event.disk_id == point.disk("scsi.0").disk_id][-1]
        assert last.bytes_done == last.bytes_total >= 3 * MIB
        assert 3 * MIB <= last.bytes_read <= last.bytes_total


class Raises(Witness):
    """Raises when it is told the first event of a kind, of a stage if one is given."""

    def __init__(self, kind: type[Event], stage: Stage | None = None, error: Exception | None = None) -> None:
        super().__init__()
        self.kind = kind
        self.stage = stage
        self.error = error or RuntimeError("a callback that has a defect")
        self.calls_after = -1

    def __call__(self, event: Event) -> None:
        self.calls_after += bool(self.calls_after >= 0)
        super().__call__(event)
        if isinstance(event, self.kind) and self.stage in (None, *_stages(event)):
            self.calls_after = 0
            raise self.error


def _stages(event: Event) -> list[Stage]:
    return [event.stage] if isinstance(event, StageBegan | Progressed) else []


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        *((StageBegan, stage) for stage in [Stage.PLAN, Stage.FREEZE, *DISK_STAGES, Stage.COMMIT]),
        (Planned, None),
        (Progressed, Stage.COPY),
        (Progressed, Stage.VERIFY),
        (DiskDone, None),
    ],
)
async def test_what_a_callback_raises_before_the_commit_ends_the_capture_without_a_trace(
    kind: type[Event], stage: Stage | None, v4_lab: Lab
) -> None:
    lab = v4_lab
    raises = Raises(kind, stage)
    lab.make_witness = lambda: raises

    with pytest.raises(RuntimeError) as caught:
        await lab.capture()

    assert caught.value is raises.error
    assert raises.calls_after == 0
    lab.assert_clean(points=0)


@pytest.mark.parametrize(("kind", "stage"), [(PointCommitted, None), (StageBegan, Stage.RELEASE)])
async def test_what_a_callback_raises_after_the_commit_leaves_the_point(
    kind: type[Event], stage: Stage | None, v4_lab: Lab
) -> None:
    lab = v4_lab
    await lab.capture()
    lab.write(0, 0, os.urandom(MIB))
    lab.make_witness = lambda: Raises(kind, stage)

    with pytest.raises(RuntimeError):
        await lab.capture()

    point = lab.points(lab.vm_id)[-1]
    assert len(lab.points(lab.vm_id)) == 2
    assert lab.stored(point) == lab.guest()
    lab.make_witness = Witness
    await lab.capture()
    lab.assert_clean(points=3)


async def test_a_callback_that_raises_when_it_is_told_of_the_undoing_neither_stops_nor_explains_it(
    v4_lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab = v4_lab
    lab.sim.faults.fail_tasks["attach"] = 1
    lab.make_witness = lambda: Raises(StageBegan, Stage.UNDO)

    with pytest.raises(TaskFailed):
        await lab.capture()

    assert "on_event failed" in caplog.text
    lab.assert_clean(points=0)


@pytest.mark.parametrize(
    "error",
    [
        ChecksumMismatch("raised by a callback", offsets=(), blocks=1),
        PrismStatusError("raised by a callback", status=400),
        NtxError("raised by a callback"),
    ],
)
@pytest.mark.parametrize("kind", [Warned, Progressed])
async def test_what_a_callback_raises_is_not_taken_for_an_error_of_the_capture(
    kind: type[Event], error: NtxError, v4_lab: Lab
) -> None:
    lab = v4_lab
    await lab.capture()
    lab.write(0, 0, os.urandom(MIB))
    before = len(lab.points(lab.vm_id))
    lab.sim.faults.fail_tasks["create"] = 1
    lab.make_witness = lambda: Raises(kind, error=error)

    with pytest.raises(type(error)) as caught:
        await lab.capture(full=True)

    assert caught.value is error
    lab.assert_clean(points=before)


def test_who_does_not_listen_finds_warnings_and_steps_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    about = {"vm_id": "0a1b", "vm_name": "db01"}

    with caplog.at_level(logging.INFO, "ntxengine"):
        log_event(Warned(**about, text="slower than it could be"))
        log_event(StageBegan(**about, stage=Stage.FREEZE))
        log_event(StartedOver(**about, reason="damage"))

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "slower than it could be"),
        ("INFO", "freeze: db01"),
        ("INFO", "StartedOver: db01"),
    ]

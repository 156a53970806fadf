"""A capture that was interrupted is gone on with: the point holds the VM as it was frozen, byte for byte."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ntxengine.events import Event, Progressed, Stage
from ntxengine.repository import Repository, interrupted
from ntxengine.sweep import sweep
from ntxengine.units import utc_now
from tests.capture.lab import MIB, Lab, Witness
from tests.capture.resuming import SLOW, checkpoints_often, fill, interrupt, stored_to, write_after_freeze
from tests.cli.ntx import ntx


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints_often(monkeypatch)


async def test_a_capture_goes_on_where_it_was_and_holds_the_moment_of_its_freeze(lab: Lab) -> None:
    fill(lab)
    frozen = lab.guest()
    unfinished = await interrupt(lab)
    reached = max(stored_to(lab).values())
    write_after_freeze(lab)

    point = await lab.capture()

    assert unfinished.name == f".unfinished-{point.id}"
    assert lab.stored(point) == frozen
    lab.check_images(point)
    assert point.report.resumed == 1
    report = next(report for report in point.report.disks.values() if report.label == "scsi.0")
    assert report.resumed_from == reached >= 2 * MIB
    assert report.bytes_read is not None
    assert report.bytes_read < 6 * MIB
    (said,) = [text for text in lab.witness.warnings if "goes on with point" in text]
    assert "as it was frozen at" in said
    assert said in point.report.warnings
    lab.assert_clean(points=1)
    assert not [
        path for path in point.path.iterdir() if path.suffix in (".journal", ".changes") or "resume" in path.name
    ]


async def test_the_next_increment_has_what_was_written_after_the_freeze(lab: Lab) -> None:
    fill(lab)
    await interrupt(lab)
    write_after_freeze(lab)
    first = await lab.capture()

    point = await lab.capture()

    assert point.parent_id == first.id
    assert lab.stored(point) == lab.guest()
    lab.assert_clean(points=2)


async def test_an_increment_goes_on_without_asking_again_what_changed(v4_lab: Lab) -> None:
    lab = v4_lab
    await lab.capture()
    fill(lab)
    frozen = lab.guest()
    await interrupt(lab, at=2 * MIB)
    write_after_freeze(lab)

    point = await lab.capture(parallel=1)

    assert point.kind == "incremental"
    assert lab.stored(point) == frozen
    assert lab.witness.stages.count(Stage.CHANGES) == 1  # of the disk that was not begun
    lab.assert_clean(points=2)
    again = await lab.capture()
    assert lab.stored(again) == lab.guest()


async def test_a_scan_goes_on(v4_lab: Lab) -> None:
    lab = v4_lab
    first = await lab.capture()
    fill(lab)
    frozen = lab.guest()
    await interrupt(lab, at=2 * MIB, scan=True)
    write_after_freeze(lab)

    point = await lab.capture(scan=True)

    assert (point.report.resumed, point.parent_id) == (1, first.id)
    assert lab.stored(point) == frozen
    lab.assert_clean(points=2)


async def test_it_may_be_interrupted_again_and_again(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    frozen = lab.guest()
    for at in (MIB // 2, 2 * MIB, 3 * MIB):
        await interrupt(lab, at=at)
        write_after_freeze(lab)

    point = await lab.capture()

    assert point.report.resumed == 3
    assert lab.stored(point) == frozen
    lab.check_images(point)
    lab.assert_clean(points=1)


class Cancels(Witness):
    """Cancels the capture once it copies."""

    task: asyncio.Task[object]

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if isinstance(event, Progressed) and event.stage is Stage.COPY:
            self.task.cancel()


async def test_what_was_gone_on_with_is_kept_when_it_is_cancelled(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    frozen = lab.guest()
    await interrupt(lab)
    witness = Cancels()
    lab.make_witness = lambda: witness
    witness.task = asyncio.create_task(lab.capture(copy=SLOW))
    with pytest.raises(asyncio.CancelledError):
        await witness.task
    lab.make_witness = Witness
    write_after_freeze(lab)

    point = await lab.capture()

    assert point.report.resumed == 2
    assert lab.stored(point) == frozen
    lab.assert_clean(points=1)


async def test_a_disk_that_was_whole_is_not_attached_again(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    frozen = lab.guest()
    await interrupt(lab, at=MIB, label="scsi.1")
    write_after_freeze(lab)

    point = await lab.capture(parallel=1)

    assert lab.stored(point) == frozen
    assert lab.witness.stages.count(Stage.ATTACH) == 1
    assert lab.witness.stages.count(Stage.VERIFY) == 2
    lab.assert_clean(points=1)


async def test_who_wants_a_new_one_gets_it_and_nothing_of_the_old_is_left(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    unfinished = await interrupt(lab)
    write_after_freeze(lab)

    point = await lab.capture(resume=False)

    assert not unfinished.exists()
    assert point.report.resumed == 0
    assert lab.stored(point) == lab.guest()
    lab.assert_clean(points=1)


@pytest.mark.parametrize("options", [{"full": True}, {"consistency": "crash"}, {"volume_groups": False}])
async def test_other_options_begin_anew(options: dict[str, bool], v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    await interrupt(lab)
    write_after_freeze(lab)

    point = await lab.capture(**options)

    assert point.report.resumed == 0
    assert any("is given up" in text for text in lab.witness.warnings)
    assert lab.stored(point) == lab.guest()
    lab.assert_clean(points=1)


async def test_a_recovery_point_that_is_gone_begins_anew(lab: Lab) -> None:
    fill(lab)
    await interrupt(lab)
    ((known, _),) = [(key, point) for key, point in lab.sim.world.state.points.items()]
    await lab.prism.delete_recovery_point(known)
    write_after_freeze(lab)

    point = await lab.capture()

    assert point.report.resumed == 0
    assert any("its recovery point is gone" in text for text in lab.witness.warnings)
    assert lab.stored(point) == lab.guest()
    lab.assert_clean(points=1)


async def test_a_source_that_holds_something_else_begins_anew(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    await interrupt(lab)
    held = [path for path in lab.sim.state_dir.rglob("*") if path.is_file() and path.stat().st_size == 8 * MIB]
    assert held
    for path in held:
        with path.open("r+b") as file:
            file.write(b"\x5a" * (4 * MIB))
    write_after_freeze(lab)

    point = await lab.capture()

    assert point.report.resumed == 0
    assert any("does not hold what was copied of it" in text for text in lab.witness.warnings)
    assert lab.stored(point) == lab.guest()
    lab.assert_clean(points=1)


async def test_the_recovery_point_is_kept_longer(lab: Lab) -> None:
    fill(lab)
    await interrupt(lab, expiry=timedelta(hours=2))

    point = await lab.capture(expiry=timedelta(hours=40))

    assert point.report.resumed == 1
    (kept,) = await lab.prism.recovery_points()
    assert kept.expires_at is not None
    assert kept.expires_at > utc_now() + timedelta(hours=39)


async def test_a_capture_whose_recovery_point_has_expired_begins_anew(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    unfinished = await interrupt(lab)
    _expire(unfinished)
    write_after_freeze(lab)

    point = await lab.capture()

    assert any("was kept until" in text for text in lab.witness.warnings)
    assert lab.stored(point) == lab.guest()
    lab.assert_clean(points=1)


def _expire(unfinished: Path) -> None:
    (found,) = interrupted.find(unfinished.parent)
    assert found.resume is not None
    interrupted.write(unfinished, dataclasses.replace(found.resume, expires_at=utc_now() - timedelta(seconds=1)))


async def test_a_sweep_keeps_it_until_it_is_told_to_give_it_up(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    unfinished = await interrupt(lab)

    kept = await sweep(lab.prism, lab.repository, attach=lab.attach_options)

    assert unfinished.exists()
    assert len(lab.recovery_points()) == 1
    assert kept.removed == []
    assert [each.id for each in kept.resumable] == [unfinished.name.removeprefix(".unfinished-")]

    given_up = await sweep(lab.prism, lab.repository, attach=lab.attach_options, gives_up=True)

    assert {each.kind for each in given_up.removed} >= {"recovery-point", "unfinished-point"}
    lab.assert_clean(points=0)


async def test_a_sweep_removes_one_that_is_too_old(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    _expire(await interrupt(lab))

    await sweep(lab.prism, lab.repository, attach=lab.attach_options)

    lab.assert_clean(points=0)


async def test_points_show_how_far_it_got(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    unfinished = await interrupt(lab)

    shown = ntx("points", "--repository", lab.repository.path)
    as_json = ntx("points", "--repository", lab.repository.path, "--json").json

    (found,) = as_json["interrupted"]
    assert found["point_id"] == unfinished.name.removeprefix(".unfinished-")
    assert found["vm_name"] == "db01"
    assert found["resumable"] is True
    assert found["bytes_done"] == sum(stored_to(lab).values())
    assert "interrupted at" in shown.out
    assert "goes on with it until" in shown.err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 5 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


async def test_a_full_file_system_is_gone_on_with_once_there_is_room(v4_lab: Lab, small_disk: Path) -> None:
    lab = v4_lab
    lab.repository = await Repository.create(small_disk / "repository")
    fill(lab)
    frozen = lab.guest()
    with pytest.raises(Exception, match="No space left on device"):
        await lab.capture(copy=dataclasses.replace(SLOW, bandwidth=2 * MIB), parallel=1)
    assert lab.points() == []
    assert max(stored_to(lab).values()) > MIB
    write_after_freeze(lab)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)

    point = await lab.capture()

    assert point.report.resumed == 1
    assert lab.stored(point) == frozen
    lab.check_images(point)
    lab.assert_clean(points=1)

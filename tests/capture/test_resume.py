"""A capture that was interrupted is gone on with: the point holds the VM as it was frozen, byte for byte."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.capture import Audit
from ntxengine.errors import PrismTimeout, SourceError
from ntxengine.events import Event, Progressed, Stage
from ntxengine.repository import Repository
from ntxengine.sweep import sweep
from tests.capture.lab import MIB, Lab, Witness
from tests.capture.resuming import (
    IS_LONG,
    SLOW,
    checkpoints_often,
    expire,
    fill,
    find,
    interrupt,
    stored_to,
    write_after_freeze,
)
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

    second = await lab.capture()

    assert second.parent_id == point.id
    assert lab.stored(second) == lab.guest()
    lab.assert_clean(points=2)


async def test_an_increment_goes_on_without_asking_again_what_changed(v4_lab: Lab) -> None:
    lab = v4_lab
    await lab.capture()
    fill(lab)
    frozen = lab.guest()
    await interrupt(lab)
    write_after_freeze(lab)

    point = await lab.capture(parallel=1)

    assert point.kind == "incremental"
    assert lab.stored(point) == frozen
    assert lab.witness.stages.count(Stage.CHANGES) == 1  # of the disk that was not begun
    lab.assert_clean(points=2)


async def test_a_scan_goes_on(v4_lab: Lab) -> None:
    lab = v4_lab
    first = await lab.capture()
    fill(lab)
    frozen = lab.guest()
    await interrupt(lab, scan=True)
    write_after_freeze(lab)

    point = await lab.capture(scan=True)

    assert (point.report.resumed, point.parent_id) == (1, first.id)
    assert lab.stored(point) == frozen
    lab.assert_clean(points=2)


async def test_it_may_be_interrupted_again_and_again(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    frozen = lab.guest()
    moments = (MIB // 2, 2 * MIB, 3 * MIB) if IS_LONG else (MIB, 2 * MIB)
    for at in moments:
        await interrupt(lab, at=at)
        write_after_freeze(lab)

    point = await lab.capture()

    assert point.report.resumed == len(moments)
    assert lab.stored(point) == frozen
    lab.check_images(point)
    lab.assert_clean(points=1)


class CancelsOnceStored(Witness):
    """Cancels the capture once something of a disk is stored."""

    task: asyncio.Task[object]

    def __init__(self, lab: Lab) -> None:
        super().__init__()
        self._lab = lab

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if isinstance(event, Progressed) and event.stage is Stage.COPY and stored_to(self._lab):
            self.task.cancel()


async def test_what_is_cancelled_is_kept(v4_lab: Lab) -> None:
    """So that a reboot, which sends SIGTERM, costs no more than a power cut."""
    lab = v4_lab
    fill(lab)
    frozen = lab.guest()
    for _ in range(2):
        witness = CancelsOnceStored(lab)
        lab.make_witness = lambda witness=witness: witness
        witness.task = asyncio.create_task(lab.capture(copy=SLOW))
        with pytest.raises(asyncio.CancelledError):
            await witness.task
        assert any("is kept as point" in text for text in witness.warnings)
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
    sizes = [path.stat().st_size for path in lab.disk_files]
    whole = [to for to in stored_to(lab).values() if to in sizes]
    write_after_freeze(lab)

    point = await lab.capture(parallel=1)

    assert lab.stored(point) == frozen
    assert whole  # and on a slow machine the second disk may be, too
    assert lab.witness.stages.count(Stage.ATTACH) == 2 - len(whole)
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


async def test_what_is_not_as_it_was_is_given_up_and_a_warning_says_why(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    unfinished = await interrupt(lab)
    record = (unfinished / "resume").read_bytes()

    async def refused(why: str, **options: object) -> None:
        found = await find(lab, **options)
        assert found.resumption is None
        (said,) = found.warnings
        assert "is given up, and a new one begins" in said
        assert why in said

    await refused("--consistency auto then, --consistency auto --full now", full=True)
    await refused("--consistency auto then, --consistency crash now", consistency="crash")
    await refused("--no-volume-groups now", volume_groups=False)
    await refused("so it was asked (--no-resume)", resume=False)
    expire(unfinished)
    await refused("its recovery point was kept until")
    for damaged in (b"", record[: len(record) // 2], record.replace(b"scsi.0", b"scsi.7", 1)):
        (unfinished / "resume").write_bytes(damaged)
        await refused("is damaged")
    (unfinished / "resume").write_bytes(record)
    audited = await find(lab, audit=Audit(share=0.5))
    assert audited.resumption is not None
    assert "disks that were begun without --audit are not audited now" in audited.warnings[-1]
    (known,) = lab.sim.world.state.points
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


async def test_a_cluster_that_does_not_answer_costs_nothing_that_was_copied(
    v4_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = v4_lab
    fill(lab)
    unfinished = await interrupt(lab)
    before = {path: path.read_bytes() for path in unfinished.iterdir()}

    async def no_answer(*_: object) -> None:
        raise PrismTimeout("Prism does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(type(lab.prism), "recovery_point", no_answer)
        with pytest.raises(PrismTimeout):
            await lab.capture()

    assert {path: path.read_bytes() for path in unfinished.iterdir()} == before
    assert (await find(lab)).resumption is not None


async def test_one_that_always_fails_the_same_way_is_given_up(v4_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = v4_lab
    fill(lab)
    unfinished = await interrupt(lab)

    async def fails(*_: object, **__: object) -> None:
        raise SourceError("this block cannot be read", errno=5)

    with monkeypatch.context() as patch:
        patch.setattr("ntxengine.capture.copying.dataplane.copy", fails)
        for _ in range(2):
            with pytest.raises(SourceError):
                await lab.capture()
            assert unfinished.exists()
        with pytest.raises(SourceError):
            await lab.capture()

    lab.assert_clean(points=0)


async def test_a_sweep_keeps_it_until_it_is_told_to_give_it_up_or_it_is_too_old(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    unfinished = await interrupt(lab)
    point_id = unfinished.name.removeprefix(".unfinished-")

    kept = await sweep(lab.prism, lab.repository, attach=lab.attach_options)
    assert unfinished.exists()
    assert len(lab.recovery_points()) == 1
    assert kept.removed == []
    assert [each.id for each in kept.resumable] == [point_id]

    shown = ntx("points", "--repository", lab.repository.path)
    assert "interrupted at" in shown.out
    assert "goes on with it" in shown.err
    (found,) = ntx("points", "--repository", lab.repository.path, "--json").json["interrupted"]
    assert (found["point_id"], found["vm_name"], found["resumable"]) == (point_id, "db01", True)
    assert found["bytes_done"] == sum(stored_to(lab).values())

    record = (unfinished / "resume").read_bytes()
    expire(unfinished)
    would = await sweep(lab.prism, lab.repository, attach=lab.attach_options, dry_run=True)
    assert {each.kind for each in would.removed} == {"recovery-point", "unfinished-point"}
    assert would.resumable == []

    (unfinished / "resume").write_bytes(record)
    given_up = await sweep(lab.prism, lab.repository, attach=lab.attach_options, gives_up=True)
    assert {each.kind for each in given_up.removed} >= {"recovery-point", "unfinished-point"}
    lab.assert_clean(points=0)


async def test_a_full_file_system_is_gone_on_with_once_there_is_room(
    v4_lab: Lab, small_fs: Callable[[str], Path]
) -> None:
    lab, small_disk = v4_lab, small_fs("5m")
    lab.repository = await Repository.create(small_disk / "repository")
    fill(lab)
    frozen = lab.guest()
    with pytest.raises(Exception, match="No space left on device"):
        await lab.capture(copy=dataclasses.replace(SLOW, bandwidth=8 * MIB), parallel=1)
    assert lab.points() == []
    assert max(stored_to(lab).values()) > MIB
    write_after_freeze(lab)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)

    point = await lab.capture()

    assert point.report.resumed == 1
    assert lab.stored(point) == frozen
    lab.check_images(point)
    lab.assert_clean(points=1)

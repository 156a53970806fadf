"""Whatever fails, wherever: the first error is told, and nothing is left but the points that were there before."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.capture import CaptureOptions, plan_capture
from ntxengine.capture.freeze import may_be_about_quiescing
from ntxengine.capture.plan import first_method
from ntxengine.errors import (
    AttachError,
    ChecksumMismatch,
    LockedError,
    NotFoundError,
    NtxError,
    OptionsError,
    PrismStatusError,
    RepositoryError,
    TaskFailed,
    ToolError,
)
from ntxengine.events import Event, Stage, StageBegan
from ntxengine.images.choice import ImageOptions
from ntxengine.sim.config import GuestToolsConfig
from ntxengine.sim.faults import HttpFault
from tests.capture.lab import MIB, SYSTEM_SIZE, Lab, Witness

STAGES = [Stage.PLAN, Stage.FREEZE, Stage.CHANGES, Stage.ATTACH, Stage.COPY, Stage.VERIFY, Stage.COMMIT]


class Stopper(Witness):
    """Cancels the task it is called from, or another, when a stage begins."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stop_at = stage
        self.task: asyncio.Task[object] | None = None

    def began(self, stage: Stage) -> None:
        if stage is self.stop_at and self.task is not None:
            self.task.cancel()
            self.task = None


@pytest.mark.parametrize("stage", STAGES)
async def test_a_capture_that_is_cancelled_leaves_nothing_but_what_was_copied(stage: Stage, v4_lab: Lab) -> None:
    lab = v4_lab
    await lab.capture()
    lab.write(0, 0, os.urandom(MIB))
    lab.write(1, 0, os.urandom(MIB))
    stopper = Stopper(stage)
    lab.make_witness = lambda: stopper
    stopper.task = asyncio.create_task(lab.capture())

    with pytest.raises(asyncio.CancelledError):
        await stopper.task

    is_committed, is_copied = stage is Stage.COMMIT, any("is kept as point" in text for text in stopper.warnings)
    assert is_copied or stage is not Stage.VERIFY
    if not is_committed and not is_copied:
        lab.assert_clean(points=1)
    lab.make_witness = Witness
    point = await lab.capture()
    assert lab.stored(point) == lab.guest()
    assert lab.unfinished() == []
    assert lab.hot_added() == []
    assert len(lab.points(lab.vm_id)) == (3 if is_committed else 2)


async def test_a_capture_that_is_cancelled_behind_its_commit_says_what_is_left(
    v4_lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab = v4_lab
    await lab.capture()
    stopper = Stopper(Stage.RELEASE)
    lab.make_witness = lambda: stopper
    stopper.task = asyncio.create_task(lab.capture())

    with pytest.raises(asyncio.CancelledError):
        await stopper.task

    point = lab.points(lab.vm_id)[-1]
    assert f"VM 'db01' is captured, as point {point.id}; what older points have on the cluster is left" in caplog.text
    lab.make_witness = Witness
    await lab.capture()
    lab.assert_clean(points=3)


async def test_a_second_cancellation_does_not_stop_the_clean_up(v4_lab: Lab) -> None:
    lab = v4_lab
    stopper = Stopper(Stage.COPY)
    lab.make_witness = lambda: stopper
    task = asyncio.create_task(lab.capture())
    stopper.task = task

    while not task.done():
        if Stage.UNDO in stopper.stages:
            task.cancel()
        await asyncio.sleep(0.001)

    assert task.cancelled()
    lab.assert_clean(points=0)


@pytest.mark.parametrize("kind", ["attach", "detach"])
async def test_a_task_of_the_cluster_that_fails_ends_the_capture(kind: str, v4_lab: Lab) -> None:
    lab = v4_lab
    lab.sim.faults.fail_tasks[kind] = 1

    if kind == "attach":
        with pytest.raises(TaskFailed):
            await lab.capture()
        lab.assert_clean(points=0)
    else:
        # The work was done before the task failed, so that nothing is left to remove.
        await lab.capture()
        lab.assert_clean(points=1)


async def test_a_second_disk_that_cannot_be_attached_stops_the_first(v4_lab: Lab) -> None:
    lab = v4_lab
    lab.write(1, 0, os.urandom(MIB))
    lab.sim.faults.http.append(HttpFault("/disks$", method="POST", status=400, count=1, after=1))

    with pytest.raises(PrismStatusError):
        await lab.capture()

    lab.assert_clean(points=0)


async def test_a_recovery_point_that_cannot_be_deleted_is_a_warning(v4_lab: Lab) -> None:
    lab = v4_lab
    first = await lab.capture()
    lab.sim.faults.http.append(HttpFault(first.recovery_point_id, method="DELETE", status=400, count=-1))

    second = await lab.capture()

    assert len(lab.recovery_points()) == 2
    assert any(first.recovery_point_id in text and "sweep" in text for text in lab.witness.warnings)
    assert second.report.warnings == tuple(lab.witness.warnings)
    assert [point.id for point in lab.points(lab.vm_id)] == [first.id, second.id]


async def test_an_attached_disk_of_another_size_than_prism_says_is_refused(lab: Lab) -> None:
    class Grows:
        """A cluster whose regions are of a disk that is larger than the one that can be read."""

        def __getattr__(self, name: str) -> object:
            return getattr(lab_prism, name)

        async def changed_regions(self, disk: object, reference: object) -> object:
            import dataclasses

            async for page in lab_prism.changed_regions(disk, reference):  # type: ignore[arg-type]
                yield dataclasses.replace(page, disk_size=page.disk_size + 512)

    lab_prism = lab.prism
    lab.prism = Grows()  # type: ignore[assignment]

    with pytest.raises(AttachError, match=r"has .* bytes, but the disk in the recovery point has"):
        await lab.capture()

    lab.prism = lab_prism
    lab.assert_clean(points=0)


DATA = 65536
"""Where the first cluster of a disk is in an image of ours."""


def flip_a_bit(folder: Path) -> None:
    """Damage the first data cluster of the largest image."""
    image = max(folder.glob("*.qcow2"), key=lambda path: path.stat().st_size)
    with image.open("r+b") as file:
        file.seek(DATA + 1000)
        byte = file.read(1)[0]
        file.seek(DATA + 1000)
        file.write(bytes([byte ^ 1]))


def unmask(folder: Path) -> None:
    """Let old data shine through where the capture wrote zeros."""
    for image in folder.glob("*.qcow2"):
        # The image of another disk may be in the making.
        info = subprocess.run(["qemu-img", "info", "-U", "--output=json", image], check=False, capture_output=True)
        if not info.returncode and json.loads(info.stdout)["virtual-size"] == SYSTEM_SIZE:
            subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -P 7 {4 * MIB} 512", image], check=True)


class Vandal(Witness):
    """Damages what was written before it is read back."""

    def __init__(self, lab: Lab, damage: Callable[[Path], None]) -> None:
        super().__init__()
        self.lab = lab
        self.damage = damage

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if isinstance(event, StageBegan) and event.stage is Stage.VERIFY and event.disk_label == "scsi.0":
            self.damage(self.lab.unfinished()[0])


async def test_a_bit_that_flipped_on_the_way_to_the_image_is_found(v4_lab: Lab) -> None:
    lab = v4_lab
    lab.make_witness = lambda: Vandal(lab, flip_a_bit)

    with pytest.raises(ChecksumMismatch, match=r"scsi\.0") as caught:
        await lab.capture()

    assert caught.value.blocks == 1
    assert len(caught.value.offsets) == 1
    lab.assert_clean(points=0)


async def test_zeros_that_do_not_mask_old_data_are_found(v4_lab: Lab) -> None:
    lab = v4_lab
    await lab.capture()
    lab.zero(0, 4 * MIB, MIB)
    lab.make_witness = lambda: Vandal(lab, unmask)

    with pytest.raises(ChecksumMismatch) as caught:
        await lab.capture()

    assert caught.value.offsets == (4 * MIB,)
    lab.assert_clean(points=1)


async def test_without_verify_nothing_is_read_back(v4_lab: Lab) -> None:
    point = await v4_lab.capture(verify=False)

    assert {report.bytes_verified for report in point.report.disks.values()} == {0}
    assert v4_lab.stored(point) == v4_lab.guest()


async def test_a_vm_that_is_being_captured_is_locked(v4_lab: Lab) -> None:
    async with v4_lab.repository.lock(v4_lab.vm_id):
        with pytest.raises(LockedError):
            await v4_lab.capture()

    assert v4_lab.recovery_points() == []


async def test_a_vm_that_does_not_exist_is_not_found(v4_lab: Lab) -> None:
    with pytest.raises(NotFoundError):
        await plan_capture(v4_lab.prism, v4_lab.repository, "00000000-0000-0000-0000-000000000000", CaptureOptions())


async def test_a_vm_without_disks_has_nothing_to_capture(v4_lab: Lab) -> None:
    v4_lab.sim.config.vms[0].disks.clear()
    v4_lab.reconfigure()

    with pytest.raises(NtxError, match="no disk that can be captured"):
        await v4_lab.capture()

    v4_lab.assert_clean(points=0)
    assert not (v4_lab.repository.path / v4_lab.vm_id).exists()


async def test_a_damaged_previous_image_is_not_built_upon(v4_lab: Lab) -> None:
    lab = v4_lab
    first = await lab.capture()
    for disk in first.disks:
        (first.path / disk.file).write_bytes(b"not an image")
    lab.write(0, 0, os.urandom(512))

    with pytest.raises(RepositoryError, match="make one with --full"):
        await lab.capture(on_lost_tracking="fail")

    lab.assert_clean(points=1)


async def test_a_missing_qemu_nbd_is_named_with_its_package(
    v4_lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("qemu-img", "setpriv", "sh"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    monkeypatch.setenv("PATH", str(tools))

    with pytest.raises(ToolError, match=r"qemu-nbd is not installed.*qemu-utils"):
        await v4_lab.capture(image=ImageOptions(writer="qemu"))

    v4_lab.assert_clean(points=0)


# ----------------------------------------------------------------------------------------------- consistency


async def test_auto_takes_crash_consistency_where_guest_tools_cannot_and_says_why(v4_lab: Lab) -> None:
    v4_lab.sim.config.vms[0].guest_tools = GuestToolsConfig(reachable=False)
    v4_lab.reconfigure()

    point = await v4_lab.capture()

    assert (point.consistency_requested, point.consistency_obtained) == ("auto", "crash")
    assert point.report.consistency_reason == "Guest Tools do not answer"


async def test_app_is_refused_where_guest_tools_cannot(v4_lab: Lab) -> None:
    v4_lab.sim.config.vms[0].power = "off"
    v4_lab.reconfigure()

    with pytest.raises(NtxError, match=r"the VM is off.*--consistency auto"):
        await v4_lab.capture(consistency="app")

    v4_lab.assert_clean(points=0)


async def test_a_downgrade_by_the_cluster_is_recorded_or_refused(v4_lab: Lab) -> None:
    v4_lab.sim.faults.downgrade_consistency = True

    point = await v4_lab.capture()
    with pytest.raises(NtxError, match="crash-consistent"):
        await v4_lab.capture(consistency="app")

    assert point.consistency_obtained == "crash"
    assert "application consistency was asked for" in point.report.consistency_reason
    v4_lab.assert_clean(points=1)


async def test_a_failed_application_consistent_point_is_made_again_crash_consistent(v4_lab: Lab) -> None:
    v4_lab.sim.faults.fail_tasks["create"] = 1

    point = await v4_lab.capture()

    assert point.consistency_obtained == "crash"
    assert any("making a crash-consistent one" in text for text in v4_lab.witness.warnings)
    v4_lab.assert_clean(points=1)


@pytest.mark.parametrize(("status", "posts"), [(422, 2), (501, 1)])
async def test_only_a_refusal_that_may_be_about_quiescing_leads_to_a_second_freeze(
    v4_lab: Lab, status: int, posts: int
) -> None:
    v4_lab.sim.faults.http.append(HttpFault("/recovery-points$", method="POST", status=status, count=-1))

    with pytest.raises(PrismStatusError):
        await v4_lab.capture()

    asked = [one for one in v4_lab.sim.requests if one.method == "POST" and one.path.endswith("/recovery-points")]
    assert len(asked) == posts
    v4_lab.assert_clean(points=0)


def test_a_refusal_of_a_request_that_may_have_been_executed_is_not_about_quiescing() -> None:
    refused = PrismStatusError("x", status=422)
    assert may_be_about_quiescing(refused)

    refused.may_have_been_done = True

    assert not may_be_about_quiescing(refused)
    assert not any(may_be_about_quiescing(PrismStatusError("x", status=status)) for status in (403, 404, 429, 500))
    assert may_be_about_quiescing(TaskFailed("x"))


async def test_crash_is_what_crash_gets(v4_lab: Lab) -> None:
    point = await v4_lab.capture(consistency="crash")

    assert (point.consistency_obtained, point.report.consistency_reason) == ("crash", "")


# -------------------------------------------------------------------------------------------------- planning


async def test_a_plan_touches_nothing_and_says_what_would_be_done(v4_lab: Lab) -> None:
    lab = v4_lab
    first = await lab.capture()
    files = sorted(lab.repository.path.rglob("*"))
    lab.sim.requests.clear()

    plan = await plan_capture(lab.prism, lab.repository, lab.vm_id, CaptureOptions())

    assert plan.parent is not None
    assert plan.parent.id == first.id
    assert [first_method(disk) for disk in plan.disks] == ["changed-regions"] * 2
    asked = [request for request in lab.sim.requests if request.method != "GET"]
    assert {request.path.rpartition("/")[2] for request in asked} == {"discover-cluster"}  # a POST that makes nothing
    assert sorted(lab.repository.path.rglob("*")) == files


@pytest.mark.parametrize(
    "wrong", [{"consistency": "maybe"}, {"on_lost_tracking": "panic"}, {"parallel": 0}, {"expiry": None}]
)
def test_options_that_cannot_be_meant_are_refused(wrong: dict[str, object]) -> None:
    from datetime import timedelta

    values = {name: timedelta(0) if value is None else value for name, value in wrong.items()}

    with pytest.raises(OptionsError):
        CaptureOptions(**values)  # type: ignore[arg-type]

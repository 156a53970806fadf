"""When a new point cannot, or shall not, go on top of the newest one: it stands alone, and says why."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.capture import CaptureOptions, plan_capture
from ntxengine.errors import AttachError, ChecksumMismatch, OptionsError, RepositoryError, ToolError
from ntxengine.images.choice import ImageOptions
from ntxengine.prism.models import Vm
from ntxengine.repository import Point, Repository, layout
from tests.capture.lab import MIB, Lab
from tests.capture.test_failures import Vandal, unmask


def _image(point: Point, label: str = "scsi.0") -> str:
    return str(point.image_path(point.disk(label)))


def _overwrite(path: str, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def _rot_point(point: Point) -> None:
    """Zero 40 bytes of point.json, and leave its size and time as the catalog has them."""
    file = point.path / "point.json"
    status = file.stat()
    _overwrite(str(file), 100, bytes(40))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


DAMAGE: dict[str, Callable[[list[Point]], object]] = {
    "the middle point removed": lambda points: shutil.rmtree(points[1].path),
    "the magic of the base": lambda points: _overwrite(_image(points[0]), 0, bytes(4)),
    "the size in the base": lambda points: _overwrite(_image(points[0]), 24, b"\xff" * 4),
    "the newest image gone": lambda points: os.unlink(_image(points[2])),
    "a bit in the newest manifest": lambda points: _overwrite(
        str(points[2].manifest_path(points[2].disk("scsi.0"))), 4096, b"\x01"
    ),
    "the newest point.json": lambda points: _overwrite(str(points[2].path / "point.json"), 0, b"x"),
    "the newest point.json, masked by the catalog": lambda points: _rot_point(points[2]),
}


async def three_points(lab: Lab) -> list[Point]:
    points = []
    for number in range(3):
        points.append(await lab.capture(verify=False))
        lab.write(0, number * 65536, os.urandom(512))
    return points


async def test_what_is_damaged_is_not_built_on(v4_lab: Lab, tmp_path: Path) -> None:
    lab = v4_lab
    names = [point.id for point in await three_points(lab)]
    reasons = {}
    for number, damage in enumerate(DAMAGE):
        copy = await Repository.open(shutil.copytree(lab.repository.path, tmp_path / f"copy{number}"))
        points = await copy.points()
        DAMAGE[damage](points)

        plan = await plan_capture(lab.prism, copy, lab.vm_id, CaptureOptions())

        assert [point.id for point in points] == names
        assert plan.parent is None
        assert all(disk.lost == plan.full_reason for disk in plan.disks)
        reasons[damage] = plan.full_reason

    assert all("points of the VM" in reason for reason in reasons.values())
    assert f"{names[1]}: is missing, and point {names[2]} is on top of it" in reasons["the middle point removed"]
    assert f"{names[0]}/disk-" in reasons["the magic of the base"]
    assert "none of the 3 points of the VM is whole" in reasons["the size in the base"]
    assert f"the newest of them {names[1]}" in reasons["the newest image gone"]
    assert ".manifest: the manifest is damaged" in reasons["a bit in the newest manifest"]
    assert f"{names[2]}/point.json" in reasons["the newest point.json"]
    assert f"{names[2]}/point.json" in reasons["the newest point.json, masked by the catalog"]


async def test_a_capture_where_the_last_point_is_not_whole_stands_alone_and_says_so(v4_lab: Lab) -> None:
    lab = v4_lab
    points = await three_points(lab)
    shutil.rmtree(points[1].path)

    point = await lab.capture()

    assert (point.kind, point.parent_id, point.tracking) == ("full", None, "allocated")
    assert point.id > points[2].id
    assert lab.stored(point) == lab.guest()
    assert points[1].id in point.tracking_reason
    assert any("is captured in full" in text for text in lab.witness.warnings)
    assert point.report.warnings == tuple(lab.witness.warnings)
    lab.assert_clean(points=3)


async def test_after_a_new_full_point_the_next_one_is_incremental_again(v4_lab: Lab) -> None:
    lab = v4_lab
    first = await lab.capture(verify=False)
    _overwrite(str(first.path / "point.json"), 0, b"x")
    full = await lab.capture(verify=False)
    lab.write(0, 0, os.urandom(512))

    point = await lab.capture()

    assert (point.kind, point.parent_id, point.tracking) == ("incremental", full.id, "v4-changed-regions")
    assert lab.stored(point) == lab.guest()
    assert lab.witness.warnings == []


async def test_damage_of_a_disk_that_the_vm_no_longer_has_does_no_harm(v4_lab: Lab) -> None:
    lab = v4_lab
    first = await lab.capture(verify=False)
    os.unlink(_image(first, "scsi.1"))
    del lab.sim.config.vms[0].disks[1]
    lab.reconfigure()

    point = await lab.capture()

    assert (point.kind, point.parent_id) == ("incremental", first.id)


async def test_what_is_damaged_is_an_error_where_nothing_but_changes_may_be_read(v4_lab: Lab) -> None:
    lab = v4_lab
    points = await three_points(lab)
    shutil.rmtree(points[1].path)
    options = CaptureOptions(on_lost_tracking="fail")

    for attempt in (
        lambda: lab.capture(on_lost_tracking="fail"),
        lambda: plan_capture(lab.prism, lab.repository, lab.vm_id, options),
    ):
        with pytest.raises(RepositoryError, match=f"{points[1].id}.* 1 of the 2 points .* {points[0].id}.* --full"):
            await attempt()

    assert len(lab.points(lab.vm_id)) == 2
    assert lab.unfinished() == []


async def test_full_can_be_asked_for_with_a_reason(v4_lab: Lab) -> None:
    lab = v4_lab
    await lab.capture(verify=False)

    point = await lab.capture(full=True, reason="storage was restored from a replica", on_lost_tracking="fail")

    assert (point.kind, point.tracking) == ("full", "allocated")
    assert point.tracking_reason == "a full point was asked for: storage was restored from a replica"
    assert lab.witness.warnings == []
    assert lab.stored(point) == lab.guest()
    lab.assert_clean(points=2)


async def test_a_scan_can_be_asked_for_and_finds_what_the_cluster_does_not_tell(v4_lab: Lab) -> None:
    lab = v4_lab
    first = await lab.capture(verify=False)
    lab.write(0, 0, os.urandom(512))

    point = await lab.capture(scan=True, reason="a bug in the cluster", on_lost_tracking="fail")

    assert (point.kind, point.parent_id, point.tracking) == ("incremental", first.id, "digest-scan")
    assert point.tracking_reason == "a scan was asked for: a bug in the cluster"
    assert lab.stored(point) == lab.guest()
    lab.assert_clean(points=2)


async def test_a_chain_that_has_reached_its_limit_is_made_shorter_first(v4_lab: Lab) -> None:
    lab = v4_lab
    points = [await lab.capture(verify=False) for _ in range(2)]
    held = lab.guest()
    lab.write(0, 0, os.urandom(512))
    (points[1].path.parent / ".unfinished-20990101T000000Z-8f3a2c").mkdir()  # killed before the VM was frozen

    point = await lab.capture(max_chain=2)

    assert (point.kind, point.parent_id, point.tracking) == ("incremental", points[1].id, "v4-changed-regions")
    assert lab.stored(point) == lab.guest()
    alone = await lab.repository.point(points[1].id)
    assert (alone.kind, alone.parent_id) == ("full", None)
    assert {disk.backing for disk in alone.disks} == {""}
    assert lab.stored(alone) == held
    lab.assert_clean(points=3)


async def test_a_chain_that_cannot_be_made_shorter_is_followed_by_a_full_point(
    v4_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = v4_lab
    points = [await lab.capture(verify=False) for _ in range(2)]
    options = CaptureOptions(max_chain=2, on_lost_tracking="fail")
    planned = await plan_capture(lab.prism, lab.repository, lab.vm_id, options)
    monkeypatch.setattr("ntxengine.prune.workflow.free_bytes", lambda _: 0)

    point = await lab.capture(max_chain=2, on_lost_tracking="fail")
    warnings = lab.witness.warnings
    following = await lab.capture(max_chain=2)

    assert any("could not be made shorter" in text and "free some space" in text for text in warnings)
    assert point.kind == "full"
    assert point.tracking_reason == planned.full_reason
    assert f"point {points[1].id} has a depth of 2, and 2 is the most (--max-chain)" in planned.full_reason
    assert any("has a depth of 2" in text for text in point.report.warnings)
    assert (following.kind, following.parent_id) == ("incremental", point.id)
    lab.assert_clean(points=4)


async def test_no_chain_grows_beyond_half_of_what_qemu_can_open(v4_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = v4_lab
    await lab.capture(verify=False)
    at = lab.repository.path / lab.vm_id / "20261123T041500Z-8f3a2c" / "disk-0a1b2c3d-0000-4000-8000-00000000aa01.qcow2"
    monkeypatch.setattr(layout, "MAX_PATH", len(str(at)) + 1 + 2 * len("/../20261123T041500Z-8f3a2c"))

    plan = await plan_capture(lab.prism, lab.repository, lab.vm_id, CaptureOptions(max_chain=1000))

    assert plan.parent is None
    assert "has a depth of 1, and 1 is the most (half of the 3 that qemu can open at this path)" in plan.full_reason


def test_contradicting_options_are_refused() -> None:
    for options in ({"full": True, "scan": True}, {"reason": "x"}, {"max_chain": 0}):
        with pytest.raises(OptionsError):
            CaptureOptions(**options)  # type: ignore[arg-type]


async def test_a_worker_on_another_cluster_is_refused_before_anything_is_made(
    v4_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = v4_lab
    worker_id = lab.attacher.worker_id
    ask = lab.prism.vm

    async def elsewhere(vm_id: str) -> Vm:
        vm = await ask(vm_id)
        return dataclasses.replace(vm, cluster_id="0005e0b2-elsewhere") if vm_id == worker_id else vm

    monkeypatch.setattr(lab.prism, "vm", elsewhere)

    for attempt in (
        lab.capture,
        lambda: plan_capture(lab.prism, lab.repository, lab.vm_id, CaptureOptions(), attacher=lab.attacher),
    ):
        with pytest.raises(AttachError, match=r"on cluster 0005e0b2-elsewhere: .* use a worker VM of the first"):
            await attempt()

    lab.assert_clean(points=0)


async def test_where_qemu_cannot_open_the_chain_the_error_names_the_way_out(
    v4_lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = v4_lab
    await lab.capture(verify=False)
    lab.write(0, 0, os.urandom(512))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "qemu-nbd").write_text("#!/bin/sh\necho 'qemu-nbd: Could not read L1 table' >&2\nexit 1\n")
    (programs / "qemu-nbd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    with pytest.raises(ToolError, match=r"Could not read L1 table; if an image below is damaged, .*--full"):
        await lab.capture(image=ImageOptions(writer="qemu"))

    lab.assert_clean(points=1)


class Once(Vandal):
    """Damages the first image of the system disk that is read back, and no later one."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, self._damage_once)
        self._is_done = False

    def _damage_once(self, folder: Path) -> None:
        if not self._is_done:
            unmask(folder)
        self._is_done = True


async def test_an_increment_that_is_read_back_as_something_else_makes_a_full_point(v4_lab: Lab) -> None:
    lab = v4_lab
    first = await lab.capture()
    lab.write(0, 4 * MIB, os.urandom(512))
    vandal = Once(lab)
    lab.make_witness = lambda: vandal

    point = await lab.capture()

    assert (point.kind, point.parent_id) == ("full", None)
    assert lab.stored(point) == lab.guest()
    assert "read back as something else" in point.tracking_reason
    assert any(f"ntx verify {first.id}" in warning for warning in lab.witness.warnings)
    lab.assert_clean(points=2)


async def test_an_increment_that_is_read_back_as_something_else_is_an_error_where_a_full_point_is_not_allowed(
    v4_lab: Lab,
) -> None:
    lab = v4_lab
    await lab.capture()
    lab.write(0, 4 * MIB, os.urandom(512))
    vandal = Once(lab)
    lab.make_witness = lambda: vandal

    with pytest.raises(ChecksumMismatch, match=r"may be damaged.*--full"):
        await lab.capture(on_lost_tracking="fail")

    lab.assert_clean(points=1)

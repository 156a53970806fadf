"""Several VMs frozen at one moment by one recovery point, which stays as long as one of them needs it."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ntxengine.capture import CaptureOptions, Outcome, capture, capture_together
from ntxengine.errors import LockedError, NtxError, OptionsError, OtherFailed
from ntxengine.events import Event, Stage, StageBegan
from ntxengine.prism.models import Vm
from ntxengine.repository import Point
from ntxengine.sim import SimConfig
from ntxengine.sim.config import DiskConfig, GroupConfig, GuestToolsConfig, VmConfig
from ntxengine.sim.faults import HttpFault
from ntxengine.sweep import sweep
from tests.capture.lab import MIB, Lab
from tests.support.rates import without_rates

NAMES = ("a", "b", "c")


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    """Three small VMs; `b` has a volume group, which `c` shares.  `db01` is there for the lab."""

    def disk(name: str) -> DiskConfig:
        path = tmp_path / f"{name}.raw"
        path.write_bytes(os.urandom(70_000) + bytes(MIB - 70_000))
        return DiskConfig(path)

    vms = [VmConfig(name, disks=[disk(name)], guest_tools=GuestToolsConfig()) for name in ("db01", *NAMES)]
    group = GroupConfig("shared", disks=[disk("group")], vms=["b", "c"], is_shared=True)
    return without_rates(SimConfig(vms=vms, volume_groups=[group]))


class Several:
    """The three VMs of a lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    async def vms(self, names: tuple[str, ...] = NAMES) -> list[Vm]:
        return [await self.lab.prism.vm(self.lab.sim.vm_id(name)) for name in names]

    async def together(self, names: tuple[str, ...] = NAMES, on_event: Any = None, **options: Any) -> list[Outcome]:
        return await capture_together(
            self.lab.prism,
            self.lab.repository,
            await self.vms(names),
            options=CaptureOptions(**options),
            attacher=self.lab.attacher,
            at_once=3,
            on_event=on_event or self.lab.witness,
        )

    async def points(self, names: tuple[str, ...] = NAMES, **options: Any) -> list[Point]:
        return [taken(outcome) for outcome in await self.together(names, **options)]

    async def alone(self, name: str) -> Point:
        (vm,) = await self.vms((name,))
        lab = self.lab
        return await capture(lab.prism, lab.repository, vm, options=CaptureOptions(), attacher=lab.attacher)

    def stored(self, point: Point) -> dict[str, bytes]:
        return {disk.label: self.lab._read(point, disk.file)[: disk.size] for disk in point.disks}

    def path(self, name: str) -> Path:
        return next(vm.disks[0].path for vm in self.lab.sim.config.vms if vm.name == name)

    def records(self) -> list[str]:
        """Return the VMs that have a record, each as often as it has one."""
        ids = {self.lab.sim.vm_id(name): name for name in NAMES}
        found = self.lab.repository.path.glob("*/.cluster-*.json")
        return sorted(ids[path.parent.name] for path in found)

    async def sweep(self) -> list[str]:
        report = await sweep(self.lab.prism, self.lab.repository, attach=self.lab.attach_options)
        assert report.problems == []
        return sorted(found.kind for found in report.removed)


def taken(outcome: Outcome) -> Point:
    assert outcome.point is not None, outcome.error
    return outcome.point


@pytest.fixture
async def several(v4_lab: Lab) -> Several:
    return Several(v4_lab)


async def test_all_are_frozen_by_one_recovery_point_and_say_so(several: Several) -> None:
    points = await several.points()

    assert len(several.lab.recovery_points()) == 1
    assert len({point.recovery_point_id for point in points}) == len({point.created_at for point in points}) == 1
    members = [(member.vm_name, member.point_id) for member in points[0].together]
    assert members == [(name, point.id) for name, point in zip(NAMES, points, strict=True)]
    for point, name in zip(points, NAMES, strict=True):
        again = await several.lab.repository.point(point.id)
        assert again.together == points[0].together
        assert several.stored(point)["scsi.0"] == several.path(name).read_bytes()
    assert set(several.stored(points[1])) == set(several.stored(points[2])) == {"scsi.0", "vg:shared.0"}
    assert several.lab.hot_added() == []


async def test_the_next_captures_track_what_changed_and_the_last_deletes_the_recovery_point(several: Several) -> None:
    await several.together()
    (shared,) = several.lab.recovery_points()
    left = []

    for name in NAMES:
        with several.path(name).open("r+b") as file:
            file.write(os.urandom(100))
        point = await several.alone(name)
        left.append(shared in several.lab.recovery_points())
        assert (point.kind, point.tracking, point.together) == ("incremental", "v4-changed-regions", ())
        assert several.stored(point)["scsi.0"] == several.path(name).read_bytes()

    assert left == [True, True, False]
    assert several.records() == list(NAMES)
    assert len(several.lab.recovery_points()) == 3


async def test_captured_together_again_the_older_recovery_point_goes(several: Several) -> None:
    first = await several.points()

    second = await several.points()

    (left,) = several.lab.recovery_points()
    assert second[0].id in left
    assert [point.parent_id for point in second] == [point.id for point in first]
    assert several.records() == list(NAMES)


class Writer:
    """Writes 1, 2, 3, ... to the disks of all VMs in turn: no later number may be stored without the earlier ones."""

    def __init__(self, lab: Lab, paths: list[Path]) -> None:
        self._lock, self._paths, self._stop = lab.sim.disk_lock, paths, threading.Event()
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Writer:
        self._thread.start()
        assert self._has_begun.wait(60)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        number = 0
        files = [path.open("r+b") for path in self._paths]
        while not self._stop.is_set():
            number += 1
            file = files[number % len(files)]
            with self._lock:
                file.seek(0)
                file.write(number.to_bytes(8, "little"))
                file.flush()
            if number == len(files):
                self._has_begun.set()
            time.sleep(0.0002)
        for file in files:
            file.close()


async def test_all_disks_of_all_vms_are_of_one_moment(several: Several) -> None:
    paths = [*(several.path(name) for name in NAMES), several.lab.sim.config.volume_groups[0].disks[0].path]

    with Writer(several.lab, paths):
        first = await several.points()
        second = await several.points()

    for points in (first, second):
        stored = [several.stored(point)["scsi.0"] for point in points]
        stored.append(several.stored(points[1])["vg:shared.0"])
        assert several.stored(points[2])["vg:shared.0"] == stored[-1]
        numbers = [int.from_bytes(data[:8], "little") for data in stored]
        assert max(numbers) - min(numbers) == len(paths) - 1, numbers


async def test_one_that_cannot_be_planned_stops_all_before_anything_is_made(several: Several) -> None:
    async with several.lab.repository.lock(several.lab.sim.vm_id("b")):
        outcomes = await several.together()

    assert [type(outcome.error) for outcome in outcomes] == [OtherFailed, LockedError, OtherFailed]
    failed = several.lab.sim.vm_id("b")
    said = f"nothing was frozen: VM 'b' ({failed}), which was to be frozen with it, failed"
    assert {str(outcomes[0].error), str(outcomes[2].error)} == {said}
    assert outcomes[0].error is not None
    assert outcomes[0].error.__cause__ is outcomes[1].error
    assert several.lab.recovery_points() == []
    assert several.lab.unfinished() == []
    assert several.records() == []


async def test_one_that_fails_after_the_freeze_leaves_the_others_right(several: Several) -> None:
    failing = several.lab.sim.vm_id("b")

    def fail(event: Event) -> None:
        if isinstance(event, StageBegan) and event.stage is Stage.COPY and event.vm_id == failing:
            raise NtxError("no luck")

    outcomes = await several.together(on_event=fail, parallel=1)

    assert [type(outcome.error) for outcome in outcomes] == [type(None), NtxError, type(None)]
    assert several.stored(taken(outcomes[0]))["scsi.0"] == several.path("a").read_bytes()
    assert len(several.lab.recovery_points()) == 1
    assert several.records() == ["a", "c"]
    assert several.lab.hot_added() == []
    assert await several.sweep() == []
    assert (await several.alone("a")).kind == "incremental"


async def test_if_all_fail_after_the_freeze_nothing_is_left(several: Several) -> None:
    def fail(event: Event) -> None:
        if isinstance(event, StageBegan) and event.stage is Stage.COPY:
            raise NtxError("no luck")

    outcomes = await several.together(on_event=fail, parallel=1)

    # A record may stay for a while: of a VM whose attaching was cancelled, where a clone may come yet.
    assert all(outcome.error is not None for outcome in outcomes)
    assert (several.lab.recovery_points(), several.lab.hot_added(), several.lab.unfinished()) == ([], [], [])


async def test_a_recovery_point_that_is_refused_leaves_nothing(several: Several) -> None:
    several.lab.sim.faults.http.append(HttpFault("/recovery-points$", method="POST", status=403, count=-1))

    outcomes = await several.together()

    assert all(isinstance(outcome.error, NtxError) for outcome in outcomes)
    assert not any(isinstance(outcome.error, OtherFailed) for outcome in outcomes)
    assert (several.lab.recovery_points(), several.lab.unfinished()) == ([], [])


async def test_where_one_cannot_be_quiesced_all_are_crash_consistent_and_say_why(several: Several) -> None:
    tools = several.lab.sim.config.vms[1].guest_tools
    assert tools is not None
    tools.can_quiesce = False

    points = await several.points()

    assert {point.consistency_obtained for point in points} == {"crash"}
    assert "cannot quiesce" in points[0].report.consistency_reason
    assert "VM 'a', which is frozen at the same moment" in points[1].report.consistency_reason


async def test_where_the_cluster_cannot_quiesce_them_all_are_crash_consistent_by_a_second_try(
    several: Several,
) -> None:
    several.lab.sim.config.cannot_quiesce = "fail"
    tools = several.lab.sim.config.vms[1].guest_tools
    assert tools is not None
    tools.can_quiesce = None
    several.lab.sim.faults.fail_tasks["create"] = 1

    points = await several.points()

    assert {point.consistency_obtained for point in points} == {"crash"}
    for point in points:
        assert sum("no application-consistent recovery point" in text for text in point.report.warnings) == 1
    assert len(several.lab.recovery_points()) == 1


async def test_recorded_answers_are_understood(several: Several) -> None:
    several.lab.sim.config.style = "recorded"
    await several.points()
    with several.path("a").open("r+b") as file:
        file.write(b"changed")

    points = await several.points()

    assert {point.tracking for point in points} == {"v4-changed-regions"}
    assert several.stored(points[0])["scsi.0"] == several.path("a").read_bytes()
    assert "vg:shared.0" in several.stored(points[1])


async def test_a_sweep_keeps_what_another_vm_needs_until_nobody_does(several: Several) -> None:
    """A VM whose record is not that of its newest point gives up; the recovery point goes with the last."""
    points = await several.points()
    several.lab.sim.faults.http.append(HttpFault("/recovery-points/", method="DELETE", status=403, count=-1))
    for name in NAMES:
        await several.alone(name)
    several.lab.sim.faults.http.clear()
    assert len(several.lab.recovery_points()) == 4

    removed = await several.sweep()

    assert removed == ["recovery-point"]
    assert not any(points[0].id in name for name in several.lab.recovery_points())
    assert several.records() == list(NAMES)


async def test_a_dry_sweep_tells_of_the_shared_recovery_point_once(several: Several) -> None:
    await several.points()
    several.lab.sim.faults.http.append(HttpFault("/recovery-points/", method="DELETE", status=403, count=-1))
    for name in NAMES:
        await several.alone(name)
    several.lab.sim.faults.http.clear()

    report = await sweep(several.lab.prism, several.lab.repository, dry_run=True)

    assert [found.kind for found in report.removed] == ["recovery-point"]
    assert len(several.lab.recovery_points()) == 4


async def test_a_record_that_cannot_be_read_keeps_the_recovery_point(several: Several) -> None:
    await several.points(("a", "b"))
    (record,) = (several.lab.repository.path / several.lab.sim.vm_id("b")).glob(".cluster-*")
    record.write_bytes(b"{")

    await several.alone("a")

    assert len(several.lab.recovery_points()) == 2


@pytest.mark.parametrize("count", [33, 1])
async def test_more_than_a_recovery_point_holds_are_refused_with_the_number(several: Several, count: int) -> None:
    vms = (await several.vms()) * 11

    with pytest.raises(OptionsError) as refusal:
        await capture_together(
            several.lab.prism,
            several.lab.repository,
            vms[:count],
            options=CaptureOptions(),
            attacher=several.lab.attacher,
        )

    assert str(count) in str(refusal.value)
    assert several.lab.recovery_points() == []


async def test_vms_of_two_clusters_are_refused(several: Several) -> None:
    first, second, _ = await several.vms()

    obstacle = several.lab.prism.shared_obstacle([first, replace(second, cluster_id="elsewhere")])

    assert obstacle.startswith("a recovery point lies on one cluster")
    assert "VM 'b' on cluster elsewhere" in obstacle


async def test_groups_count_among_the_entities(several: Several, tmp_path: Path) -> None:
    for number in range(29):
        disk = DiskConfig(tmp_path / f"many{number}.raw", size=MIB)
        several.lab.sim.config.volume_groups.append(GroupConfig(f"many{number}", disks=[disk], vms=["a"]))

    outcomes = await several.together()

    assert all("3 VMs and 30 volume groups are 33" in str(outcome.error) for outcome in outcomes)
    assert several.lab.recovery_points() == []


async def test_a_group_of_two_vms_is_read_over_iscsi_by_one_after_the_other(iscsi_lab: Lab) -> None:
    """The volume group that is made of a disk recovery point has one name, and one initiator one secret."""
    several = Several(iscsi_lab)

    points = await several.points()

    group = several.lab.sim.config.volume_groups[0].disks[0].path.read_bytes()
    assert [several.stored(point)["vg:shared.0"] for point in points[1:]] == [group] * 2
    assert several.lab.sim.world.state.made_groups == {}


async def test_v3_says_that_it_cannot_and_what_can(v3_hot_add_lab: Lab) -> None:
    several = Several(v3_hot_add_lab)

    with pytest.raises(OptionsError, match=r"a snapshot of v3 holds one VM.*Prism Central that has v4"):
        await several.together()

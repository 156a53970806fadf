"""A cluster that answers 200 and says nothing: an error or a whole read, never a point that lacks something."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ntxengine.errors import PrismAnswerError, PrismError
from ntxengine.sim.config import DiskConfig
from ntxengine.sim.faults import AnswerFault
from tests.capture.lab import MIB, Lab

REGIONS = r"compute-changed-regions|data/changed_regions"
KINDS = ["nothing", "has_error", "error_entity", "is_truncated"]


def spoil(lab: Lab, kind: str, *, count: int = -1) -> None:
    lab.sim.faults.answers.append(AnswerFault(path=REGIONS, kind=kind, value=400, count=count))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_first_capture_reads_the_disk_or_fails(lab: Lab, kind: str) -> None:
    spoil(lab, kind)

    try:
        point = await lab.capture()
    except PrismError:
        lab.assert_clean(points=0)
        return

    assert lab.stored(point) == lab.guest()
    lab.assert_clean(points=1)


@pytest.mark.parametrize("kind", ["nothing", "has_error", "error_entity"])
async def test_an_increment_fails_and_the_next_one_misses_nothing(lab: Lab, kind: str) -> None:
    await lab.capture()
    lab.write(0, 3 * MIB, os.urandom(4096))
    if not (kind == "has_error" and lab.prism.family == "v3"):  # v3 has no flags
        spoil(lab, kind)

        with pytest.raises(PrismAnswerError, match=r"^disk .*; --scan reads the disk instead$"):
            await lab.capture()

    lab.sim.faults.answers.clear()
    lab.assert_clean(points=1)
    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    assert point.kind == "incremental"


async def test_a_first_capture_that_is_refused_names_the_scan_which_asks_nothing(v4_lab: Lab) -> None:
    lab = v4_lab
    spoil(lab, "is_truncated")
    with pytest.raises(PrismAnswerError, match=r"^disk .*; --scan reads the disk instead$"):
        await lab.capture()
    lab.assert_clean(points=0)
    lab.sim.requests.clear()

    point = await lab.capture(scan=True, reason="the cluster says nonsense", on_lost_tracking="fail")

    assert (point.kind, point.tracking) == ("full", "full")
    assert point.tracking_reason == "a scan was asked for: the cluster says nonsense"
    assert lab.stored(point) == lab.guest()
    assert not [each for each in lab.sim.requests if re.search(REGIONS, each.path)]
    lab.assert_clean(points=1)


async def test_a_scan_asks_nothing_of_a_disk_that_is_new_in_the_vm(v4_lab: Lab, tmp_path: Path) -> None:
    lab = v4_lab
    await lab.capture()
    lab.sim.config.vms[0].disks.append(DiskConfig(tmp_path / "new.raw", size=MIB))
    lab.reconfigure()
    spoil(lab, "is_truncated")

    point = await lab.capture(scan=True)

    assert [point.report.disks[disk.disk_id].tracking for disk in point.disks] == ["digest-scan", "digest-scan", "full"]
    assert lab.stored(point) == lab.guest()


async def test_a_scan_of_a_disk_that_shrank_asks_nothing_either(v4_lab: Lab) -> None:
    lab = v4_lab
    await lab.capture()
    lab.resize(0, 4 * MIB)
    lab.reconfigure()
    spoil(lab, "is_truncated")

    point = await lab.capture(scan=True)

    assert lab.stored(point) == lab.guest()


async def test_a_first_capture_that_is_told_nothing_says_that_it_reads_everything(v4_lab: Lab) -> None:
    spoil(v4_lab, "nothing")

    point = await v4_lab.capture()

    assert v4_lab.stored(point) == v4_lab.guest()
    assert point.tracking == "full"
    assert any("neither a region nor the size" in text for text in v4_lab.witness.warnings)


async def test_a_recovery_point_that_expires_after_all_time_does_not_hide_the_others(lab: Lab) -> None:
    await lab.capture()
    v4, v3 = "data.*.expirationTime", "entities.*.status.expiration_time_msecs"
    lab.sim.faults.answers += [
        AnswerFault(path="recovery-points", kind="set", field=v4, value="9999-12-31T23:59:59-05:00", count=-1),
        AnswerFault(path="vm_snapshots/list", kind="set", field=v3, value=10**30, count=-1),
    ]

    points = await lab.prism.recovery_points()

    assert [point.expires_at for point in points] == [None]
    assert lab.recovery_points() == [point.name for point in points]

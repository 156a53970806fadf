"""Disks come, go and change their size between exports; what the control plane has is what the VM has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ntxengine.sim.config import DiskConfig
from tests.capture.lab import MIB
from tests.export.exporting import Exporting


def told(exporting: Exporting) -> dict[str, dict[str, Any]]:
    """Return what the control plane was told of each disk last, by label."""
    return {disk["label"]: disk for disk in exporting.receiver.last["disks"]}


def assert_copies_are_the_disks(exporting: Exporting) -> None:
    copies = {label: (exporting.copies / label).read_bytes() for label in told(exporting)}
    assert [copies[label] for label in sorted(copies)] == exporting.lab.guest()


async def test_a_disk_that_is_new_is_whole_and_the_others_are_increments(exporting: Exporting, tmp_path: Path) -> None:
    lab = exporting.lab
    first = await exporting.run()
    path = tmp_path / "new.raw"
    path.write_bytes(os.urandom(MIB) + bytes(MIB))
    lab.sim.config.vms[0].disks.append(DiskConfig(path))
    lab.reconfigure()
    lab.write(0, MIB, os.urandom(4096))

    second = await exporting.run(since=first.recovery_point_id)

    disks = told(exporting)
    assert_copies_are_the_disks(exporting)
    assert {label: disk["since"] for label, disk in disks.items()} == {
        "scsi.0": first.recovery_point_id,
        "scsi.1": first.recovery_point_id,
        "scsi.2": None,
    }
    assert disks["scsi.2"]["reason"] == f"recovery point {first.recovery_point_id} does not hold this disk"
    third = await exporting.run(since=second.recovery_point_id)
    assert {disk["since"] for disk in told(exporting).values()} == {second.recovery_point_id}
    exporting.assert_clean(kept=[third.recovery_point_id])


async def test_a_disk_that_is_gone_is_not_told_of(exporting: Exporting) -> None:
    lab = exporting.lab
    first = await exporting.run()
    lab.sim.config.vms[0].disks.pop()
    lab.reconfigure()

    second = await exporting.run(since=first.recovery_point_id)

    assert list(told(exporting)) == ["scsi.0"]
    assert told(exporting)["scsi.0"]["since"] == first.recovery_point_id
    assert_copies_are_the_disks(exporting)
    exporting.assert_clean(kept=[second.recovery_point_id])


async def test_a_disk_that_comes_back_is_compared_with_nothing_it_was_not_in(exporting: Exporting) -> None:
    lab = exporting.lab
    first = await exporting.run()
    gone = lab.sim.config.vms[0].disks.pop()
    lab.reconfigure()
    second = await exporting.run(since=first.recovery_point_id)
    lab.sim.config.vms[0].disks.append(gone)
    lab.reconfigure()
    lab.write(1, 0, os.urandom(512))

    await exporting.run(since=second.recovery_point_id)

    assert told(exporting)["scsi.1"]["since"] is None
    assert_copies_are_the_disks(exporting)


async def test_a_disk_that_shrank_is_whole_again(exporting: Exporting) -> None:
    lab = exporting.lab
    first = await exporting.run()
    lab.resize(0, 5 * MIB)

    await exporting.run(since=first.recovery_point_id)

    disks = told(exporting)
    assert (disks["scsi.0"]["size"], disks["scsi.0"]["since"]) == (5 * MIB, None)
    assert "shrank" in disks["scsi.0"]["reason"]
    assert disks["scsi.1"]["since"] == first.recovery_point_id
    assert_copies_are_the_disks(exporting)


async def test_a_disk_that_grew_by_no_whole_block_is_an_increment(exporting: Exporting) -> None:
    lab = exporting.lab
    first = await exporting.run()
    lab.resize(1, 4 * MIB + 512)
    lab.write(1, 4 * MIB, os.urandom(512))

    await exporting.run(since=first.recovery_point_id)

    assert told(exporting)["scsi.1"]["since"] == first.recovery_point_id
    assert_copies_are_the_disks(exporting)

"""A control plane pulls a VM in full, then what changed; what it has then is the disk."""

from __future__ import annotations

import os

from ntxengine.export.links import PAGE_REGIONS
from tests.capture.lab import MIB
from tests.export.exporting import Exporting


async def test_full_and_increment_are_the_disks(any_exporting: Exporting) -> None:
    exporting = any_exporting
    lab = exporting.lab
    first = await exporting.run()
    assert exporting.copied() == lab.guest()
    assert "in full: no recovery point to compare with was named" in exporting.witness.warnings[0]
    lab.write(0, 2 * MIB, os.urandom(70_000))
    lab.write(1, 4096, os.urandom(512))
    lab.zero(0, 4 * MIB, MIB)
    frozen = lab.guest()

    second = await exporting.run(since=first.recovery_point_id)

    assert exporting.copied() == frozen
    assert second.reference_id == first.recovery_point_id
    assert all(disk["since"] == first.recovery_point_id for disk in second.disks)
    assert 0 < sum(disk["changed"]["bytes_data"] for disk in second.disks) < MIB
    exporting.assert_clean(kept=[second.recovery_point_id])


async def test_increment_of_nothing_names_no_region(exporting: Exporting) -> None:
    first = await exporting.run()

    second = await exporting.run(since=first.recovery_point_id)

    assert [disk["changed"]["regions"] for disk in second.disks] == [0, 0]
    assert [disk["changed"]["pages"] for disk in exporting.receiver.last["disks"]] == [[], []]
    assert exporting.copied() == exporting.lab.guest()
    assert second.recovery_point_id != first.recovery_point_id


async def test_disk_that_grew_and_one_that_is_new(exporting: Exporting) -> None:
    lab = exporting.lab
    first = await exporting.run()
    lab.resize(0, 9 * MIB)
    lab.write(0, 8 * MIB + 4096, os.urandom(4096))

    second = await exporting.run(since=first.recovery_point_id)

    assert exporting.copied() == lab.guest()
    assert second.disks[0]["size"] == 9 * MIB


async def test_regions_come_in_pages(exporting: Exporting, monkeypatch: object) -> None:
    lab = exporting.lab
    first = await exporting.run()
    for number in range(0, 64, 2):
        lab.write(0, number * 65536, os.urandom(4096))

    import pytest

    assert isinstance(monkeypatch, pytest.MonkeyPatch)
    monkeypatch.setattr("ntxengine.export.links.PAGE_REGIONS", 10)
    await exporting.run(since=first.recovery_point_id)

    assert PAGE_REGIONS == 10_000
    assert len(exporting.receiver.last["disks"][0]["changed"]["pages"]) == 4
    assert exporting.copied() == lab.guest()


async def test_reference_that_is_gone_makes_a_full_export_with_the_reason(exporting: Exporting) -> None:
    first = await exporting.run()
    await exporting.lab.prism.delete_recovery_point(first.recovery_point_id)

    second = await exporting.run(since=first.recovery_point_id)

    assert second.reference_id == ""
    assert f"the cluster no longer has recovery point {first.recovery_point_id}" in second.reference_reason
    assert second.reference_reason in exporting.witness.warnings[0]
    assert exporting.receiver.last["reference"] is None
    assert exporting.receiver.last["reference_reason"] == second.reference_reason
    assert exporting.copied() == exporting.lab.guest()


async def test_reference_that_was_never_given_out_is_not_asked_for(exporting: Exporting) -> None:
    second = await exporting.run(since="../../somebody/elses")

    assert "records no recovery point ../../somebody/elses" in second.reference_reason
    assert exporting.copied() == exporting.lab.guest()

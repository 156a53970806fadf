"""Where the disks lie decides how a copy begins, and what a dry run expects; nothing fails where it is not told."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntxengine.capture import CaptureOptions, plan_capture
from ntxengine.capture.storage import slowest_tier
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.tier import Tier
from ntxengine.sim import SimConfig
from ntxengine.sim.clusters import ContainerConfig, HostConfig
from ntxengine.units import KIB, MIB
from tests.capture.lab import DATA_SIZE, SYSTEM_SIZE, Lab, make_config


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    """A cluster with flash and disks, whose container `fast` compresses and deduplicates."""
    config = make_config(tmp_path / "disks")
    config.hosts = [HostConfig(["pcie", "hdd"])]
    config.containers = [ContainerConfig(), ContainerConfig("fast", compression=True, dedup=True)]
    return config


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["", "$UNKNOWN", "QUANTUM"], None),
        (["ALL_FLASH", "PCIE_SSD", "SATA_SSD"], Tier.SSD),
        (["SSD-PCIe", "SSD_MEM_NVME"], Tier.SSD),
        (["PCIE_SSD", "HDD"], Tier.HYBRID),
        (["MIXED"], Tier.HYBRID),
        (["ALL_HDD", "DAS-SATA"], Tier.HYBRID),
        (["PCIE_SSD", "CLOUD", "HDD"], Tier.CLOUD),
    ],
)
def test_the_slowest_that_is_named_counts(words: list[str], expected: Tier | None) -> None:
    assert slowest_tier(words) == expected


async def test_a_plan_knows_where_each_disk_lies(lab: Lab) -> None:
    plan = await plan_capture(lab.prism, lab.repository, lab.vm_id, CaptureOptions())

    system, data = (each.storage for each in plan.disks)
    assert (system.container.name, system.container.is_compressed, system.container.has_dedup) == (
        "default",
        False,
        False,
    )
    assert (data.container.name, data.container.is_compressed, data.container.has_dedup) == ("fast", True, True)
    assert (system.tier, data.tier) == (Tier.HYBRID, Tier.HYBRID)
    assert [each.bytes_estimated for each in plan.disks] == [int(SYSTEM_SIZE * 0.9), int(DATA_SIZE * 0.7)]


async def test_a_copy_begins_as_the_tier_and_a_person_say(lab: Lab) -> None:
    point = await lab.capture()
    chosen = await lab.capture(full=True, copy=CopyOptions(request_size=MIB))

    by_name = {report.container_name: report for report in point.report.disks.values()}
    assert {name: report.tier for name, report in by_name.items()} == {"default": "HYBRID", "fast": "HYBRID"}
    assert {report.request_size for report in by_name.values()} == {512 * KIB}
    assert {report.request_size for report in chosen.report.disks.values()} == {MIB}


async def test_a_capture_goes_on_where_nothing_is_told_of_storage(v4_lab: Lab) -> None:
    v4_lab.sim.faults.lacking_rights += ["View Storage Container", "View Cluster Host", "View Cluster"]

    point = await v4_lab.capture()

    assert {(report.container_name, report.tier) for report in point.report.disks.values()} == {(None, None)}
    assert {report.request_size for report in point.report.disks.values()} == {2 * MIB}
    assert v4_lab.witness.warnings == []

"""What the tests of volume groups do: make one, count what is left, change an answer."""

from __future__ import annotations

import pytest

from ntxengine.prism import DiskPoint, Prism, VolumeGroup
from ntxengine.sim import Simulator
from ntxengine.sim.faults import AnswerFault
from tests.prism.steps import freeze, subject

SECRET, OTHER = "abc4DEF5ghi6", "secretOfReader"
INITIATOR = "iqn.2026-01.io.ntxengine:reader"
GROUP = r"volume-groups/[\da-f-]{36}$"
CREATED = {"v4": "/config/volume-groups$", "v3": "/volume_groups$"}
families = pytest.mark.parametrize("family", ["v3", "v4"])


async def frozen(prism: Prism) -> tuple[DiskPoint, str]:
    """Return a disk of a new recovery point, and its cluster."""
    vm = await subject(prism)
    return (await freeze(prism, vm)).disks[0], vm.cluster_id


async def make(prism: Prism, name: str = "ntx-1-0a0b0c0d") -> VolumeGroup:
    disk, cluster_id = await frozen(prism)
    return await prism.make_volume_group(disk, name=name, cluster_id=cluster_id, secret=SECRET)


def changed(path: str, field: str, value: object) -> AnswerFault:
    return AnswerFault(path, kind="set", field=field, value=value, count=-1)


def left(sim: Simulator) -> int:
    """Return how many volume groups the cluster holds."""
    return len(sim.world.state.made_groups)

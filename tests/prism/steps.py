"""What several tests do: freeze a VM, walk its changed regions, write to its disks, wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import Consistency, RecoveryPoint, Vm
from ntxengine.sim import Simulator
from ntxengine.units import MIB
from tests.prism.conftest import VM_NAME

EXPIRES = datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC)
ABSENT = "00000000-0000-4000-8000-000000000000"


async def freeze(prism: Prism, vm: Vm, consistency: Consistency = "crash", name: str = "ntx-1") -> RecoveryPoint:
    return await prism.create_recovery_point(vm, name=name, consistency=consistency, expires_at=EXPIRES)


async def subject(prism: Prism) -> Vm:
    """Return the VM of the fixture, whole."""
    return await prism.vm(next(vm.id for vm in await prism.vms() if vm.name == VM_NAME))


async def rows(prism: Prism, point: RecoveryPoint, reference: RecoveryPoint | None = None) -> list[tuple[int, ...]]:
    """Return the changed regions of the first disk, all pages."""
    older = reference.disks[0] if reference else None
    found = [page async for page in prism.changed_regions(point.disks[0], older)]
    assert {page.disk_size for page in found} == {MIB}
    return [tuple(int(value) for value in row) for page in found for row in page.regions]


def points(sim: Simulator) -> int:
    """Return how many recovery points the cluster holds."""
    return len(sim.world.state.points)


def write(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)

"""What our recovery points hold on the cluster: told by Prism, estimated, or counted alone; too much is said once."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ntxengine.agent.clock import Clock
from ntxengine.agent.jobs import JobVm
from ntxengine.agent.levels import Level
from ntxengine.agent.queue import Needs
from ntxengine.agent.space import HeldSpace, Space, asking, held_space
from ntxengine.errors import PrismTimeout
from ntxengine.prism.models import Container, RecoveryPoint
from ntxengine.repository import NAME_PREFIX
from ntxengine.sim import run_in_thread
from ntxengine.units import GIB, TIB
from tests.agent.lab import agent, two_vms
from tests.agent.virtual import START
from tests.support.servers import require

HOUR = timedelta(hours=1)
VMS = {
    "vm-a": JobVm("vm-a", "a", Needs(containers=("fast",))),
    "vm-b": JobVm("vm-b", "b", Needs(containers=("fast", "slow"))),
}
CONTAINERS = [Container("c1", "fast", capacity=TIB), Container("c2", "slow")]


def point(vm: str, held: int | None = None, **more: Any) -> RecoveryPoint:
    return RecoveryPoint(f"rp-{vm}", f"{NAME_PREFIX}x", vm, "crash", START - HOUR, None, exclusive_bytes=held, **more)


def seen(*points: RecoveryPoint, rates: dict[str, float] | None = None) -> dict[str, HeldSpace]:
    return {each.container: each for each in held_space(points, CONTAINERS, VMS, rates or {}, START)}


def test_what_prism_tells_is_counted_in_the_containers_of_the_vm() -> None:
    found = seen(point("vm-a", 10 * GIB), point("vm-b", 4 * GIB))

    assert found == {
        "fast": HeldSpace("fast", 2, 12 * GIB, 0, 0, HOUR, TIB),
        "slow": HeldSpace("slow", 1, 2 * GIB, 0, 0, HOUR, None),
    }
    assert str(found["fast"]) == "2 recovery points of ntx hold 12.0 GiB (1.2 % of it), the oldest for 1h"


def test_what_it_does_not_tell_is_estimated_by_how_fast_the_vm_changes_and_said_so() -> None:
    found = seen(point("vm-a"), point("vm-b", 2 * GIB), rates={"vm-a": 1024.0**2})

    assert found["fast"].bytes_held == 3600 * 1024**2 + GIB
    assert found["fast"].bytes_estimated == 3600 * 1024**2
    assert "hold about 4.5 GiB" in str(found["fast"])


def test_of_a_vm_that_nobody_knows_points_are_counted_and_nothing_is_made_up() -> None:
    found = seen(point("vm-x"), point("vm-a"))

    assert found[""] == HeldSpace("", 1, 0, 0, 1, HOUR, None)
    assert str(found["fast"]).endswith("the oldest for 1h; 1 of them tell nothing")


def test_a_point_of_several_vms_is_counted_once() -> None:
    found = seen(point("vm-a", 6 * GIB, vm_ids=frozenset({"vm-a", "vm-b"})))

    assert sum(each.bytes_held for each in found.values()) == 6 * GIB


async def test_too_much_is_said_once_and_once_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    space, held = Space(), [point("vm-a", 200 * GIB)]

    async def ask() -> tuple[list[RecoveryPoint], list[Container]]:
        return held, CONTAINERS

    async def silent() -> tuple[list[RecoveryPoint], list[Container]]:
        raise PrismTimeout("no answer")

    await space.look(ask, VMS, {}, START)
    await space.look(ask, VMS, {}, START)
    (first,) = space.findings()
    held[0] = dataclasses.replace(held[0], exclusive_bytes=300 * GIB)
    await space.look(ask, VMS, {}, START)
    (second,) = space.findings()
    await space.look(silent, VMS, {}, START)
    assert len(space.findings()) == 1
    held[0] = dataclasses.replace(held[0], exclusive_bytes=GIB)
    await space.look(ask, VMS, {}, START)

    assert (first.level, second.level) == (Level.WARNING, Level.CRITICAL)
    assert first.subject == "storage container fast"
    assert "hold 200.0 GiB (19.5 % of it), the oldest for 1h; more than 10 % (agent.rec" in first.text
    assert space.findings() == []
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.rpartition("; ")[2] for text in said] == ["more than 10 %", "10 % is kept again"]


@pytest.mark.parametrize("usage", [None, 3 * GIB])
async def test_a_cluster_is_asked_by_two_calls(tmp_path: Path, usage: int | None) -> None:
    require("qemu-nbd", "qemu-img", "setpriv")
    config = dataclasses.replace(two_vms(tmp_path / "disks"), point_usage=usage)
    with run_in_thread(config, tmp_path / "cluster") as sim:
        async with agent(sim, tmp_path, clock=Clock()) as running:
            await running.capture("db01")
            before = len(sim.requests)

            points, containers = await asking(lambda: running.connection)()

            assert [each.exclusive_bytes for each in points] == [usage]
            assert {each.capacity for each in containers} == {10 * TIB}
            assert len(sim.requests) - before <= 2

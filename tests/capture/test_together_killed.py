"""A capture of several VMs that is killed: a sweep removes what nobody needs, and nothing that a point needs."""

from __future__ import annotations

import os
import random
import signal

import pytest

from tests.capture import test_together
from tests.capture.lab import MIB
from tests.capture.test_interrupted import MOMENTS, Ntx, servers_gone
from tests.capture.test_together import NAMES, Several
from tests.support.servers import require

config = test_together.config
several = test_together.several

ROUNDS = int(os.environ.get("NTX_SOAK_ROUNDS", "3"))


def needed(several: Several) -> set[str]:
    """Return the recovery points of the newest point of each VM."""
    newest = [several.lab.points(several.lab.sim.vm_id(name))[-1] for name in NAMES]
    return {point.recovery_point_id for point in newest}


async def check(several: Several) -> None:
    """Sweep, and look whether there is what is needed, and no more; then capture each VM alone."""
    assert await servers_gone(several.lab.repository.path)
    await several.sweep()
    assert set(several.lab.sim.world.state.points) == needed(several)
    assert (several.lab.hot_added(), several.lab.unfinished()) == ([], [])
    for name in NAMES:
        point = await several.alone(name)
        assert point.kind == "incremental"
        assert several.stored(point)["scsi.0"] == several.path(name).read_bytes()
    await several.sweep()
    assert set(several.lab.sim.world.state.points) == needed(several)
    assert len(needed(several)) == 3


async def start(several: Several) -> None:
    await several.points()
    for name in NAMES:
        with several.path(name).open("r+b") as file:
            file.write(os.urandom(MIB // 2))


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_killed_at_any_moment_a_sweep_finds_all_and_removes_what_nobody_needs(
    number: int, several: Several
) -> None:
    moments = random.Random(os.environ.get("NTX_SOAK_SEED", "together") + str(number))
    stage, _ = moments.choice(MOMENTS)
    await start(several)

    ntx = Ntx(several.lab, *NAMES, "--together", "--vms", "2")
    await ntx.run(stop_at=stage, after_s=moments.uniform(0, 0.5), by=signal.SIGKILL)

    await check(several)


@pytest.mark.parametrize("number", range(-(-ROUNDS // 3)))
async def test_killed_while_it_reads_over_iscsi_no_volume_group_is_left(number: int, several: Several) -> None:
    require("tgtd")
    moments = random.Random(os.environ.get("NTX_SOAK_SEED", "iscsi") + str(number))
    await start(several)

    ntx = Ntx(several.lab, *NAMES, "--together", "--vms", "3", "--source", "iscsi")
    stage = moments.choice(["attach", "copy", "verify"])
    await ntx.run(stop_at=stage, after_s=moments.uniform(0, 1), by=signal.SIGKILL)

    await check(several)
    assert several.lab.sim.world.state.made_groups == {}


@pytest.mark.parametrize(("stage", "by"), [("freeze", signal.SIGINT), ("copy", signal.SIGTERM)])
async def test_interrupted_it_leaves_nothing(stage: str, by: signal.Signals, several: Several) -> None:
    await start(several)

    await Ntx(several.lab, *NAMES, "--together").run(stop_at=stage, after_s=0.05, by=by)

    assert set(several.lab.sim.world.state.points) == needed(several)
    await check(several)

"""The power goes at any step of a capture of two disks, or of going on with it: no wrong byte, and little is lost.

A few cuts in `make test`; `make soak` sets NTX_CUT_ROUNDS and NTX_SOAK_SEED for more.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

import pytest

from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from ntxengine.sweep import sweep
from tests.capture.lab import MIB, Lab
from tests.capture.resuming import stored_to
from tests.capture.test_interrupted import servers_gone
from tests.capture.test_soak import leftovers, new_points
from tests.cli.ntx import ROOT, environment
from tests.support.power import PoweredDisk
from tests.support.servers import require

ROUNDS = int(os.environ.get("NTX_CUT_ROUNDS", "2"))
SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))

STEPS = 160
"""A little more than what a capture has that begins, so that some come to their end."""

MIDDLE = 60
"""Of the first cut: behind some checkpoints, and before the end."""

NO_END = 10**9


@pytest.fixture
def repository(powered_disk: PoweredDisk) -> Repository:
    return Repository(PointStore.create(powered_disk.path / "repository"))


async def capture_until(lab: Lab, steps: int, **env: str) -> tuple[int, str]:
    """Capture, in a process that kills itself at a step; return its status, and what it said."""
    command = [sys.executable, "-c", "from tests.capture.dying import main; main()", str(steps)]
    command += ["capture", "db01", "--to", str(lab.repository.path), "--bandwidth", "8M", "--progress", "none"]
    environ = environment({**lab.sim.env, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", **env})
    ran = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert ran.returncode in (0, -signal.SIGKILL), ran.stderr
    assert await servers_gone(lab.repository.path)
    return ran.returncode, ran.stderr


def guest_writes(lab: Lab, chance: random.Random) -> None:
    lab.write(0, chance.randrange(6 * MIB), chance.randbytes(MIB))
    lab.write(1, chance.randrange(2 * MIB), chance.randbytes(MIB))


async def test_a_capture_goes_on_after_a_cut_at_any_step(v4_lab: Lab, powered_disk: PoweredDisk) -> None:
    lab, chance = v4_lab, random.Random(SEED)
    right: dict[str, list[bytes]] = {}
    held: list[list[bytes]] = []
    kept = []

    for steps in [MIDDLE, *(chance.randrange(STEPS) for _ in range(ROUNDS - 1)), NO_END]:
        guest_writes(lab, chance)
        held.append(lab.guest())
        status, said = await capture_until(lab, steps)
        powered_disk.cut()

        assert "from its beginning again" not in said
        kept.append(sum(stored_to(lab).values()))
        made = new_points(lab, set(right))
        assert len(made) == 1 or (made == [] and status != 0)
        for point in made:
            right[point.id] = lab.stored(point)
            assert right[point.id] in held
            assert (right[point.id] == held[-1]) is (point.report.resumed == 0)
            held.clear()

    assert kept[0] > 0
    await sweep(lab.prism, lab.repository, attach=lab.attach_options)
    lab.assert_clean(points=len(right))
    assert leftovers(lab.repository.path) == []
    for point in lab.points(lab.vm_id):
        assert lab.stored(point) == right[point.id]
        lab.check_images(point)


async def test_a_cut_of_what_was_not_synced_can_be_seen(v4_lab: Lab, powered_disk: PoweredDisk) -> None:
    """The control: of a capture whose syncs do nothing nothing is kept."""
    require("eatmydata")
    powered_disk.sync()
    status, _ = await capture_until(v4_lab, MIDDLE, LD_PRELOAD="libeatmydata.so")
    assert status == -signal.SIGKILL
    assert sum(stored_to(v4_lab).values()) > 0

    powered_disk.cut()

    assert stored_to(v4_lab) == {}

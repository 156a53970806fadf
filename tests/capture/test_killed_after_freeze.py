"""A capture that is killed once its recovery point exists takes no change away from the next one."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ntxengine.prism import Family
from ntxengine.repository import Repository
from ntxengine.restore import restore
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sweep import sweep
from tests.capture.lab import MIB, Lab, make_config, open_lab
from tests.capture.test_interrupted import Ntx, servers_gone
from tests.support.servers import require


@pytest.fixture(params=["v4", "v3"])
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


@pytest.fixture
def config(family: Family, tmp_path: Path) -> SimConfig:
    config = make_config(tmp_path / "disks")
    config.families = ["v3", "v4"] if family == "v4" else ["v3"]
    return config


@pytest.fixture
async def either_lab(simulator: Simulator, repository: Repository, family: Family) -> Lab:
    require("qemu-nbd", "qemu-img", "setpriv")
    return await open_lab(simulator, family, repository, attach="hot-add")


@pytest.mark.parametrize(("stage", "after_s"), [("freeze", 0.2), ("changes", 0.0), ("audit", 0.0), ("copy", 0.2)])
async def test_what_was_written_before_a_killed_capture_is_in_the_next(
    stage: str, after_s: float, either_lab: Lab, tmp_path: Path
) -> None:
    lab = either_lab
    lab.write(0, 0, b"A" * MIB)
    await lab.capture()

    lab.write(0, MIB, b"B" * MIB)
    before = lab.guest()[0][: 3 * MIB]
    # So that the moment lies where the cluster makes the recovery point.
    lab.sim.config.limits.task_s = 0.5 if stage == "freeze" else 0
    assert await Ntx(lab).run(stop_at=stage, after_s=after_s, by=signal.SIGKILL) == -signal.SIGKILL
    assert await servers_gone(lab.repository.path)
    lab.sim.config.limits.task_s = 0
    assert stage == "freeze" or len(lab.recovery_points()) == 2
    lab.write(0, 2 * MIB, b"C" * MIB)
    point = await lab.capture()
    is_resumed = bool(point.report.resumed)
    if is_resumed:
        assert lab.stored(point)[0][: 3 * MIB] == b"A" * MIB + b"B" * MIB + before[2 * MIB :]
        point = await lab.capture()

    await restore(lab.repository, point, tmp_path / "restored")
    system = min((tmp_path / "restored").glob("*.raw"), key=lambda path: -path.stat().st_size).read_bytes()
    assert system[: 3 * MIB] == b"A" * MIB + b"B" * MIB + b"C" * MIB
    assert lab.stored(point) == lab.guest()
    assert point.kind == "incremental"
    await sweep(lab.prism, lab.repository, attach=lab.attach_options)
    lab.assert_clean(points=3 if is_resumed else 2)

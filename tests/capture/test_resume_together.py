"""VMs that are frozen at one moment begin anew: that must not cost one of them what it could go on with alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ntxengine.capture import CaptureOptions, Outcome, capture_together
from ntxengine.errors import OptionsError, OtherFailed
from ntxengine.sim import SimConfig
from ntxengine.sim.config import DiskConfig, VmConfig
from tests.capture.lab import MIB, Lab
from tests.capture.resuming import checkpoints_often, interrupt
from tests.support.rates import without_rates


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints_often(monkeypatch)


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    """Two VMs of a disk each."""

    def disk(name: str) -> DiskConfig:
        path = tmp_path / f"{name}.raw"
        path.write_bytes(os.urandom(4 * MIB))
        return DiskConfig(path)

    return without_rates(SimConfig(vms=[VmConfig(name, disks=[disk(name)]) for name in ("db01", "web01")]))


async def together(lab: Lab, **options: bool) -> list[Outcome]:
    vms = [await lab.prism.vm(lab.sim.vm_id(name)) for name in ("db01", "web01")]
    asked = CaptureOptions(**options)
    return await capture_together(lab.prism, lab.repository, vms, options=asked, attacher=lab.attacher)


async def test_one_that_could_go_on_is_refused_before_the_freeze_unless_it_is_given_up(v4_lab: Lab) -> None:
    lab = v4_lab
    unfinished = await interrupt(lab, at=MIB)

    of_one, of_other = await together(lab)

    assert isinstance(of_one.error, OptionsError)
    assert "capture it alone to go on with it, or give it up (--no-resume); nothing was frozen" in str(of_one.error)
    assert isinstance(of_other.error, OtherFailed)
    assert lab.unfinished() == [unfinished]
    assert len(lab.recovery_points()) == 1

    points = [outcome.point for outcome in await together(lab, resume=False)]

    assert None not in points
    assert lab.unfinished() == []
    assert len(lab.recovery_points()) == 1

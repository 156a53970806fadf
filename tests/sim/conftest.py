from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ntxengine.sim import SimConfig, Simulator
from tests.sim.lab import Clock, Lab, small_config
from tests.support.servers import require


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    return small_config(tmp_path / "disks")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tgtd() -> None:
    require("tgtd")


@pytest.fixture
async def lab(config: SimConfig, clock: Clock, tmp_path: Path) -> AsyncIterator[Lab]:
    async with Simulator(config, tmp_path / "state", clock=clock) as sim:
        lab = Lab(sim)
        yield lab
        await lab.aclose()

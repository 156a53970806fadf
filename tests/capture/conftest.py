from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ntxengine.prism import Family
from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from ntxengine.sim import SimConfig, Simulator, run_in_thread
from tests.capture.lab import Lab, close_labs, make_config, open_lab
from tests.support.servers import require

WAYS: dict[str, tuple[Family, str]] = {
    "v4-hot-add": ("v4", "hot-add"),
    "v3-mount": ("v3", "mount"),
    "v3-hot-add": ("v3", "hot-add"),
    "v4-iscsi": ("v4", "iscsi"),
    "v3-iscsi": ("v3", "iscsi"),
}


@pytest.fixture(autouse=True)
async def no_lab_stays_open(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    if "simulator" in request.fixturenames:
        request.getfixturevalue("simulator")  # which ends after them
    yield
    await close_labs()


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    return make_config(tmp_path / "disks")


@pytest.fixture
def simulator(config: SimConfig, tmp_path: Path) -> Iterator[Simulator]:
    with run_in_thread(config, tmp_path / "cluster") as sim:
        yield sim


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(PointStore.create(tmp_path / "repository"))


async def _lab(simulator: Simulator, repository: Repository, family: Family, attach: str) -> AsyncIterator[Lab]:
    require("qemu-nbd", "qemu-img", "setpriv")
    yield await open_lab(simulator, family, repository, attach=attach)


@pytest.fixture(params=["v4-hot-add", "v3-mount"])
async def lab(request: pytest.FixtureRequest, simulator: Simulator, repository: Repository) -> AsyncIterator[Lab]:
    """A cluster reached in each of the two usual ways."""
    family, attach = WAYS[request.param]
    async for each in _lab(simulator, repository, family, attach):
        yield each


@pytest.fixture
async def v4_lab(simulator: Simulator, repository: Repository) -> AsyncIterator[Lab]:
    """A cluster reached through Prism Central, for what does not depend on the way."""
    async for each in _lab(simulator, repository, "v4", "hot-add"):
        yield each


@pytest.fixture
async def v3_hot_add_lab(simulator: Simulator, repository: Repository) -> AsyncIterator[Lab]:
    async for each in _lab(simulator, repository, "v3", "hot-add"):
        yield each


@pytest.fixture
async def iscsi_lab(simulator: Simulator, repository: Repository) -> AsyncIterator[Lab]:
    """A cluster reached through Prism Central, whose disks are read over iSCSI."""
    require("tgtd")
    async for each in _lab(simulator, repository, "v4", "iscsi"):
        yield each

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.sim import Simulator, run_in_thread
from tests.probe.lab import Lab, config_in


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    folder = tmp_path_factory.mktemp("cluster")
    with run_in_thread(config_in(folder / "disks"), folder / "state") as sim:
        yield sim


@pytest.fixture
def lab(cluster: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(cluster, monkeypatch, tmp_path)
    yield lab
    for opened in lab.opened:
        opened.close()
    cluster.lose_recovery_points()

"""A repository of three points of one VM, made once and copied for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntxengine.repository.store import PointStore
from ntxengine.units import BLOCK_SIZE
from tests.check.copied import points as points
from tests.check.copied import root as root
from tests.repository.builders import Clock, ModelDisk, Write, capture


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clock = Clock()
    store = PointStore.create(tmp_path_factory.mktemp("check") / "repo", clock=clock)
    model = ModelDisk(6 * BLOCK_SIZE)
    for number in range(3):
        clock.advance(3600)
        capture(store, model, [Write(number * BLOCK_SIZE, BLOCK_SIZE, number + 1)])
    return store.path

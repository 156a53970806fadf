"""A repository of three points of one VM, made once and copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ntxengine.repository import Point
from ntxengine.repository.store import PointStore
from ntxengine.units import BLOCK_SIZE
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


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "a repository"))


@pytest.fixture
def points(root: Path) -> list[Point]:
    return PointStore.open(root).points()

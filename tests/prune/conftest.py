"""A repository with a history of two disks."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ntxengine.repository.store import PointStore
from tests.prune.building import History
from tests.repository.builders import Clock


@pytest.fixture
def history(tmp_path: Path) -> History:
    clock = Clock()
    return History(PointStore.create(tmp_path / "repo of a VM", clock=clock), clock, random.Random(7))

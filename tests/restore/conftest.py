"""A repository, and points of several disks whose bytes are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntxengine.repository.store import PointStore
from tests.repository.builders import Clock
from tests.restore.points import SeveralDisks


@pytest.fixture
def repository(tmp_path: Path) -> PointStore:
    return PointStore.create(tmp_path / "repo", clock=Clock())


@pytest.fixture
def several(repository: PointStore) -> SeveralDisks:
    """Three disks of sizes off a block, in a full point and one on top of it."""
    return SeveralDisks(repository)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "to: here = there"
    folder.mkdir()
    return folder

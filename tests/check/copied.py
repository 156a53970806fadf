"""A copy of a repository that was made once, and its points."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ntxengine.repository import Point
from ntxengine.repository.store import PointStore


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "a repository"))


@pytest.fixture
def points(root: Path) -> list[Point]:
    return PointStore.open(root).points()

"""A repository and its clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntxengine.repository.store import PointStore
from tests.repository.builders import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repository(tmp_path: Path, clock: Clock) -> PointStore:
    return PointStore.create(tmp_path / "repo", clock=clock)


def fill_up(folder: Path) -> None:
    """Leave no byte on the file system of `folder`."""
    with (folder / "filler").open("ab", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue

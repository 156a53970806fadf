"""A repository and its clock; an image, and a temporary folder of its own for each test that starts a qemu-nbd."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.images.create import NewImage
from ntxengine.repository.store import PointStore
from tests.repository.builders import Clock, make


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repository(tmp_path: Path, clock: Clock) -> PointStore:
    return PointStore.create(tmp_path / "repo", clock=clock)


@pytest.fixture
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Sockets of other tests and programs are not counted: each test has a place of its own, with a short path.

    After tmp_path, whose folder is for all tests and must not be made in here.
    """
    with tempfile.TemporaryDirectory(prefix="t") as base:
        monkeypatch.setattr("tempfile.tempdir", base)
        yield


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.qcow2"
    make(NewImage(path, 1024 * 1024))
    return path


def fill_up(folder: Path) -> None:
    """Leave no byte on the file system of `folder`."""
    with (folder / "filler").open("ab", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue

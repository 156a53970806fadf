"""How much room is left: where a file is, or would be."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ntxengine.files import free_space


class Room:
    f_bavail, f_blocks, f_frsize = 3, 10, 1 << 30


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Of what the file system was asked; each has 3 of 10 GiB free."""
    places: list[Path] = []
    real = os.statvfs

    def statvfs(place: Path) -> Room:
        real(place)
        places.append(place)
        return Room()

    monkeypatch.setattr(os, "statvfs", statvfs)
    return places


@pytest.mark.parametrize("name", [".", "new", "new/newer", "file/below"])
def test_the_nearest_that_exists_is_asked(name: str, asked: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert free_space.free_bytes(tmp_path / name) == 3 << 30

    assert asked == [tmp_path / "file" if name == "file/below" else tmp_path]


def test_a_relative_path_is_one_below_where_we_are(
    asked: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    free_space.free_bytes(Path("new"))

    assert asked == [tmp_path]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.ENOSPC, "; its file system has 3.0 GiB of 10.0 GiB free; free some space, or use another file system"),
        (errno.EDQUOT, "; free some space, or raise the quota"),
        (errno.EIO, ""),
    ],
)
def test_what_is_said_of_a_file_that_could_not_grow(code: int, says: str, asked: list[Path], tmp_path: Path) -> None:
    assert free_space.remedy(code, tmp_path / "gone" / "file") == says


def test_what_cannot_be_asked_is_not_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(_place: Path) -> Room:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "statvfs", refused)

    assert free_space.remedy(errno.ENOSPC, tmp_path) == "; free some space, or use another file system"

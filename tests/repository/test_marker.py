"""ntx-repository.json that is damaged or gone: the error says what to do, and that works."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.errors import NotFoundError, NtxError, RepositoryError
from ntxengine.repository import layout
from ntxengine.repository.adopt import adopt
from ntxengine.repository.store import PointStore

VM = "11111111-1111-4111-8111-111111111111"

DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": os.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(120)),
    "no id": lambda path: path.write_text('{"format": "ntxengine-repository", "version": 1, "id": "x"}'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_lost_marker_is_made_anew_by_what_the_error_says(tmp_path: Path, damage: str) -> None:
    repository = PointStore.create(tmp_path / "r")
    with repository.lock(VM):
        (repository.path / VM / "kept").touch()  # a folder that stays
    DAMAGE[damage](repository.path / layout.MARKER_FILE)

    for create in (False, True):
        with pytest.raises(NtxError, match=f"ntx repository adopt {repository.path}"):
            PointStore.open(repository.path, create=create)
    adopted = adopt(repository.path)

    assert adopted.id != repository.id
    assert PointStore.open(repository.path).id == adopted.id


def test_a_directory_without_folders_of_vms_is_not_adopted(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no ntx-repository\.json in it$"):
        adopt(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_marker_of_a_newer_version_is_not_replaced(tmp_path: Path) -> None:
    repository = PointStore.create(tmp_path / "r")
    marker = repository.path / layout.MARKER_FILE
    newer = marker.read_text().replace('"version": 1', '"version": 2')
    marker.write_text(newer)

    with pytest.raises(RepositoryError, match="version 2"):
        adopt(repository.path)

    assert marker.read_text() == newer

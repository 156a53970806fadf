"""Names of files come from UUIDs and the clock, whatever Prism says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ntxengine.errors import RepositoryError
from ntxengine.repository import layout
from ntxengine.repository.store import PointStore
from tests.repository.builders import VM, Clock, ModelDisk, begin, capture

HOSTILE = ["", ".", "..", "../../etc/passwd", "/etc", VM + "/..", VM + "\n", "x" * 36, VM[:-1], VM + "0", "\u0660" * 36]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_uuid_never_becomes_a_name(repository: PointStore, name: str) -> None:
    before = sorted(repository.path.iterdir())

    with pytest.raises(RepositoryError, match="not a UUID"):
        repository.acquire(name)

    assert sorted(repository.path.iterdir()) == before


@pytest.mark.parametrize("name", HOSTILE)
def test_a_disk_that_is_not_named_by_a_uuid_is_refused(repository: PointStore, name: str) -> None:
    with begin(repository, VM, None) as unfinished:
        with pytest.raises(RepositoryError, match="not a UUID"):
            unfinished.add_disk(name, 512, None)
        with pytest.raises(RepositoryError, match="not a UUID"):
            unfinished.manifest_path(name)

        assert list(unfinished.path.iterdir()) == []


def test_ids_in_upper_case_mean_the_same_vm(repository: PointStore) -> None:
    capture(repository, ModelDisk(512), vm_id=VM.upper())

    assert [point.vm_id for point in repository.points(VM.upper())] == [VM]
    assert repository.newest(VM) is not None


@pytest.mark.parametrize("name", ["../../etc/passwd", "two\nlines", "é" * 255, "\0", "lone \ud800 surrogate", ""])
def test_a_vm_may_be_called_anything(repository: PointStore, name: str) -> None:
    point = capture(repository, ModelDisk(512), vm_name=name)

    assert repository.vms()[0].vm_name == name.replace("\ud800", "?")
    assert point.path == repository.path / VM / point.id
    assert {path.name for path in repository.path.iterdir()} <= {
        VM,
        layout.MARKER_FILE,
        *(layout.CATALOG_FILE + suffix for suffix in ("", "-wal", "-shm")),
    }


def test_point_ids_ascend_within_one_second_and_when_the_clock_is_set_back(
    repository: PointStore, clock: Clock
) -> None:
    ids = [capture(repository, ModelDisk(512)).id]
    ids.append(capture(repository, ModelDisk(512)).id)
    clock.advance(-3600)
    ids.append(capture(repository, ModelDisk(512)).id)
    clock.advance(7200)
    ids.append(capture(repository, ModelDisk(512)).id)

    assert ids == sorted(set(ids))
    assert ids[0].startswith("20261123T041500Z-")
    assert ids[3].startswith("20261123T051500Z-")


@pytest.mark.parametrize(
    "name",
    ["20261123T041500Z-8f3a2c ", "20261323T041500Z-8f3a2c", "99991231T235959Z-8f3a2c", "20261123T041500Z-8F3A2C", ""],
)
def test_what_is_no_point_id_is_not_taken_for_one(name: str) -> None:
    assert not layout.is_point_id(name)


def test_a_point_id_is_sortable_time_and_token() -> None:
    point_id = layout.new_point_id(datetime(2026, 11, 23, 4, 15, tzinfo=UTC), after=None, token="8f3a2c")

    assert point_id == "20261123T041500Z-8f3a2c"
    assert layout.is_point_id(point_id)

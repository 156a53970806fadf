"""The directory is the truth: the catalog may be anything, and what is listed stays right."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from ntxengine.errors import NotFoundError, RepositoryError
from ntxengine.repository.store import PointStore
from tests.repository.builders import OTHER_VM, VM, ModelDisk, Write, capture, read_image
from tests.support.servers import require_root


def catalog_of(repository: PointStore) -> Path:
    return repository.path / "catalog.sqlite"


def catalogued(repository: PointStore) -> list[str]:
    with closing(sqlite3.connect(catalog_of(repository))) as connection:
        return [row[0] for row in connection.execute("SELECT point_id FROM points ORDER BY point_id")]


def run_sql(repository: PointStore, *statements: str) -> None:
    with closing(sqlite3.connect(catalog_of(repository))) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def ids(repository: PointStore) -> list[str]:
    model = ModelDisk(4096)
    return [capture(repository, model, [Write(0, 512, 1)]).id, capture(repository, model, [Write(512, 512, 2)]).id]


def listed(repository: PointStore) -> list[str]:
    return [point.id for point in PointStore.open(repository.path).points()]


def test_a_commit_is_in_the_catalog(repository: PointStore, ids: list[str]) -> None:
    assert catalogued(repository) == ids


def test_the_catalog_is_write_ahead_logged(repository: PointStore) -> None:
    with closing(sqlite3.connect(catalog_of(repository))) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_crash_between_rename_and_entry_is_healed_at_the_next_open(repository: PointStore, ids: list[str]) -> None:
    run_sql(repository, f"DELETE FROM points WHERE point_id = '{ids[1]}'")

    PointStore.open(repository.path)

    assert catalogued(repository) == ids


def test_a_point_that_was_removed_by_hand_is_gone_from_the_catalog(repository: PointStore, ids: list[str]) -> None:
    shutil.rmtree(repository.path / VM / ids[1])

    assert listed(repository) == ids[:1]
    assert catalogued(repository) == ids[:1]


def cut_in_the_middle(path: Path) -> None:
    os.truncate(path, 2000)


def scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:8192] = os.urandom(len(data[4096:8192]))
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        cut_in_the_middle,
        scribble,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(os.urandom(8192)),
    ],
    ids=["missing", "cut", "scribbled", "empty", "noise"],
)
def test_a_damaged_catalog_is_made_anew(repository: PointStore, ids: list[str], damage) -> None:
    damage(catalog_of(repository))

    assert listed(repository) == ids
    assert catalogued(repository) == ids


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE points SET document = x'7b7d'",
        "UPDATE points SET document = 'text', file_size = 'many'",
        "UPDATE points SET file_mtime_ns = 1, document = x'00'",
        "UPDATE points SET vm_id = '../../etc'",
        "UPDATE points SET point_id = '20300101T000000Z-000000' WHERE parent_id IS NULL",
        "PRAGMA user_version = 99",
        "DROP TABLE points",
        "ALTER TABLE points RENAME COLUMN document TO paper",
    ],
)
def test_a_catalog_that_lies_is_not_believed(repository: PointStore, ids: list[str], statement: str) -> None:
    run_sql(repository, statement)

    assert listed(repository) == ids
    assert listed(repository) == ids


def test_a_catalog_that_cannot_be_a_file_costs_nothing_but_time(repository: PointStore, ids: list[str]) -> None:
    catalog_of(repository).unlink()
    catalog_of(repository).mkdir()

    assert listed(repository) == ids


def test_a_repository_can_be_moved(repository: PointStore, ids: list[str], tmp_path: Path) -> None:
    moved = PointStore.open(shutil.move(repository.path, tmp_path / "elsewhere, 100% új: here"))

    newest = moved.newest(VM)

    assert newest is not None
    assert [point.id for point in moved.chain(newest)] == ids
    path = moved.images(newest, newest.disks[0])[0]
    assert read_image(path, 1024) == b"\1" * 512 + b"\2" * 512


def test_a_read_only_repository_lists_what_the_catalog_lacks_too(
    repository: PointStore, ids: list[str], tmp_path: Path
) -> None:
    run_sql(repository, f"DELETE FROM points WHERE point_id = '{ids[1]}'")
    require_root("a read-only mount")
    mount = tmp_path / "mount"
    mount.mkdir()
    subprocess.run(["mount", "--bind", repository.path, mount], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", mount], check=True)
        found = PointStore.open(mount)

        assert [point.id for point in found.points()] == ids
        assert len(found.images(found.points()[-1], found.points()[-1].disks[0])) == 2
        with pytest.raises(Exception, match="Read-only file system"):
            found.acquire(VM)
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_point_is_found_by_the_beginning_of_its_id(repository: PointStore, ids: list[str]) -> None:
    assert repository.point(ids[0][:17].lower()).id == ids[0]
    with pytest.raises(NotFoundError, match="2 points begin with"):
        repository.point(ids[0][:8])
    for nothing in ("", "1999", "../" + ids[0], ids[0] + "x"):
        with pytest.raises(NotFoundError):
            repository.point(nothing)


def test_points_are_listed_oldest_first_over_all_vms(repository: PointStore, ids: list[str]) -> None:
    other = capture(repository, ModelDisk(512), vm_id=OTHER_VM, vm_name="web")

    assert [point.id for point in repository.points()] == sorted([*ids, other.id])
    assert [point.id for point in repository.points(OTHER_VM)] == [other.id]
    assert [(vm.vm_name, vm.points, vm.newest.id) for vm in repository.vms()] == [
        ("db01", 2, ids[1]),
        ("web", 1, other.id),
    ]


def test_a_point_names_the_one_below_it(repository: PointStore, ids: list[str]) -> None:
    root, child = repository.points(VM)

    assert root.parent_id is None
    assert child.parent_id == root.id


def test_a_chain_with_a_missing_parent_names_it(repository: PointStore, ids: list[str]) -> None:
    shutil.rmtree(repository.path / VM / ids[0])
    child = repository.point(ids[1])

    with pytest.raises(RepositoryError, match=f"{ids[0]}: is missing"):
        repository.chain(child)


def test_what_is_no_repository_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is not a repository"):
        PointStore.open(tmp_path)
    with pytest.raises(NotFoundError, match="is not a repository"):
        PointStore.open(tmp_path / "nowhere")


def test_a_directory_of_somebody_else_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(RepositoryError, match="not empty"):
        PointStore.open(tmp_path, create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_open_makes_a_repository_where_it_may(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()

    made = PointStore.open(tmp_path, create=True)

    assert PointStore.open(tmp_path).id == made.id
    assert len(made.id) == 8
    with pytest.raises(RepositoryError, match="already"):
        PointStore.create(tmp_path)


@pytest.mark.parametrize(
    "marker",
    [
        b"",
        b"{}",
        b'{"format":"x","version":1,"id":"y"}',
        b'{"format":"ntxengine-repository","version":2,"id":""}',
        b"\xff",
    ],
)
def test_a_damaged_marker_is_refused_naming_it(repository: PointStore, marker: bytes) -> None:
    (repository.path / "ntx-repository.json").write_bytes(marker)

    with pytest.raises(RepositoryError, match=r"ntx-repository\.json"):
        PointStore.open(repository.path)

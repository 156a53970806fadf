"""What an audit found out about points is kept beside them, survives everything that they do, and is never guessed."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ntxengine.errors import RepositoryError
from ntxengine.repository import CaptureReport, DiskReport, Point, distrust
from ntxengine.repository.adopt import adopt
from ntxengine.repository.store import PointStore
from tests.repository.builders import DISK, OTHER_DISK, VM, ModelDisk, Write, begin, fill_disk, record_of

SIZE = 1 << 20


def make_point(repository: PointStore, tracking: Any, *, on_top: bool = True) -> Point:
    """Make a point of two disks whose first was found so, the other always by changed regions, or what is allocated."""
    parent = repository.newest(VM) if on_top else None
    with begin(repository, VM, parent) as unfinished:
        disks = [
            fill_disk(unfinished, disk_id, ModelDisk(SIZE), [Write(0, 65536, 7)], label)
            for disk_id, label in ((DISK, "scsi.0"), (OTHER_DISK, "scsi.1"))
        ]
        usual = "v4-changed-regions" if parent else "allocated"
        report = CaptureReport({DISK: DiskReport(tracking=tracking), OTHER_DISK: DiskReport(tracking=usual)})
        return unfinished.commit(replace(record_of(unfinished, disks), report=report))


def distrust_newest(repository: PointStore, *, was_zero: bool = False, disk_id: str = DISK) -> list[str]:
    """Do what a capture does whose audit found something, and which then fails."""
    parent = repository.newest(VM)
    assert parent is not None
    with begin(repository, VM, parent) as unfinished:
        return unfinished.distrust_chain(parent, parent.disk(disk_id), (65536, 131072), was_zero=was_zero)


def distrusted(repository: PointStore) -> dict[str, list[str]]:
    """Return the labels of the distrusted disks of each point that has some."""
    health = repository.health()
    return {folder.name: [each.label for each in found] for folder, found in health.distrusted.items()}


@pytest.mark.parametrize(
    ("chain", "was_zero", "expected"),
    [
        (["allocated", "v4-changed-regions", "v4-changed-regions"], False, [1, 2]),
        (["allocated", "v4-changed-regions", "v4-changed-regions"], True, [0, 1, 2]),
        (["full", "v3-changed-regions"], True, [1]),
        (["allocated", "v4-changed-regions", "digest-scan", "v4-changed-regions"], True, [3]),
        (["allocated", "v4-changed-regions", "digest-scan"], True, []),
        (["allocated", None], False, [1]),
        (["allocated"], False, []),
    ],
)
def test_points_are_distrusted_back_to_the_last_for_which_all_was_read(
    repository: PointStore, chain: list[Any], was_zero: bool, expected: list[int]
) -> None:
    points = [make_point(repository, tracking) for tracking in chain]

    found = distrust_newest(repository, was_zero=was_zero)

    assert sorted(found) == [points[number].id for number in expected]
    assert distrusted(repository) == {points[number].id: ["scsi.0"] for number in expected}


def test_what_is_distrusted_survives_the_catalog_and_a_copy_and_changes_no_point(
    repository: PointStore, tmp_path: Path
) -> None:
    make_point(repository, "allocated")
    point = make_point(repository, "v4-changed-regions")
    before = {path: path.read_bytes() for path in point.path.iterdir()}
    distrust_newest(repository)

    (repository.path / "catalog.sqlite").unlink()
    copy = tmp_path / "copy"
    repository.path.rename(copy)
    adopt(copy)
    opened = PointStore.open(copy)

    (found,) = opened.health(from_catalog=False).distrusted[copy / VM / point.id]
    assert (found.point_id, found.disk_id, found.offsets) == (point.id, DISK, (65536, 131072))
    assert found.found_by > point.id
    assert {
        repository.path / path.relative_to(copy): path.read_bytes() for path in (copy / VM / point.id).iterdir()
    } == before


def test_points_above_a_damaged_one_are_marked(repository: PointStore) -> None:
    first, *_, middle, last = [
        make_point(repository, tracking) for tracking in ["allocated", *["v4-changed-regions"] * 3]
    ]
    (first.path / "point.json").write_text("damaged")

    distrust_newest(repository)

    assert {middle.id, last.id} < distrusted(repository).keys()


def test_findings_of_several_disks_at_once_are_all_kept(
    repository: PointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_point(repository, "allocated")
    point = make_point(repository, "v4-changed-regions")
    read, both_have_read = distrust.read, threading.Barrier(2)

    def read_together(vm_folder: Path) -> tuple[distrust.Distrust, ...]:
        found = read(vm_folder)
        with suppress(threading.BrokenBarrierError):  # as it must be: the other waits for its turn
            both_have_read.wait(timeout=0.1)
        return found

    monkeypatch.setattr(distrust, "read", read_together)

    with begin(repository, VM, point) as unfinished, ThreadPoolExecutor() as threads:
        marks = [
            threads.submit(unfinished.distrust_chain, point, point.disk(disk_id), (0,), was_zero=False)
            for disk_id in (DISK, OTHER_DISK)
        ]
        for mark in marks:
            mark.result()

    monkeypatch.undo()
    assert sorted(distrusted(repository)[point.id]) == ["scsi.0", "scsi.1"]


def test_the_first_finding_stays_and_later_ones_are_added(repository: PointStore) -> None:
    make_point(repository, "allocated")
    first = make_point(repository, "v4-changed-regions")
    distrust_newest(repository)
    found_by = repository.health().distrusted[first.path][0].found_by

    second = make_point(repository, "v4-changed-regions")
    distrust_newest(repository)
    distrust_newest(repository, disk_id=OTHER_DISK)

    assert distrusted(repository) == {first.id: ["scsi.0", "scsi.1"], second.id: ["scsi.0", "scsi.1"]}
    assert repository.health().distrusted[first.path][0].found_by == found_by


def test_a_point_that_stands_alone_distrusts_those_before_it(repository: PointStore) -> None:
    point = make_point(repository, "allocated")

    with begin(repository, VM, None) as unfinished:
        assert unfinished.distrust_chain(point, point.disk(DISK), (0,), was_zero=True) == [point.id]

    assert distrusted(repository) == {point.id: ["scsi.0"]}


def test_right_is_the_first_whole_point_since_for_which_all_was_read(repository: PointStore) -> None:
    make_point(repository, "digest-scan")
    make_point(repository, "v4-changed-regions")
    distrust_newest(repository)
    ((mark,),) = repository.health().distrusted.values()

    make_point(repository, "v4-changed-regions")
    before = repository.health().right_since(mark)
    scanned = make_point(repository, "digest-scan")
    full = make_point(repository, "full", on_top=False)
    first = repository.health().right_since(mark)
    (scanned.path / scanned.disk(DISK).file).unlink()
    second = repository.health().right_since(mark)

    assert before is None
    assert (first, second) == (scanned, full)


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: {"format": "ntxengine-distrust"},
        lambda document: {**document, "version": 2},
        lambda document: {**document, "format": "ntxengine-point"},
        lambda document: {**document, "disks": [{**document["disks"][0], "point_id": "../../etc"}]},
        lambda document: {**document, "disks": [{**document["disks"][0], "disk_id": "x"}]},
        lambda document: {**document, "disks": [{**document["disks"][0], "found_at": "2026-11-23T04:15:00"}]},
        lambda document: [],
    ],
)
def test_a_damaged_file_is_never_taken_for_no_distrust(repository: PointStore, damage: Any) -> None:
    make_point(repository, "allocated")
    point = make_point(repository, "v4-changed-regions")
    distrust_newest(repository)
    path = repository.path / VM / "distrusted.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    damaged = path.read_bytes()

    health = repository.health()
    with pytest.raises(RepositoryError, match=r"distrusted\.json"):
        distrust_newest(repository)

    assert [each.id for each in health.points][-1] == point.id
    assert list(health.unknown_distrust) == [repository.path / VM]
    assert path.read_bytes() == damaged


def test_something_else_in_the_place_of_the_file_is_said_with_what_to_do(repository: PointStore) -> None:
    make_point(repository, "allocated")
    (repository.path / VM / "distrusted.json").mkdir()

    ((_, error),) = repository.health().unknown_distrust.items()

    assert "distrusted.json: cannot be read: it is not a regular file; put it back from a copy" in str(error)

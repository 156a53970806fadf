"""What `points`, `verify` and `restore` say of points that cannot be read, and of a VM that was renamed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from ntxengine.repository import Point
from ntxengine.repository.store import PointStore
from tests.cli.ntx import Ran, assert_refused, ntx
from tests.repository.builders import OTHER_VM, VM, ModelDisk, Write, capture


@pytest.fixture
def repository(tmp_path: Path) -> PointStore:
    return PointStore.create(tmp_path / "repo")


def run(repository: PointStore, *arguments: str | Path) -> Ran:
    return ntx(*arguments, env={"NTX_REPOSITORY": str(repository.path)})


def three_points(repository: PointStore, vm_id: str = VM) -> list[Point]:
    return [capture(repository, ModelDisk(65536), [Write(0, 512, value)], vm_id=vm_id) for value in (1, 2, 3)]


def spoil(point: Point) -> None:
    """Damage point.json so that its size and time, which the catalog knows, stay."""
    file = point.path / "point.json"
    status = file.stat()
    file.write_bytes(b"x" + file.read_bytes()[1:])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_all_points_are_whole_where_nothing_is_damaged(repository: PointStore) -> None:
    three_points(repository)

    table = run(repository, "points")
    listed = run(repository, "points", "--json")

    assert (table.code, table.err, table.out.count(" whole")) == (0, "", 3)
    assert listed.code == 0
    assert [(point["whole"], point["problem"]) for point in listed.json["points"]] == [(True, "")] * 3
    assert listed.json["unreadable"] == []


def test_points_above_a_missing_one_are_marked_and_those_below_are_not(repository: PointStore) -> None:
    points = three_points(repository)
    other = capture(repository, ModelDisk(65536), vm_id=OTHER_VM, vm_name="web01")
    shutil.rmtree(points[1].path)

    table = run(repository, "points")
    listed = run(repository, "points", "--json")
    quiet = run(repository, "points", "-q")
    of_other = run(repository, "points", OTHER_VM.upper())

    states = {line.split()[0]: line.split()[-1] for line in table.out.splitlines() if line.startswith("20")}
    assert states == {points[0].id: "whole", points[2].id: "damaged", other.id: "whole"}
    assert table.code == listed.code == quiet.code == 3
    assert "1 of 3 points cannot be restored whole" in table.err
    assert points[1].id in table.err
    problems = {point["point_id"]: point["problem"] for point in listed.json["points"]}
    assert points[1].id in problems[points[2].id]
    assert problems[points[0].id] == problems[other.id] == ""
    assert quiet.err == table.err
    assert (of_other.code, of_other.err) == (0, "")


@pytest.mark.parametrize("what", ["image", "manifest", "header", "link", "point"])
def test_what_is_damaged_is_found_by_names_and_headers(repository: PointStore, what: str) -> None:
    point = three_points(repository)[2]
    image, manifest = point.image_path(point.disks[0]), point.manifest_path(point.disks[0])
    match what:
        case "image":
            image.unlink()
        case "manifest":
            manifest.write_bytes(b"x" * 40 + manifest.read_bytes()[40:])
        case "header":
            image.write_bytes(bytes(4) + image.read_bytes()[4:])
        case "link":
            shutil.move(image, repository.path.parent / "elsewhere")
            image.symlink_to(repository.path.parent / "elsewhere")
        case "point":
            shutil.move(point.path, repository.path.parent / "elsewhere")
            point.path.symlink_to(repository.path.parent / "elsewhere")

    listed = run(repository, "points", "--json")

    assert listed.code == 3
    assert [entry["whole"] for entry in listed.json["points"]][:2] == [True, True]
    found = listed.json["unreadable"] if what == "point" else listed.json["points"][2:]
    assert [entry["point_id"] for entry in found] == [point.id]
    assert str(point.path) in found[0]["problem"]


def test_by_name_nothing_older_is_taken_for_a_newer_point_that_cannot_be_read(
    repository: PointStore, tmp_path: Path
) -> None:
    points = three_points(repository)
    run(repository, "points")  # so that the catalog knows them
    spoil(points[2])

    for name in ("db01", VM):
        for command in (("verify", name, "-q"), ("restore", name, tmp_path / "out", "-q")):
            refused = run(repository, *command)

            assert_refused(refused, 1, points[2].id, "point.json", f"older one can be named by its id: {points[1].id}")
    assert not (tmp_path / "out").exists()
    assert run(repository, "verify", points[1].id).code == 0
    assert run(repository, "restore", points[1].id, tmp_path / "out").code == 0


def test_an_unreadable_point_is_listed_and_an_older_one_that_is_not_the_newest_does_no_harm(
    repository: PointStore,
) -> None:
    points = three_points(repository)
    (points[1].path / "point.json").write_text("{}")
    full = capture(repository, ModelDisk(65536), on_top=False)

    table = run(repository, "points", "db01")
    verified = run(repository, "verify", "db01", "--json")

    lines = [line.split() for line in table.out.splitlines() if line.startswith("20")]
    assert [(line[0], line[1], line[-1]) for line in lines] == [
        (points[0].id, "db01", "whole"),
        (points[1].id, "db01", "unreadable"),
        (points[2].id, "db01", "damaged"),
        (full.id, "db01", "whole"),
    ]
    assert verified.code == 0
    assert [point["point_id"] for point in verified.json["points"]] == [full.id]


def test_a_restore_of_what_is_not_whole_says_what_can_be_restored(repository: PointStore, tmp_path: Path) -> None:
    points = three_points(repository)
    points[1].image_path(points[1].disks[0]).unlink()

    for extra in ((), ("--dry-run",)):
        refused = run(repository, "restore", points[2].id, tmp_path / "out", *extra)

        assert_refused(
            refused, 1, points[2].id, f"{points[1].id}/disk-", "is missing", f"newest of them {points[0].id}"
        )
    assert not (tmp_path / "out").exists()


def test_a_renamed_vm_is_found_by_either_name_at_its_newest_point(repository: PointStore) -> None:
    old = capture(repository, ModelDisk(65536), vm_name="db01")
    new = capture(repository, ModelDisk(65536), vm_name="db01-new")

    by_old = run(repository, "verify", "db01", "--json")
    by_new = run(repository, "verify", "db01-new", "--json")
    listed = run(repository, "points", "db01", "--json")

    assert [point["point_id"] for ran in (by_old, by_new) for point in ran.json["points"]] == [new.id, new.id]
    assert f"db01 is called db01-new now ({VM})" in by_old.err
    assert "is called" not in by_new.err
    assert [point["point_id"] for point in listed.json["points"]] == [old.id, new.id]


def test_a_name_that_went_from_one_vm_to_another_is_refused_with_both(repository: PointStore, tmp_path: Path) -> None:
    capture(repository, ModelDisk(65536), vm_name="db01")
    capture(repository, ModelDisk(65536), vm_name="db01-old")
    other = capture(repository, ModelDisk(65536), vm_id=OTHER_VM, vm_name="db01")

    for command in (("verify", "db01"), ("points", "db01"), ("restore", "db01", tmp_path / "out")):
        refused = run(repository, *command)

        assert_refused(refused, 2, f"{VM} (now 'db01-old')", f"{OTHER_VM} (now 'db01')", "by its UUID")
    by_uuid = run(repository, "verify", OTHER_VM.upper(), "--json")
    assert [point["point_id"] for point in by_uuid.json["points"]] == [other.id]


def test_what_is_neither_a_point_nor_a_vm_is_named_as_both(repository: PointStore) -> None:
    capture(repository, ModelDisk(65536))

    refused = run(repository, "verify", "db02")

    assert_refused(refused, 10, "no point 'db02'", "no point of a VM named 'db02'", "ntx points")


def test_a_name_that_is_also_the_beginning_of_a_point_is_refused(repository: PointStore) -> None:
    point = capture(repository, ModelDisk(65536), vm_name="20")

    refused = run(repository, "verify", "20")

    assert_refused(refused, 2, VM, point.id)
    assert json.loads(run(repository, "points", "20", "--json").out)["points"][0]["point_id"] == point.id

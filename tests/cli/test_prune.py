"""`ntx prune`, `ntx forget --prune` and `ntx sync`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ntxengine.repository import Point
from ntxengine.repository.reading import hold
from ntxengine.repository.store import PointStore
from tests.cli.ntx import Ran, assert_refused, ntx
from tests.cli.test_forget import make_point
from tests.repository.builders import OTHER_VM, VM, Clock


@pytest.fixture
def store(tmp_path: Path) -> PointStore:
    return PointStore.create(tmp_path / "a repository", clock=Clock())


@pytest.fixture
def points(store: PointStore) -> list[Point]:
    clock = Clock()
    made = []
    for number in range(4):
        made.append(make_point(store, clock, number))
        clock.advance(86400)
    return made


def run(store: PointStore, *arguments: str) -> Ran:
    return ntx(*arguments, env={"NTX_REPOSITORY": str(store.path)})


def listed(store: PointStore) -> list[str]:
    return [point.id for point in store.points(VM, with_forgotten=True)]


def test_what_rules_forget_is_removed_and_the_rest_verifies(store: PointStore, points: list[Point]) -> None:
    dry = run(store, "forget", "--all", "--keep-last", "2", "--prune", "--max-waste", "0%", "--dry-run")
    ran = run(store, "forget", "--all", "--keep-last", "2", "--prune", "--max-waste", "0%")

    assert (dry.code, ran.code) == (0, 0)
    assert "would take over 2 forgotten points" in dry.out
    assert "would remove 2 points" in dry.out
    assert "took over 2 forgotten points" in ran.out
    assert "removed 2 points, freed" in ran.out
    assert listed(store) == [points[2].id, points[3].id]
    assert run(store, "verify", "--all").code == 0


def test_json_says_what_was_merged_and_removed(store: PointStore, points: list[Point]) -> None:
    run(store, "forget", points[0].id)

    done = run(store, "prune", "--all", "--max-waste", "0%", "--json")

    assert [each["taken_over_point_ids"] for each in done.json["vms"][0]["merged"]] == [[points[0].id]]
    assert done.json["vms"][0]["removed_point_ids"] == [points[0].id]
    assert done.json["bytes_freed"] > 0
    assert listed(store) == [point.id for point in points[1:]]


def test_what_somebody_reads_is_left_to_the_next_prune(store: PointStore, points: list[Point]) -> None:
    run(store, "forget", points[0].id)

    with hold([points[3]]):
        ran = run(store, "prune", "--all", "--max-waste", "0%")

    assert ran.code == 0
    assert "left to the next prune: somebody reads from it" in ran.out
    assert "left to the next prune" in ran.out
    assert listed(store) == [point.id for point in points]


def test_a_vm_that_is_captured_is_refused_or_waited_for(store: PointStore, points: list[Point]) -> None:
    run(store, "forget", points[0].id)

    with store.lock(VM):
        ran = run(store, "prune", "--all")
        waited = run(store, "prune", "--all", "--wait", "1s")

    for each in (ran, waited):
        assert_refused(each, 11, "is locked by process")
    assert run(store, "prune", "--all", "--wait", "1s", "--max-waste", "0%").code == 0
    assert listed(store) == [point.id for point in points[1:]]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("prune",), "name a VM, or give --all"),
        (("prune", "db01", "--all"), "contradict"),
        (("prune", "--all", "--max-waste", "20"), "write 20%"),
        (("prune", "--all", "--max-waste", "101%"), "write 20%"),
        (("prune", "nobody"), "nobody"),
        (("forget", "--undo", "x", "--prune"), "contradict"),
    ],
)
def test_what_makes_no_sense_is_refused(
    store: PointStore, points: list[Point], arguments: tuple[str, ...], text: str
) -> None:
    ran = run(store, *arguments)

    assert ran.code in (2, 10)
    assert text in ran.err
    assert "Traceback" not in ran.err
    assert listed(store) == [point.id for point in points]


def test_a_repository_is_synced_to_another(store: PointStore, points: list[Point], tmp_path: Path) -> None:
    other = tmp_path / "the other"

    first = run(store, "sync", str(other), "--json")
    second = run(store, "sync", str(other))

    assert [each["point_id"] for each in first.json["vms"][0]["points"]] == [each.id for each in points]
    assert "copied 0 points; 4 were there already" in second.out
    shutil.rmtree(store.path)
    assert run(PointStore.open(other), "verify", "--all").code == 0


def test_a_vm_that_is_locked_among_others_does_not_keep_these_from_being_pruned(
    store: PointStore, points: list[Point]
) -> None:
    other = [make_point(store, Clock(), number, vm_id=OTHER_VM, vm_name="web01") for number in range(2)]
    run(store, "forget", points[3].id, other[1].id)

    with store.lock(VM):
        ran = run(store, "prune", "--all")
        forgotten = run(store, "forget", "db01", "--keep-last", "1", "--prune")

    assert ran.code == forgotten.code == 3
    assert "is locked by process" in ran.err
    assert [point.id for point in store.points(OTHER_VM, with_forgotten=True)] == [other[0].id]
    assert [point.id for point in store.points(VM)] == [points[2].id]


def test_a_sync_to_a_vm_that_is_locked_there_says_so(store: PointStore, points: list[Point], tmp_path: Path) -> None:
    there = PointStore.create(tmp_path / "there")

    with there.lock(VM):
        assert_refused(run(store, "sync", str(there.path)), 11, "is locked by process")


def test_a_dry_run_says_what_a_first_sync_would_do_and_makes_nothing(
    store: PointStore, points: list[Point], tmp_path: Path
) -> None:
    there, empty = tmp_path / "not there" / "yet", tmp_path / "empty"
    empty.mkdir()

    said = [run(store, "sync", str(each), "-n") for each in (there, empty)]
    as_json = run(store, "sync", str(there), "-n", "--json")

    for place, ran in zip((there, empty), said, strict=True):
        assert ran.code == 0, ran.err
        assert "would copy 4 points; 0 were there already" in ran.out
        assert f"{place}: would become a repository" in ran.err
    assert as_json.json["new_repository"] is True
    assert [each["point_id"] for each in as_json.json["vms"][0]["points"]] == [each.id for each in points]
    assert not there.parent.exists()
    assert list(empty.iterdir()) == []
    assert run(store, "sync", str(there), "--json").json["new_repository"] is True
    assert run(store, "sync", str(there), "--json").json["new_repository"] is False


def test_a_point_that_cannot_be_read_is_told_with_what_to_do(
    store: PointStore, points: list[Point], tmp_path: Path
) -> None:
    (points[1].path / "point.json").write_text("{")

    assert_refused(run(store, "prune", "--all"), 1, "point.json: is damaged", "put back from a copy", "`ntx points`")
    there = PointStore.open(shutil.copytree(store.path, tmp_path / "there"))
    assert_refused(run(store, "sync", str(there.path)), 1, "point.json: is damaged", "put back from a copy")


def test_a_sync_to_nowhere_is_refused(store: PointStore, points: list[Point], tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()

    assert_refused(run(store, "sync", str(store.path)), 2, "is the repository itself")
    assert run(store, "sync", str(tmp_path / "full")).code != 0
    assert "is not empty" in run(store, "sync", str(tmp_path / "full")).err
    assert_refused(run(store, "sync", str(tmp_path / "full"), "-n"), 1, "is not empty")
    assert listed(store) == [point.id for point in points]


@pytest.mark.parametrize("name", ["a repository/copy", "a repository/" + VM, "link/copy", "."])
def test_a_repository_is_not_synced_into_itself(
    store: PointStore, points: list[Point], tmp_path: Path, name: str
) -> None:
    (tmp_path / "link").symlink_to(store.path)
    before = sorted(tmp_path.rglob("*"))

    ran = run(store, "sync", str(tmp_path / name))

    assert_refused(ran, 2, "one repository would lie in the other", "name another directory")
    assert sorted(tmp_path.rglob("*")) == before

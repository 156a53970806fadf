"""What is said of points is kept beside them, is never guessed, and hides what is forgotten from who lists."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ntxengine.errors import NotFoundError, OptionsError, RepositoryError
from ntxengine.repository import Hold, PointRetention, Retention, retention_file
from ntxengine.repository.adopt import adopt
from ntxengine.repository.store import PointStore
from tests.repository.builders import VM, ModelDisk, Write, begin, capture, read_image
from tests.repository.retained import NOW, SIZE, change, forget, listed, make_points

FLIPS = int(os.environ.get("NTX_FLIPS", "24"))
SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))


# -------------------------------------------------------------------------------------------------- what is said


def test_what_is_said_is_read_again_and_stored_under_these_names(repository: PointStore) -> None:
    first, second, third = make_points(repository, 3)

    change(repository, lambda said: said.tag(first.id, ["release", "v1.2"]).forget([second.id], NOW))
    change(repository, lambda said: said.hold(first.id, Hold(NOW + timedelta(days=30), "audit")).hold(third.id, Hold()))

    path = repository.path / VM / "retention.json"
    document = json.loads(path.read_text())
    assert len(document.pop("check")) == 32
    assert document == {
        "format": "ntxengine-retention",
        "version": 1,
        "points": [
            {
                "point_id": first.id,
                "tags": ["release", "v1.2"],
                "hold": {"until": "2026-12-30T12:00:00Z", "reason": "audit"},
                "forgotten_at": None,
            },
            {"point_id": second.id, "tags": [], "hold": None, "forgotten_at": "2026-11-30T12:00:00Z"},
            {"point_id": third.id, "tags": [], "hold": {"until": None, "reason": ""}, "forgotten_at": None},
        ],
    }
    said = retention_file.read(repository.path / VM)
    assert said.of(first.id).tags == ("release", "v1.2")
    assert said.forgotten == {second.id}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_hold_is_over_at_its_time_and_one_without_never(repository: PointStore) -> None:
    first, second = make_points(repository, 2)
    change(repository, lambda said: said.hold(first.id, Hold(NOW)).hold(second.id, Hold()))

    said = retention_file.read(repository.path / VM)

    assert [said.is_held(first.id, NOW - timedelta(seconds=1)), said.is_held(first.id, NOW)] == [True, False]
    assert said.is_held(second.id, NOW + timedelta(days=40000))


def test_a_point_that_is_held_is_not_forgotten(repository: PointStore) -> None:
    first, second = make_points(repository, 2)
    change(repository, lambda said: said.hold(second.id, Hold(NOW + timedelta(hours=1), "audit")))

    with pytest.raises(RepositoryError) as caught:
        forget(repository, first, second)

    assert str(caught.value) == (
        f"point {second.id} is held until 2026-11-30T13:00:00Z (audit): `ntx hold {second.id} --release` releases it"
    )
    assert listed(repository) == [first.id, second.id]
    change(repository, lambda said: said.hold(second.id, None))
    forget(repository, second)
    assert listed(repository) == [first.id]


def test_a_forgotten_point_gets_no_tag_and_no_hold_before_it_is_brought_back(repository: PointStore) -> None:
    _, second = make_points(repository, 2)
    forget(repository, second)

    for decide in (lambda said: said.tag(second.id, ["x"]), lambda said: said.hold(second.id, Hold())):
        with pytest.raises(RepositoryError, match="is forgotten: `ntx forget --undo"):
            change(repository, decide)
    change(repository, lambda said: said.bring_back([second.id]))

    assert repository.newest(VM) == second
    assert not (repository.path / VM / "retention.json").exists()


@pytest.mark.parametrize("tag", ["", "-x", "a b", "a,b", "a\nb", "\x1b[31m", "x" * 65, "a\u202eb", "../a\0"])
def test_what_is_no_tag_is_refused(repository: PointStore, tag: str) -> None:
    (point,) = make_points(repository, 1)

    with pytest.raises(OptionsError, match="is no tag"):
        change(repository, lambda said: said.tag(point.id, [tag]))


def test_a_point_has_not_any_number_of_tags_and_a_reason_has_one_line(repository: PointStore) -> None:
    (point,) = make_points(repository, 1)

    with pytest.raises(OptionsError, match="would have 65 tags"):
        change(repository, lambda said: said.tag(point.id, [str(n) for n in range(65)]))
    for reason in ("x" * 257, "one\ntwo", "\x1b[31m"):
        with pytest.raises(OptionsError, match="one line of 256"):
            change(repository, lambda said, reason=reason: said.hold(point.id, Hold(None, reason)))


@pytest.mark.parametrize(
    "decide",
    [
        lambda said, point_id: said.tag("db01", ["x"]),
        lambda said, point_id: said.tag("../x", ["x"]),
        lambda said, point_id: said.hold(point_id, Hold(datetime(2027, 1, 1))),
        lambda said, point_id: said.hold(point_id, Hold(datetime(9999, 12, 31, tzinfo=UTC))),
        lambda said, point_id: said.forget([point_id], datetime(2026, 11, 30)),
    ],
)
def test_what_would_be_damage_when_it_is_read_is_never_written(
    repository: PointStore, decide: Callable[[Retention, str], Retention]
) -> None:
    (point,) = make_points(repository, 1)
    change(repository, lambda said: said.tag(point.id, ["release"]))

    with pytest.raises(OptionsError, match="cannot be kept"):
        change(repository, lambda said: decide(said, point.id))

    assert retention_file.read(repository.path / VM).of(point.id) == PointRetention(("release",))


def test_entries_of_forgotten_points_that_are_gone_are_dropped_and_no_others(repository: PointStore) -> None:
    first, second, third = make_points(repository, 3)
    change(repository, lambda said: said.tag(third.id, ["release"]))
    forget(repository, first, second)
    for point in (second, third):
        point.path.rename(repository.path / VM / f"elsewhere-{point.id}")

    dropped = retention_file.drop_gone(repository.path / VM)

    assert dropped == [second.id]
    assert retention_file.read(repository.path / VM).points.keys() == {first.id, third.id}
    assert retention_file.drop_gone(repository.path / VM) == []


# ---------------------------------------------------------------------------------------------------- what is hidden


def test_a_forgotten_point_is_listed_nowhere_and_others_are_read_through_it(repository: PointStore) -> None:
    first, second, third = make_points(repository, 3)

    forget(repository, second)

    health = repository.health(VM)
    assert listed(repository) == [first.id, third.id]
    assert repository.points(VM, with_forgotten=True) == [first, second, third]
    assert (health.points, health.forgotten) == ((first, third), (second,))
    assert not health.problem(third)
    assert repository.vms()[0].points == 2
    assert repository.chain(third) == [first, second, third]
    image, *_ = repository.images(third, third.disks[0])
    assert read_image(image, SIZE)[:1] == b"\3"


def test_a_forgotten_point_is_named_by_its_whole_id_only(repository: PointStore) -> None:
    _, second = make_points(repository, 2)
    forget(repository, second)

    assert repository.point(second.id.lower()) == second
    with pytest.raises(NotFoundError, match=f"that is not forgotten: write the whole id, {second.id}"):
        repository.point(second.id[:-1])


def test_a_forgotten_point_is_in_nobodys_way_when_a_beginning_is_written(repository: PointStore) -> None:
    first, second = make_points(repository, 2)
    beginning = first.id[:9]
    assert second.id.startswith(beginning)
    forget(repository, second)

    assert repository.point(beginning) == first


def test_the_newest_that_is_forgotten_is_not_the_newest_and_its_id_is_not_given_again(repository: PointStore) -> None:
    first, second = make_points(repository, 2)

    forget(repository, second)

    assert repository.newest(VM) == first
    assert repository.health_of_newest(VM).points == (first,)
    assert (repository.last_id(VM), repository.last_listed_id(VM)) == (second.id, first.id)
    third = capture(repository, ModelDisk(SIZE), [Write(0, 512, 9)])
    assert third.parent_id == first.id
    assert third.id > second.id
    image, *_ = repository.images(third, third.disks[0])
    assert read_image(image, SIZE)[:1] == b"\t"


def test_a_point_that_is_forgotten_while_a_capture_is_on_top_of_it_stays_its_parent(repository: PointStore) -> None:
    _, second = make_points(repository, 2)

    with repository.lock(VM) as lock:
        forget(repository, second)  # the lock of the VM is not in its way
        unfinished = repository.begin(lock, second)
        unfinished.abort()


def test_nothing_is_put_on_top_of_an_older_point_than_the_newest_that_is_listed(repository: PointStore) -> None:
    first, second, third = make_points(repository, 3)
    forget(repository, third)

    with pytest.raises(RepositoryError, match="is not the newest"), begin(repository, VM, first):
        pass
    with begin(repository, VM, second):
        pass


def test_all_points_may_be_forgotten_and_the_vm_is_still_known_by_its_name(repository: PointStore) -> None:
    points = make_points(repository, 2)

    forget(repository, *points)

    assert repository.newest(VM) is None
    assert repository.vms() == []
    assert repository.find_vm("db01").id == VM
    assert len(repository.health_of_newest(VM).forgotten) == 2


def test_a_damaged_point_that_is_forgotten_is_no_problem_of_a_list(repository: PointStore) -> None:
    first, second = make_points(repository, 2)
    forget(repository, second)

    (second.path / "point.json").write_text("damaged")

    health = repository.health(VM)
    assert (health.points, health.unreadable) == ((first,), {})
    assert health.newer_unreadable(VM) is None
    assert repository.damaged() == []


def test_what_is_forgotten_survives_the_catalog_and_a_copy(repository: PointStore, tmp_path: Path) -> None:
    first, second = make_points(repository, 2)
    forget(repository, first)

    (repository.path / "catalog.sqlite").unlink()
    copy = tmp_path / "a copy"
    repository.path.rename(copy)
    adopt(copy)

    assert listed(PointStore.open(copy)) == [second.id]


def test_a_repository_behind_a_link_is_the_same(repository: PointStore, tmp_path: Path) -> None:
    first, second = make_points(repository, 2)
    link = tmp_path / "a link"
    link.symlink_to(repository.path)

    forget(PointStore.open(link), first)

    assert listed(repository) == [second.id]
